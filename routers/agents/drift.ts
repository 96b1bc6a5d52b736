import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { inSeconds } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import type { Failure, ProviderCommand } from "../core/provider-command.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { namesOurVoice } from "./config.ts";
import { type Created, removeOrphan } from "./create.ts";
import { toolsOf } from "./references.ts";
import type { Agent } from "./schema.ts";
import { type AgentRow, getAgent, loadAgent, lockAgent, refuseBusy, versionOf } from "./service.ts";
import { lookForSent, openTemplate, type Sent, templateWithoutDeleted } from "./template.ts";
import { requiredOf } from "./variables.ts";
import { change, keepRequired, markVersion, rewriteUses } from "./versions/change.ts";

/**
 * The provider's copy of an agent can be changed or deleted there without us. We repair it by a provider command, with an
 * intent: no request changes the agent, or calls with it, while its state at the provider is uncertain.
 */

/** What was compared. If it has been changed or repaired since, the comparison no longer counts. */
export type Compared = { id: string; version: number; providerRevisionId: string | null };
type Found = Compared & { providerAgentId: string };

const dayInHours = 24;

/** The live version, to compare with the provider's copy; null if there is nothing to compare, or a change is under way. */
export async function agentToCompare(tx: Tx, id: string) {
  const { agent, config } = await loadAgent(tx, id);
  if (agent.status !== "active" || !agent.providerAgentId) return null;
  await keepRequired(tx, id, requiredOf(config, await toolsOf(tx, config)));
  const { providerRevisionId } = await versionOf(tx, id, agent.version);
  const { providerAccountId: accountId, providerAgentId, version } = agent;
  const template = await templateWithoutDeleted(tx, config);
  const { voice } = config;
  return { accountId, providerAgentId, version, providerRevisionId, withholdsVoice: namesOurVoice(voice), ...template };
}

/** Records a comparison. The next one is due in a day, or, with `again`, in an hour. */
export async function noteComparison(tx: Tx, id: string, { again = false } = {}) {
  const hours = again ? dayInHours - 1 : 0;
  await tx
    .update(agents)
    .set({ comparedAt: inSeconds(-hours * 3600) })
    .where(eq(agents.id, id));
}

/** Sends the live version again, to the provider's copy with our name. */
export const realignAgent: ProviderCommand<Found, Sent, ProviderAgent, Agent> = {
  kind: "agents.realign",
  status: 200,
  busyCode: "agent_busy",

  async prepare(tx, { id, providerAgentId, ...compared }) {
    const agent = await lockActive(tx, { id, ...compared });
    if (agent.providerAgentId !== providerAgentId) await change(tx, id, { providerAgentId });
    return { subjectId: id, providerAccountId: agent.providerAccountId, request: await repairRequest(tx, id) };
  },

  execute: send,
  onAccepted: recordRepair,
  onFailed: (tx, subjectId) => noteComparison(tx, subjectId, { again: true }),
  onUnknown: async () => {}, // the agent stays busy until the recovery job settles it
  read: getAgent,
  rebuildRequest: repairRequest,
  lookupRepeatsRequest: true,
  look: lookForSent,
  async lookup(providers, accountId, request, _since, deadline) {
    return [await send(providers, accountId, request, deadline)];
  },
};

/** Creates the agent again at the provider, which no longer has one with our name. Its id and versions here stay. */
export const recreateAgent: ProviderCommand<Compared, Created, ProviderAgent, Agent> = {
  kind: "agents.recreate",
  status: 200,
  busyCode: "agent_busy",

  async prepare(tx, compared) {
    const { id } = compared;
    const { providerAccountId } = await lockActive(tx, compared);
    return { subjectId: id, providerAccountId, request: await recreateRequest(tx, id) };
  },

  async execute({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  onAccepted: recordRepair,
  onFailed: recordFailure,
  onUnknown: async () => {},
  read: getAgent,
  rebuildRequest: recreateRequest,
  lookup: ({ ultravox }, accountId, { id }, _since, deadline) => ultravox.findAgents(accountId, id, deadline),
  onOrphan: removeOrphan,
};

async function send({ ultravox, vault }: Providers, accountId: string, request: Sent, deadline: Deadline) {
  const template = await openTemplate(vault, request.template);
  return ultravox.updateAgent(accountId, request.providerAgentId, template, deadline);
}

async function lockActive(tx: Tx, { id, version, providerRevisionId }: Compared): Promise<AgentRow> {
  const agent = await lockAgent(tx, id);
  if (agent.status !== "active")
    throw new ApiError("agent_not_active", `Agent ${id} is ${agent.status}. Only an active agent can be repaired.`);
  await refuseBusy(tx, id);
  const live = await versionOf(tx, id, agent.version);
  if (live.version !== version || live.providerRevisionId !== providerRevisionId) throw new ApiError("agent_busy");
  return agent;
}

async function repairRequest(tx: Tx, id: string): Promise<Sent> {
  const { agent, config } = await loadAgent(tx, id);
  const { providerRevisionId: liveRevisionId } = await versionOf(tx, id, agent.version);
  const template = await templateWithoutDeleted(tx, config);
  return { providerAgentId: agent.providerAgentId ?? "", template, liveRevisionId };
}

async function recreateRequest(tx: Tx, id: string): Promise<Created> {
  return { id, template: await templateWithoutDeleted(tx, (await loadAgent(tx, id)).config) };
}

async function recordRepair(tx: Tx, id: string, { providerAgentId, revisionId }: ProviderAgent): Promise<undefined> {
  const agent = await lockAgent(tx, id);
  await markVersion(tx, id, agent.version, { providerRevisionId: revisionId });
  await change(tx, id, { providerAgentId, drifts: agent.drifts + 1 });
  await rewriteUses(tx, id, (await loadAgent(tx, id)).config); // a tool may send another credential by now
  await noteComparison(tx, id);
}

/** Without an agent at the provider, no call can be placed. If the provider refuses to create it, the agent has failed. */
async function recordFailure(tx: Tx, id: string, { outcome, passing, message }: Failure) {
  if (outcome !== "refused" || passing) return noteComparison(tx, id, { again: true });
  const statusReason = `The voice provider no longer has this agent and refuses to create it again: ${message}`;
  await change(tx, id, { status: "failed", statusReason });
}
