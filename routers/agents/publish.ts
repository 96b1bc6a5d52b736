import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { agents, agentVersions, intents } from "../../db/schema/agents.ts";
import { Fault } from "../fault.ts";
import type { Outbound } from "../intents/outbound.ts";
import type { AgentTemplate, ProviderAgent } from "../providers.ts";
import { type Agent, AgentConfig, type CreateAgent, type UpdateAgent } from "./schema.ts";
import { type AgentRow, agentNotFound, getAgent, templateOf } from "./service.ts";

const platformAccount = "pacc_platform";

type Created = { id: string; template: AgentTemplate };
type Updated = { providerAgentId: string; template: AgentTemplate };

/** Makes an agent here and at the provider, where its name is our id. */
export const createAgent: Outbound<CreateAgent, Created, ProviderAgent, Agent> = {
  kind: "agents.create",
  status: 201,

  async intend(tx, { name, ...config }, { actor }) {
    const id = newId("agent");
    await tx.insert(agents).values({ id, name, state: "provisioning", providerAccountId: platformAccount });
    await tx
      .insert(agentVersions)
      .values({ agentId: id, version: 1, name, config, state: "pending", createdBy: actor });
    return { subjectId: id, providerAccountId: platformAccount, asked: { id, template: templateOf(config) } };
  },

  ask: ({ ultravox }, accountId, asked, deadline) => ultravox.createAgent(accountId, asked, deadline),

  async accepted(tx, subjectId, got) {
    await goLive(tx, subjectId, 1, got);
    await say(tx, "agent.created", subjectId);
  },

  async failed(tx, subjectId, { message }) {
    await change(tx, subjectId, { state: "failed", stateReason: message });
    await markVersion(tx, subjectId, 1, { state: "failed" });
  },

  lost: async () => {}, // it stays `provisioning` until the safety job knows
  read: getAgent,

  async recall(tx, subjectId) {
    return { id: subjectId, template: templateOf(AgentConfig.parse((await pendingVersion(tx, subjectId)).config)) };
  },

  find: ({ ultravox }, accountId, asked, _since, deadline) => ultravox.findAgents(accountId, asked.id, deadline),
};

/** Changes an agent: a new version, live once the provider has it. */
export const updateAgent: Outbound<UpdateAgent, Updated, ProviderAgent, Agent> = {
  kind: "agents.update",
  status: 200,

  async intend(tx, { id, ...changes }, { actor }) {
    const agent = await lockAgent(tx, id);
    if (agent.state !== "active" || !agent.providerAgentId) {
      throw new Fault("agent_not_active", `Agent ${id} is ${agent.state}; only an active one can be changed.`);
    }
    await refuseBusy(tx, id);
    const { name, ...old } = await getAgent(tx, id);
    const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
    const next = { name, ...AgentConfig.parse(old), ...given };
    const { name: nextName, ...config } = next;
    const version = (await newestVersion(tx, id)) + 1;
    await tx
      .insert(agentVersions)
      .values({ agentId: id, version, name: nextName, config, state: "pending", createdBy: actor });
    const asked = { providerAgentId: agent.providerAgentId, template: templateOf(AgentConfig.parse(config)) };
    return { subjectId: id, providerAccountId: agent.providerAccountId, asked };
  },

  ask: ({ ultravox }, accountId, { providerAgentId, template }, deadline) =>
    ultravox.updateAgent(accountId, providerAgentId, template, deadline),

  async accepted(tx, subjectId, got) {
    const { version } = await pendingVersion(tx, subjectId);
    await goLive(tx, subjectId, version, got);
    await say(tx, "agent.updated", subjectId);
  },

  async failed(tx, subjectId) {
    const { version } = await pendingVersion(tx, subjectId);
    await markVersion(tx, subjectId, version, { state: "failed" });
  },

  lost: async () => {}, // the version stays pending, and the agent busy, until the safety job knows
  read: getAgent,

  async recall(tx, subjectId) {
    const agent = await lockAgent(tx, subjectId);
    const { config } = await pendingVersion(tx, subjectId);
    return { providerAgentId: agent.providerAgentId ?? "", template: templateOf(AgentConfig.parse(config)) };
  },

  findAsksAgain: true,
  /** The whole template is sent, so asking again is harmless, and surer than comparing. */
  async find({ ultravox }, accountId, { providerAgentId, template }, _since, deadline) {
    return [await ultravox.updateAgent(accountId, providerAgentId, template, deadline)];
  },
};

async function goLive(tx: Tx, id: string, version: number, { providerAgentId, revisionId }: ProviderAgent) {
  const agent = await lockAgent(tx, id);
  if (agent.version > 0) await markVersion(tx, id, agent.version, { state: "retired" });
  const { name } = await markVersion(tx, id, version, { state: "live", providerRevisionId: revisionId });
  await change(tx, id, { state: "active", stateReason: null, version, name, providerAgentId });
}

async function lockAgent(tx: Tx, id: string): Promise<AgentRow> {
  const [agent] = await tx.select().from(agents).where(eq(agents.id, id)).for("update");
  if (!agent || agent.state === "deleted") throw agentNotFound(id);
  return agent;
}

/**
 * Looks, and waits for nobody: who settles a change locks its intent first and the agent after, so that a second one
 * which held the agent and waited for that intent would hold both up for ever.
 */
async function refuseBusy(tx: Tx, agentId: string) {
  const [open] = await tx
    .select({ id: intents.id })
    .from(intents)
    .where(and(eq(intents.subjectId, agentId), eq(intents.state, "open")));
  if (open) throw new Fault("agent_busy", undefined, { retryAfterSeconds: 1 });
}

async function pendingVersion(tx: Tx, agentId: string) {
  const [version] = await tx
    .select()
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.state, "pending")));
  if (!version) throw new Error(`Agent ${agentId} has no version under way.`);
  return version;
}

async function newestVersion(tx: Tx, agentId: string): Promise<number> {
  const [row] = await tx
    .select({ newest: sql<number>`max(${agentVersions.version})` })
    .from(agentVersions)
    .where(eq(agentVersions.agentId, agentId));
  return Number(row?.newest ?? 0);
}

async function markVersion(tx: Tx, agentId: string, version: number, set: Partial<typeof agentVersions.$inferInsert>) {
  const [row] = await tx
    .update(agentVersions)
    .set(set)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.version, version)))
    .returning();
  return row!;
}

async function change(tx: Tx, id: string, set: Partial<typeof agents.$inferInsert>) {
  await tx
    .update(agents)
    .set({ ...set, updatedAt: sql`clock_timestamp()` as unknown as Date })
    .where(eq(agents.id, id));
}

async function say(tx: Tx, type: "agent.created" | "agent.updated", id: string) {
  const { name, state, version } = await getAgent(tx, id);
  await emit(tx, type, id, { id, name, state, version });
}
