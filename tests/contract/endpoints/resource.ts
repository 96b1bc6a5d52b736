import type { SeededClient } from "../../../dev/seed.ts";
import type { Scope } from "../../../routers/core/scopes.ts";
import type { House } from "../../support/app.ts";

/** What one client has, by kind: ids for inputs that name them. */
export type Things = Record<string, string>;
export type Input = Record<string, unknown>;

/** Everything that an input or a set-up may need. `make` gives a client what one noun's inputs name. */
export type Ground = { h: House; who: SeededClient; own: Things };

/** What the walk over every procedure must know of one noun. */
export type Noun = {
  /** Gives a client the things that the inputs name. Called for both clients, in the order of the nouns. */
  furnish?(ground: Ground): Promise<Things>;
  /**
   * One good input per procedure, with every field that there is; it is asked anew for every request, so that it may
   * make what the request will use up. `cursor: ""` stands for a page that was asked for before.
   */
  inputs: Record<string, (ground: Ground) => Input | Promise<Input>>;
  /** Fields that are good only on a ground which the walk does not have: the noun's own test sends them. */
  elsewhere?: Record<string, readonly string[]>;
  /** Scopes beside the door's own: of what the input hands on, which one must have oneself. */
  needs?: Record<string, readonly Scope[]>;
};

export const page = { limit: 5, cursor: "" };
