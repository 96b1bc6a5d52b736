import { and, desc, eq, exists, lt, ne, type Placeholder, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { type Given, hotRead, pages, prepared, type Wire } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentUses, agentVersions, intents } from "../../db/schema/agents.ts";
import { knowledgeBases } from "../../db/schema/knowledge.ts";
import { inboundRoutes } from "../../db/schema/telephony.ts";
import { tools } from "../../db/schema/tools.ts";
import { voices } from "../../db/schema/voices.ts";
import { statement } from "../../db/statement.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError, type ErrorDetail } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import {
  containsText,
  createdValues,
  createdWithin,
  hasMetadata,
  type MetadataValues,
  metadataValues,
} from "../core/list-filters.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { projectionOf } from "../core/projection.ts";
import { type Agent, AgentConfig, type ListAgents, type RemoveAgent } from "./schema.ts";

export type AgentRow = typeof agents.$inferSelect;
type Shown = Wire<{ agent: AgentRow; config: unknown }>;

export const agentNotFound = (id: string) => new ApiError("agent_not_found", `There is no agent ${id}.`);
export const busy = () => new ApiError("agent_busy", undefined, { retryAfterSeconds: 1 });

/** The version that responses show: the live one, or the first while it is being created. */
const isShownVersion = and(
  eq(agentVersions.clientId, agents.clientId),
  eq(agentVersions.agentId, agents.id),
  sql`${agentVersions.version} = greatest(${agents.version}, 1)`,
);

/** Agents with the config of their shown version, ready for `toAgent`. */
const shownAgents = (db: Tx) =>
  db
    .select({ agent: agents, config: agentVersions.config })
    .from(agents)
    .innerJoin(agentVersions, isShownVersion)
    .$dynamic();

const shownAgent = (db: Tx) =>
  shownAgents(db).where(and(eq(agents.id, sql.placeholder("id")), ne(agents.status, "deleted")));

const agentById = prepared(shownAgent);
const hotAgentById = hotRead(shownAgent);

/** An agent with the config of its shown version. */
export async function loadAgent(tx: Tx, id: string): Promise<{ agent: AgentRow; config: AgentConfig }> {
  const [found] = await agentById(tx, { id });
  if (!found) throw agentNotFound(id);
  return { agent: found.agent, config: AgentConfig.parse(found.config) };
}

export async function getAgent(tx: Tx, id: string): Promise<Agent> {
  const [found] = await hotAgentById(tx, { id });
  if (!found) throw agentNotFound(id);
  return toAgent(found);
}

export async function listAgents(tx: Tx, { limit, cursor, ...filters }: ListAgents, key: ListKey) {
  const before = readCursor(key, cursor);
  await requireFilterTargets(tx, filters);
  const rows = await agentPages(tx, {
    ...{ before, limit: limit + 1, status: filters.status, search: filters.search },
    ...{ voiceId: filters.voiceId, toolId: filters.toolId, knowledgeBaseId: filters.knowledgeBaseId },
    ...createdValues(filters),
    ...metadataValues(filters.metadata),
  });
  return toPage(key, rows.map(toAgent), limit, ({ id }) => id);
}

type AgentFilters = keyof Omit<ListAgents, "cursor" | "limit" | "metadata"> | MetadataValues;

const agentPages = pages((db, given: Given<AgentFilters>) =>
  shownAgents(db)
    .where(
      and(
        given.before && lt(agents.id, given.before),
        given.status ? eq(agents.status, given.status) : ne(agents.status, "deleted"),
        containsText(agents.name, given.search),
        createdWithin(agents.createdAt, given),
        given.voiceId && uses(db, "voice", given.voiceId),
        given.toolId && uses(db, "tool", given.toolId),
        given.knowledgeBaseId && uses(db, "knowledge_base", given.knowledgeBaseId),
        hasMetadata(agents.metadata, given),
      ),
    )
    .orderBy(desc(agents.id))
    .limit(sql.placeholder("limit")),
);

