import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { ApiError } from "../core/errors.ts";
import type { Failure, ProviderCommand } from "../core/provider-command.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { namesOurVoice } from "./config.ts";
import { type Created, removeStray } from "./create.ts";
import { toolsOf } from "./references.ts";
import type { Agent } from "./schema.ts";
import { type AgentRow, getAgent, loadAgent, lockAgent, refuseBusy, versionOf } from "./service.ts";
import { lookForSent, openTemplate, type Sent, templateWithoutDeleted } from "./template.ts";
import { requiredOf } from "./variables.ts";
import { change, keepRequired, markVersion, rewriteUses } from "./versions/change.ts";

/**
 * The provider's copy of an agent can be changed there, or go, without us. It is put right as anything else is asked of the
 * provider: behind an intent, so that nobody changes the agent, or calls with it, while nobody knows which of the two it is.
 */

/** What was compared: should it have been changed since, or put right by somebody else, the comparison is worth nothing. */
export type Compared = { id: string; version: number; providerRevisionId: string | null };
type Found = Compared & { providerAgentId: string };

const dayInHours = 24;

/** What is live, to be held against the provider's copy; null when there is nothing to compare, or it is being changed. */
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

/** It was looked at, and needs no looking at for a day; or, where that failed, for an hour. */
export async function noteComparison(tx: Tx, id: string, { again = false } = {}) {
  const hours = again ? dayInHours - 1 : 0;
  await tx
    .update(agents)
    .set({ comparedAt: sql`clock_timestamp() - make_interval(hours => ${hours})` as unknown as Date })
    .where(eq(agents.id, id));
}

/** Sends what is live once more: to the copy that is there, which is ours by its name. */
export const realignAgent: ProviderCommand<Found, Sent, ProviderAgent, Agent> = {
  kind: "agents.realign",
  status: 200,
  busyCode: "agent_busy",

  async prepare(tx, { id, providerAgentId, ...compared }) {
    const agent = await lockActive(tx, { id, ...compared });
    if (agent.providerAgentId !== providerAgentId) await change(tx, id, { providerAgentId });
    return { subjectId: id, providerAccountId: agent.providerAccountId, asked: await standing(tx, id) };
  },

  execute: send,
  onAccepted: putRight,
  onFailed: (tx, subjectId) => noteComparison(tx, subjectId, { again: true }),
  onUnknown: async () => {}, // the agent stays busy until the safety job knows
  read: getAgent,
  rebuildRequest: standing,
  lookupRepeatsRequest: true,
  look: lookForSent,
  async lookup(providers, accountId, asked, _since, deadline) {
    return [await send(providers, accountId, asked, deadline)];
  },
};

/** Makes the agent anew at the provider, which has none of our name any more. Its id here, and its versions, stay. */
export const recreateAgent: ProviderCommand<Compared, Created, ProviderAgent, Agent> = {
  kind: "agents.recreate",
  status: 200,
  busyCode: "agent_busy",

  async prepare(tx, compared) {
    const { id } = compared;
    const { providerAccountId } = await lockActive(tx, compared);
    return { subjectId: id, providerAccountId, asked: await recreating(tx, id) };
  },

  async execute({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  onAccepted: putRight,
  onFailed: giveUp,
  onUnknown: async () => {},
  read: getAgent,
  rebuildRequest: recreating,
  lookup: ({ ultravox }, accountId, { id }, _since, deadline) => ultravox.findAgents(accountId, id, deadline),
  onOrphan: removeStray,
};

async function send({ ultravox, vault }: Providers, accountId: string, asked: Sent, deadline: Deadline) {
  const template = await openTemplate(vault, asked.template);
  return ultravox.updateAgent(accountId, asked.providerAgentId, template, deadline);
}

async function lockActive(tx: Tx, { id, version, providerRevisionId }: Compared): Promise<AgentRow> {
  const agent = await lockAgent(tx, id);
  if (agent.status !== "active") throw new ApiError("agent_not_active", `Agent ${id} is ${agent.status}.`);
  await refuseBusy(tx, id);
  const live = await versionOf(tx, id, agent.version);
  if (live.version !== version || live.providerRevisionId !== providerRevisionId) throw new ApiError("agent_busy");
  return agent;
}

async function standing(tx: Tx, id: string): Promise<Sent> {
  const { agent, config } = await loadAgent(tx, id);
  const { providerRevisionId: liveRevisionId } = await versionOf(tx, id, agent.version);
  const template = await templateWithoutDeleted(tx, config);
  return { providerAgentId: agent.providerAgentId ?? "", template, liveRevisionId };
}

async function recreating(tx: Tx, id: string): Promise<Created> {
  return { id, template: await templateWithoutDeleted(tx, (await loadAgent(tx, id)).config) };
}

async function putRight(tx: Tx, id: string, { providerAgentId, revisionId }: ProviderAgent) {
  const agent = await lockAgent(tx, id);
  await markVersion(tx, id, agent.version, { providerRevisionId: revisionId });
  await change(tx, id, { providerAgentId, drifts: agent.drifts + 1 });
  await rewriteUses(tx, id, (await loadAgent(tx, id)).config); // a tool may show another credential by now
  await noteComparison(tx, id);
}

/** Without an agent at the provider no call can be placed. One that it refuses to make will not come back by itself. */
async function giveUp(tx: Tx, id: string, { outcome, passing, message }: Failure) {
  if (outcome !== "refused" || passing) return noteComparison(tx, id, { again: true });
  const statusReason = `It is gone at the voice provider, which refuses to make it anew: ${message}`;
  await change(tx, id, { status: "failed", statusReason });
}
