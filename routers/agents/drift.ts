import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { Fault } from "../fault.ts";
import type { Failure, Outbound } from "../intents/outbound.ts";
import type { Deadline } from "../providers/provider.ts";
import type { ProviderAgent } from "../providers/ultravox.ts";
import type { Providers } from "../providers.ts";
import { namesOurVoice } from "./config.ts";
import { type Created, removeStray } from "./publish.ts";
import { toolsOf } from "./references.ts";
import type { Agent } from "./schema.ts";
import { type AgentRow, getAgent, lockAgent, refuseBusy, shownAgent, versionOf } from "./service.ts";
import { lookForSent, openTemplate, type Sent, standingTemplate } from "./template.ts";
import { requiredOf } from "./variables.ts";
import { change, keepRequired, markVersion, rewriteUses } from "./version.ts";

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
  const { agent, config } = await shownAgent(tx, id);
  if (agent.state !== "active" || !agent.providerAgentId) return null;
  await keepRequired(tx, id, requiredOf(config, await toolsOf(tx, config)));
  const { providerRevisionId } = await versionOf(tx, id, agent.version);
  const { providerAccountId: accountId, providerAgentId, version } = agent;
  const template = await standingTemplate(tx, config);
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
export const realignAgent: Outbound<Found, Sent, ProviderAgent, Agent> = {
  kind: "agents.realign",
  status: 200,
  busy: "agent_busy",

  async intend(tx, { id, providerAgentId, ...compared }) {
    const agent = await lockActive(tx, { id, ...compared });
    if (agent.providerAgentId !== providerAgentId) await change(tx, id, { providerAgentId });
    return { subjectId: id, providerAccountId: agent.providerAccountId, asked: await standing(tx, id) };
  },

  ask: send,
  accepted: putRight,
  failed: (tx, subjectId) => noteComparison(tx, subjectId, { again: true }),
  lost: async () => {}, // the agent stays busy until the safety job knows
  read: getAgent,
  recall: standing,
  findAsksAgain: true,
  look: lookForSent,
  async find(providers, accountId, asked, _since, deadline) {
    return [await send(providers, accountId, asked, deadline)];
  },
};

/** Makes the agent anew at the provider, which has none of our name any more. Its id here, and its versions, stay. */
export const recreateAgent: Outbound<Compared, Created, ProviderAgent, Agent> = {
  kind: "agents.recreate",
  status: 200,
  busy: "agent_busy",

  async intend(tx, compared) {
    const { id } = compared;
    const { providerAccountId } = await lockActive(tx, compared);
    return { subjectId: id, providerAccountId, asked: await recreating(tx, id) };
  },

  async ask({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  accepted: putRight,
  failed: giveUp,
  lost: async () => {},
  read: getAgent,
  recall: recreating,
  find: ({ ultravox }, accountId, { id }, _since, deadline) => ultravox.findAgents(accountId, id, deadline),
  stray: removeStray,
};

async function send({ ultravox, vault }: Providers, accountId: string, asked: Sent, deadline: Deadline) {
  const template = await openTemplate(vault, asked.template);
  return ultravox.updateAgent(accountId, asked.providerAgentId, template, deadline);
}

async function lockActive(tx: Tx, { id, version, providerRevisionId }: Compared): Promise<AgentRow> {
  const agent = await lockAgent(tx, id);
  if (agent.state !== "active") throw new Fault("agent_not_active", `Agent ${id} is ${agent.state}.`);
  await refuseBusy(tx, id);
  const live = await versionOf(tx, id, agent.version);
  if (live.version !== version || live.providerRevisionId !== providerRevisionId) throw new Fault("agent_busy");
  return agent;
}

async function standing(tx: Tx, id: string): Promise<Sent> {
  const { agent, config } = await shownAgent(tx, id);
  const { providerRevisionId: liveRevisionId } = await versionOf(tx, id, agent.version);
  const template = await standingTemplate(tx, config);
  return { providerAgentId: agent.providerAgentId ?? "", template, liveRevisionId };
}

async function recreating(tx: Tx, id: string): Promise<Created> {
  return { id, template: await standingTemplate(tx, (await shownAgent(tx, id)).config) };
}

async function putRight(tx: Tx, id: string, { providerAgentId, revisionId }: ProviderAgent) {
  const agent = await lockAgent(tx, id);
  await markVersion(tx, id, agent.version, { providerRevisionId: revisionId });
  await change(tx, id, { providerAgentId, drifts: agent.drifts + 1 });
  await rewriteUses(tx, id, (await shownAgent(tx, id)).config); // a tool may show another credential by now
  await noteComparison(tx, id);
}

/** Without an agent at the provider no call can be placed. One that it refuses to make will not come back by itself. */
async function giveUp(tx: Tx, id: string, { outcome, passing, message }: Failure) {
  if (outcome !== "refused" || passing) return noteComparison(tx, id, { again: true });
  const stateReason = `It is gone at the voice provider, which refuses to make it anew: ${message}`;
  await change(tx, id, { state: "failed", stateReason });
}