function uses(db: Tx, kind: (typeof agentUses.$inferSelect)["kind"], targetId: Placeholder): SQL {
  return exists(
    db
      .select({ one: sql`1` })
      .from(agentUses)
      .where(
        and(
          eq(agentUses.clientId, agents.clientId),
          eq(agentUses.kind, kind),
          eq(agentUses.targetId, targetId),
          eq(agentUses.agentId, agents.id),
        ),
      ),
  );
}

/** A filter by another client's voice returns 404, not an empty list. */
async function requireFilterTargets(tx: Tx, { voiceId, toolId, knowledgeBaseId }: Omit<ListAgents, "limit">) {
  const wanted = [
    [voiceId, voices, "voice_not_found", "voice"],
    [toolId, tools, "tool_not_found", "tool"],
    [knowledgeBaseId, knowledgeBases, "knowledge_base_not_found", "knowledge base"],
  ] as const;
  for (const [id, table, code, resource] of wanted) {
    if (!id) continue;
    const [found] = await tx.select({ id: table.id }).from(table).where(eq(table.id, id));
    if (!found) throw new ApiError(code, `There is no ${resource} ${id}.`);
  }
}

// As a parameter, the status would not match the partial index, and Postgres would plan this query each time.
const isOpen = sql`${intents.status} = 'open'`;

const findForCall = prepared((db) =>
  db
    .select({ agent: agents, config: agentVersions.config, busy: intents.id })
    .from(agents)
    .innerJoin(agentVersions, isShownVersion)
    .leftJoin(intents, and(eq(intents.clientId, agents.clientId), eq(intents.subjectId, agents.id), isOpen))
    .where(and(eq(agents.id, sql.placeholder("id")), ne(agents.status, "deleted"))),
);

/**
 * The agent that a new call uses: active, and with no change at the provider under way. For a version other than the live
 * one, returns the config of that version: `resolveTemplate` then places the call without the provider's agent.
 */
export async function agentForCall(
  tx: Tx,
  id: string,
  { version }: { version?: number | undefined } = {},
): Promise<{ agent: AgentRow; config: AgentConfig; version: number }> {
  const [found] = await findForCall(tx, { id });
  if (!found) throw agentNotFound(id);
  const { agent } = found;
  if (agent.status !== "active")
    throw new ApiError("agent_not_active", `Agent ${id} is ${agent.status}. Only an active agent takes calls.`);
  if (found.busy) throw busy();
  if (version === undefined || version === agent.version) {
    return { agent, config: AgentConfig.parse(found.config), version: agent.version };
  }
  const pinned = await getLiveOrRetiredVersion(tx, id, version);
  return { agent, config: AgentConfig.parse(pinned.config), version };
}

/** One version of an agent, in any status. */
export async function versionOf(tx: Tx, agentId: string, version: number) {
  const [row] = await tx
    .select()
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.version, version)));
  if (!row) throw new ApiError("agent_version_not_found", `Agent ${agentId} has no version ${version}.`);
  return row;
}

/** A version that is or was live. Throws `agent_version_not_live` for any other. */
export async function getLiveOrRetiredVersion(tx: Tx, agentId: string, version: number) {
  const row = await versionOf(tx, agentId, version);
  if (row.status === "live" || row.status === "retired") return row;
  throw new ApiError(
    "agent_version_not_live",
    `Version ${version} of agent ${agentId} is ${row.status}: it never went live. Choose a version that did.`,
  );
}

const readForUpdate = prepared((db) =>
  db
    .select()
    .from(agents)
    .where(eq(agents.id, sql.placeholder("id")))
    .for("update"),
);

/** Locks an agent. Every change of an agent begins here. */
export async function lockAgent(tx: Tx, id: string): Promise<AgentRow> {
  const [agent] = await readForUpdate(tx, { id });
  if (!agent || agent.status === "deleted") throw agentNotFound(id);
  return agent;
}

