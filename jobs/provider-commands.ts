import { createAgent, duplicateAgent } from "../routers/agents/create.ts";
import { realignAgent, recreateAgent } from "../routers/agents/drift.ts";
import { restoreAgent, updateAgent } from "../routers/agents/update.ts";
import { placeCall } from "../routers/calls/create/place.ts";
import type { AnyProviderCommand } from "../routers/core/provider-command.ts";
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

/** The provider command of an intent that was read from the database. */
export function providerCommandOf(kind: string): AnyProviderCommand {
  const found = all.find((command) => command.kind === kind);
  if (!found) throw new Error(`Unknown provider command: ${kind}.`);
  return found as AnyProviderCommand;
}
