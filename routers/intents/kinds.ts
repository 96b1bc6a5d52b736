import { realignAgent, recreateAgent } from "../agents/drift.ts";
import { createAgent, duplicateAgent } from "../agents/publish.ts";
import { restoreAgent, updateAgent } from "../agents/revise.ts";
import { placeCall } from "../calls/place.ts";
import { createKnowledgeBase } from "../knowledge/create.ts";
import { createRegistration } from "../telephony/registrations.ts";
import { createTool, updateTool } from "../tools/publish.ts";
import type { Outbound } from "./outbound.ts";

const all = [
  placeCall,
  createAgent,
  duplicateAgent,
  updateAgent,
  restoreAgent,
  realignAgent,
  recreateAgent,
  createKnowledgeBase,
  createRegistration,
  createTool,
  updateTool,
] as const;

/** What goes in and out of a kind fits together within the kind; by name alone, that is all that can be said. */
export type AnyOutbound = Outbound<never, never, never, unknown>;

/** The outbound of this name: whoever finds an intent in the database needs it. */
export function outboundOf(kind: string): AnyOutbound {
  const found = all.find((outbound) => outbound.kind === kind);
  if (!found) throw new Error(`No outbound is called ${kind}.`);
  return found as AnyOutbound;
}