/**
 * Reads without a lock. The code that settles a change locks its intent first and the agent second: a request that held
 * the agent and waited for that intent would deadlock.
 */
export async function refuseBusy(tx: Tx, agentId: string) {
  const [open] = await tx
    .select({ id: intents.id })
    .from(intents)
    .where(and(eq(intents.subjectId, agentId), eq(intents.status, "open")));
  if (open) throw busy();
}

type StandingRow = { is_busy: boolean; newest: number | null; live_revision_id: string | null };

const readStanding = statement<StandingRow>(`
  select exists (select from intents where subject_id = $1 and status = 'open') as is_busy,
    (select max(version) from agent_versions where agent_id = $1) as newest,
    (select v.provider_revision_id from agents a
      join agent_versions v on v.client_id = a.client_id and v.agent_id = a.id and v.version = a.version
      where a.id = $1) as live_revision_id`);

/** What a change of a locked agent depends on. Send it after the lock, without waiting for it. */
export async function standingOf(tx: Tx, id: string) {
  const [row] = await readStanding(tx, [id]);
  const { is_busy: isBusy, newest, live_revision_id: liveRevisionId } = row!;
  return { isBusy, newestVersion: newest ?? 0, liveRevisionId };
}

/** Deletes an agent. Active calls continue from the provider's own copy. Past calls are kept. */
export async function removeAgent(tx: Tx, { id, force }: RemoveAgent) {
  const agent = await lockAgent(tx, id);
  await refuseBusy(tx, id);
  if (!force) await refuseRouted(tx, id);
  await tx.update(agents).set({ status: "deleted", updatedAt: dbNow() }).where(eq(agents.id, id));
  await tx.delete(agentUses).where(eq(agentUses.agentId, id));
  const { providerAgentId, providerAccountId: accountId, name, version } = agent;
  if (providerAgentId) {
    const removal = { kind: "agent", accountId, providerId: providerAgentId } as const;
    await enqueue(tx, "upstream.remove", removal, { key: providerAgentId });
    await enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 }); // a number may have led to it
  }
  await emit(tx, "agent.deleted", id, { id, name, status: "deleted", version });
}

/** The enabled inbound routes to this agent, at most 20. */
export const enabledRoutes = (tx: Tx, agentId: string) =>
  tx
    .select({ id: inboundRoutes.id, pattern: inboundRoutes.pattern })
    .from(inboundRoutes)
    .where(and(eq(inboundRoutes.agentId, agentId), eq(inboundRoutes.enabled, true)))
    .orderBy(inboundRoutes.id)
    .limit(20);

export const toRouteDetail = ({ id, pattern }: { id: string; pattern: string }): ErrorDetail => ({
  path: "inbound_route",
  id,
  name: pattern,
  message: `The inbound route ${pattern} leads to this agent.`,
});

/** The caller holds the agent's lock. A new route needs that lock too, so none can appear meanwhile. */
async function refuseRouted(tx: Tx, id: string) {
  const routes = await enabledRoutes(tx, id);
  if (routes.length === 0) return;
  const message =
    "Inbound routes lead to this agent (see details). Change them first, or pass force=true to delete it anyway.";
  throw new ApiError("agent_in_use", message, { details: routes.map(toRouteDetail) });
}

/** A stored config was valid when it came in. Fields that were added since get their defaults, removed ones are dropped. */
const shownConfig = projectionOf(AgentConfig) as (stored: unknown) => AgentConfig;

export function toAgent({ agent, config }: Shown): Agent {
  return {
    id: agent.id,
    name: agent.name,
    ...shownConfig(config),
    metadata: agent.metadata,
    status: agent.status,
    statusReason: agent.statusReason,
    version: agent.version,
    createdAt: toIso(agent.createdAt),
    updatedAt: toIso(agent.updatedAt),
  };
}
