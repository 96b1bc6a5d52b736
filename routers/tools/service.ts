import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { type EventType, emit } from "../../db/events.ts";
import { type Given, hotRead, pages, type Wire } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentUses, intents } from "../../db/schema/agents.ts";
import { tools } from "../../db/schema/tools.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
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
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { Config } from "./definition.ts";
import type { ListTools, RemoveTool, Tool } from "./schema.ts";

export type ToolRow = typeof tools.$inferSelect;

export const toolNotFound = (id: string) => new ApiError("tool_not_found", `There is no tool ${id}.`);

export async function getTool(tx: Tx, id: string): Promise<Tool> {
  const [row] = await toolById(tx, { id });
  if (!row) throw toolNotFound(id);
  return toTool(row);
}

const toolById = hotRead((db) =>
  db
    .select()
    .from(tools)
    .where(and(eq(tools.id, sql.placeholder("id")), ne(tools.status, "deleted"))),
);

export async function listTools(tx: Tx, { limit, cursor, ...filters }: ListTools, key: ListKey) {
  const { kind, status, search, metadata } = filters;
  const given = { kind, status, search, ...createdValues(filters), ...metadataValues(metadata) };
  const rows = await toolPages(tx, { ...given, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, rows.map(toTool), limit, ({ id }) => id);
}

type Filters = keyof Omit<ListTools, "cursor" | "limit" | "metadata"> | MetadataValues;

const toolPages = pages((db, given: Given<Filters>) =>
  db
    .select()
    .from(tools)
    .where(
      and(
        given.before && lt(tools.id, given.before),
        given.status ? eq(tools.status, given.status) : ne(tools.status, "deleted"),
        given.kind && eq(tools.kind, given.kind),
        containsText(tools.name, given.search),
        createdWithin(tools.createdAt, given),
        hasMetadata(tools.metadata, given),
      ),
    )
    .orderBy(desc(tools.id))
    .limit(sql.placeholder("limit")),
);

/** Deletes a tool here. A job removes it at the provider. */
export async function removeTool(tx: Tx, { id, force }: RemoveTool) {
  const tool = await lockTool(tx, id);
  await refuseBusy(tx, id);
  if (!force) await refuseInUse(tx, id);
  await changeTool(tx, id, { status: "deleted", pending: null });
  if (tool.providerToolId) await removeUpstream(tx, tool.providerAccountId, tool.providerToolId);
  await resyncAgentsUsing(tx, "tool", id);
  await emitToolEvent(tx, "tool.deleted", { ...tool, status: "deleted" });
}

/** An agent that adds the tool locks it too: either it is seen here, or it finds the tool deleted. */
async function refuseInUse(tx: Tx, id: string) {
  const users = await tx
    .select({ id: agents.id, name: agents.name })
    .from(agentUses)
    .innerJoin(agents, and(eq(agents.clientId, agentUses.clientId), eq(agents.id, agentUses.agentId)))
    .where(and(eq(agentUses.kind, "tool"), eq(agentUses.targetId, id), ne(agents.status, "deleted")))
    .orderBy(agents.id)
    .limit(20);
  if (users.length === 0) return;
  const details = users.map((agent) => ({
    path: "agent",
    ...agent,
    message: `The agent ${agent.name} uses this tool.`,
  }));
  const message = "Agents use this tool (see details). Remove it from them, or pass force=true to delete it anyway.";
  throw new ApiError("tool_in_use", message, { details });
}

export async function lockTool(tx: Tx, id: string): Promise<ToolRow> {
  const [tool] = await tx.select().from(tools).where(eq(tools.id, id)).for("update");
  if (!tool || tool.status === "deleted") throw toolNotFound(id);
  return tool;
}

/** Reads without a lock: the code that settles a change locks its intent first and the tool second. */
export async function refuseBusy(tx: Tx, id: string) {
  const [open] = await tx
    .select({ id: intents.id })
    .from(intents)
    .where(and(eq(intents.subjectId, id), eq(intents.status, "open")));
  if (open) throw new ApiError("tool_busy", undefined, { retryAfterSeconds: 1 });
}

export async function changeTool(tx: Tx, id: string, set: PgUpdateSetSource<typeof tools>): Promise<ToolRow> {
  const [changed] = await tx
    .update(tools)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(tools.id, id))
    .returning();
  if (!changed) throw toolNotFound(id);
  return changed;
}

export const removeUpstream = (tx: Tx, accountId: string, providerId: string) =>
  enqueue(tx, "upstream.remove", { kind: "tool", accountId, providerId });

export async function emitToolEvent(tx: Tx, type: Extract<EventType, `tool.${string}`>, row: ToolRow) {
  const { id, name, kind, status, version } = row;
  await emit(tx, type, id, { id, name, kind, status, version });
}

export function toTool(row: Wire<ToolRow>): Tool {
  const { id, name, description, kind, config, status, statusReason, version, metadata } = row;
  return {
    id,
    name,
    description,
    kind,
    definition: Config.parse(config).definition,
    status,
    statusReason,
    version,
    metadata,
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}
