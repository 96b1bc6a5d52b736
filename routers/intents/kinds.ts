import { createAgent, updateAgent } from "../agents/publish.ts";
import { placeCall } from "../calls/place.ts";
import type { Outbound } from "./outbound.ts";

const all = [placeCall, createAgent, updateAgent] as const;

/** What goes in and out of a kind fits together within the kind; by name alone, that is all that can be said. */
export type AnyOutbound = Outbound<never, never, never, unknown>;

/** The outbound of this name: whoever finds an intent in the database needs it. */
export function outboundOf(kind: string): AnyOutbound {
  const found = all.find((outbound) => outbound.kind === kind);
  if (!found) throw new Error(`No outbound is called ${kind}.`);
  return found as AnyOutbound;
}
