import { createAgent, duplicateAgent } from "../routers/agents/create.ts";
import { realignAgent, recreateAgent } from "../routers/agents/drift.ts";
import { restoreAgent, updateAgent } from "../routers/agents/update.ts";
import { placeCall } from "../routers/calls/create/place.ts";
import type { ProviderCommand } from "../routers/core/provider-command.ts";
import { createKnowledgeBase } from "../routers/knowledge/create.ts";
import { createRegistration } from "../routers/telephony/registrations.ts";
import { createTool, updateTool } from "../routers/tools/create-and-update.ts";

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
export type AnyProviderCommand = ProviderCommand<never, never, never, unknown>;

/** The outbound of this name: whoever finds an intent in the database needs it. */
export function providerCommandOf(kind: string): AnyProviderCommand {
  const found = all.find((outbound) => outbound.kind === kind);
  if (!found) throw new Error(`No outbound is called ${kind}.`);
  return found as AnyProviderCommand;
}
