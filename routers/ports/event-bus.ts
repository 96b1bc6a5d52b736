import type { Deadline } from "./provider-error.ts";

/** An event on its way to a bus outside. */
export type BusEntry = {
  type: string;
  at: Date;
  /** JSON. */
  detail: string;
  /** The same without its data, for one that is larger than the bus takes. */
  thin(): string;
};

/** `refused`: this entry, for good. `failed`: not now; `isLasting`: nor at once again. */
export type BusVerdict =
  | { is: "accepted" }
  | { is: "refused"; why: string }
  | { is: "failed"; why: string; isLasting: boolean };

/** Where the installation's events are told to systems of its owner. */
export type EventBus = {
  name: string;
  /** What became of each, in order. Repeats those that failed until the deadline; never throws. */
  publish(entries: readonly BusEntry[], deadline: Deadline): Promise<BusVerdict[]>;
};
