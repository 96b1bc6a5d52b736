import type { SeededClient } from "../../../dev/seed.ts";
import type { Scope } from "../../../routers/core/scopes.ts";
import type { TestApp } from "../../support/app.ts";

/** The ids of one client's resources, by kind, for inputs that refer to them. */
export type ResourceIds = Record<string, string>;
export type Input = Record<string, unknown>;

/** What an input or a set-up may need. `make` creates the resources that the inputs of one module refer to. */
export type Setup = { h: TestApp; who: SeededClient; own: ResourceIds };

/** What the test of all procedures needs to know about one module. */
export type ModuleInputs = {
  /** Creates the resources that the inputs refer to. Called for both clients, in the order of the modules. */
  createResources?(setup: Setup): Promise<ResourceIds>;
  /**
   * One valid input per procedure, with every field. Called for each request, so that it can create what the request uses
   * up. `cursor: ""` is replaced by the cursor of an earlier page.
   */
  inputs: Record<string, (setup: Setup) => Input | Promise<Input>>;
  /** Fields that need a set-up which this test does not have. The module's own test sends them. */
  elsewhere?: Record<string, readonly string[]>;
  /** Scopes beside the procedure's own: those that the input grants, which the caller must have. */
  needs?: Record<string, readonly Scope[]>;
};

export const page = { limit: 5, cursor: "" };
