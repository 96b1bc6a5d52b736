import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents, agentVersions, intents } from "../../db/schema/agents.ts";
import { Fault } from "../fault.ts";
import { type ListKey, readCursor, toPage } from "../page.ts";
import type { AgentTemplate } from "../providers.ts";
import { wire } from "../words.ts";
import { type Agent, AgentConfig, type ListAgents } from "./schema.ts";

export type AgentRow = typeof agents.$inferSelect;
type Shown = { agent: AgentRow; config: unknown };

export const agentNotFound = (id: string) => new Fault("agent_not_found", `There is no agent ${id}.`);

/** The version that is shown: the live one, or the first while it is being made. */
const shown = and(
  eq(agentVersions.clientId, agents.clientId),
  eq(agentVersions.agentId, agents.id),
  sql`${agentVersions.version} = greatest(${agents.version}, 1)`,
);

export async function getAgent(tx: Tx, id: string): Promise<Agent> {
  const [found] = await tx
    .select({ agent: agents, config: agentVersions.config })
    .from(agents)
    .innerJoin(agentVersions, shown)
    .where(and(eq(agents.id, id), ne(agents.state, "deleted")));
  if (!found) throw agentNotFound(id);
  return onTheWire(found);
}

export async function listAgents(tx: Tx, { limit, cursor, state }: ListAgents, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select({ agent: agents, config: agentVersions.config })
    .from(agents)
    .innerJoin(agentVersions, shown)
    .where(
      and(
        before === null ? undefined : lt(agents.id, before),
        state ? eq(agents.state, state) : ne(agents.state, "deleted"),
      ),
    )
    .orderBy(desc(agents.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/** One agent in one statement, for the hottest door; the text is constant and $4 the id. */
export const hotAgent = `
  select a.id, a.name, a.state, a.state_reason, a.version, v.config,
         a.created_at, a.updated_at
  from agents a
  join agent_versions v on v.client_id = a.client_id and v.agent_id = a.id and v.version = greatest(a.version, 1)
  where a.id = $4 and a.state <> 'deleted'`;

/** A row of `hotAgent`, as the driver gives it: timestamps are text. */
export function fromHotRow(row: Record<string, unknown>): Agent {
  const { id, name, state, state_reason, version, config, created_at, updated_at } = row as HotRow;
  const instant = (text: string) => new Date(text).toISOString();
  return {
    id,
    name,
    ...config,
    state,
    stateReason: state_reason,
    version,
    createdAt: instant(created_at),
    updatedAt: instant(updated_at),
  };
}

type HotRow = {
  id: string;
  name: string;
  state: Agent["state"];
  state_reason: string | null;
  version: number;
  config: AgentConfig;
  created_at: string;
  updated_at: string;
};

/** The agent that a new call uses: active, and not being changed at the provider at this moment. */
export async function agentForCall(tx: Tx, id: string): Promise<{ agent: AgentRow; config: AgentConfig }> {
  const [found] = await tx
    .select({ agent: agents, config: agentVersions.config, busy: intents.id })
    .from(agents)
    .innerJoin(agentVersions, shown)
    .leftJoin(
      intents,
      and(eq(intents.clientId, agents.clientId), eq(intents.subjectId, agents.id), eq(intents.state, "open")),
    )
    .where(and(eq(agents.id, id), ne(agents.state, "deleted")));
  if (!found) throw agentNotFound(id);
  if (found.agent.state !== "active") throw new Fault("agent_not_active", `Agent ${id} is ${found.agent.state}.`);
  if (found.busy) throw new Fault("agent_busy", undefined, { retryAfterSeconds: 1 });
  return { agent: found.agent, config: AgentConfig.parse(found.config) };
}

export function templateOf(config: AgentConfig): AgentTemplate {
  return { ...config };
}

function onTheWire({ agent, config }: Shown): Agent {
  return {
    id: agent.id,
    name: agent.name,
    ...AgentConfig.parse(config),
    state: agent.state,
    stateReason: agent.stateReason,
    version: agent.version,
    createdAt: wire(agent.createdAt),
    updatedAt: wire(agent.updatedAt),
  };
}
