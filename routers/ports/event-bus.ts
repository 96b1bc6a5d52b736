import type { Deadline } from "./provider-error.ts";

/** An event to publish to an external bus. */
export type BusEntry = {
  type: string;
  at: Date;
  /** JSON. */
  detail: string;
  /** The same without its data, for an event that is larger than the bus accepts. */
  thin(): string;
};

/** `refused`: this entry will never be accepted. `failed`: retry it later; `isLasting`: only after a longer pause. */
export type BusVerdict =
  | { is: "accepted" }
  | { is: "refused"; why: string }
  | { is: "failed"; why: string; isLasting: boolean };

/** Publishes the installation's events to systems of its owner. */
export type EventBus = {
  name: string;
  /** Returns a verdict for each entry, in order. Retries failed entries until the deadline; never throws. */
  publish(entries: readonly BusEntry[], deadline: Deadline): Promise<BusVerdict[]>;
};
