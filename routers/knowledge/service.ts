import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { type Given, hotRead, pages, type Wire } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentUses } from "../../db/schema/agents.ts";
import { knowledgeBases, knowledgeFiles } from "../../db/schema/knowledge.ts";
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
import { dropUploads } from "../uploads/service.ts";
import { closeWorkflow } from "../workflows/service.ts";
import type { KnowledgeBase, ListKnowledgeBases, RemoveKnowledgeBase, UpdateKnowledgeBase } from "./schema.ts";
import { isOpen, isUsable } from "./transitions.ts";

export type BaseRow = typeof knowledgeBases.$inferSelect;
export type FileRow = typeof knowledgeFiles.$inferSelect;

export const knowledgeBaseNotFound = (id: string) =>
  new ApiError("knowledge_base_not_found", `There is no knowledge base ${id}.`);

export async function findBase(tx: Tx, id: string): Promise<BaseRow> {
  const [base] = await tx
    .select()
    .from(knowledgeBases)
    .where(and(eq(knowledgeBases.id, id), ne(knowledgeBases.status, "deleted")));
  if (!base) throw knowledgeBaseNotFound(id);
  return base;
}

/** Locks a base. Every change of its files needs this lock, since the status of the base is counted from all of them. */
export async function lockBase(tx: Tx, id: string): Promise<BaseRow> {
  const [base] = await tx.select().from(knowledgeBases).where(eq(knowledgeBases.id, id)).for("update");
  if (!base || base.status === "deleted") throw knowledgeBaseNotFound(id);
  return base;
}

export async function getKnowledgeBase(tx: Tx, id: string): Promise<KnowledgeBase> {
  const [row] = await baseById(tx, { id });
  if (!row) throw knowledgeBaseNotFound(id);
  return toKnowledgeBase(row);
}

const baseById = hotRead((db) =>
  db
    .select()
    .from(knowledgeBases)
    .where(and(eq(knowledgeBases.id, sql.placeholder("id")), ne(knowledgeBases.status, "deleted"))),
);

export async function listKnowledgeBases(tx: Tx, { limit, cursor, ...filters }: ListKnowledgeBases, key: ListKey) {
  const { status, search, metadata } = filters;
  const given = { status, search, ...createdValues(filters), ...metadataValues(metadata) };
  const rows = await basePages(tx, { ...given, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, rows.map(toKnowledgeBase), limit, ({ id }) => id);
}

type Filters = keyof Omit<ListKnowledgeBases, "cursor" | "limit" | "metadata"> | MetadataValues;

const basePages = pages((db, given: Given<Filters>) =>
  db
    .select()
    .from(knowledgeBases)
    .where(
      and(
        given.before && lt(knowledgeBases.id, given.before),
        given.status ? eq(knowledgeBases.status, given.status) : ne(knowledgeBases.status, "deleted"),
        containsText(knowledgeBases.name, given.search),
        createdWithin(knowledgeBases.createdAt, given),
        hasMetadata(knowledgeBases.metadata, given),
      ),
    )
    .orderBy(desc(knowledgeBases.id))
    .limit(sql.placeholder("limit")),
);

/** These fields exist only here: the provider's corpus has our id as its name, and its description is not used. */
export async function updateKnowledgeBase(tx: Tx, { id, ...changes }: UpdateKnowledgeBase): Promise<KnowledgeBase> {
  await lockBase(tx, id);
  return toKnowledgeBase(await changeBase(tx, id, changes));
}

export async function changeBase(tx: Tx, id: string, set: PgUpdateSetSource<typeof knowledgeBases>) {
  const [changed] = await tx
    .update(knowledgeBases)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(knowledgeBases.id, id))
    .returning();
  return changed!;
}

export async function removeKnowledgeBase(tx: Tx, { id, force }: RemoveKnowledgeBase): Promise<void> {
  // Lock order: the workflow run first, then its subject, as in routers/workflows.
  await closeRuns(tx, id);
  const base = await lockBase(tx, id);
  if (base.status === "provisioning") throw new ApiError("knowledge_base_busy", undefined, { retryAfterSeconds: 1 });
  if (!force) await refuseInUse(tx, id);
  await closeRuns(tx, id);
  const deleted = await tx
    .update(knowledgeFiles)
    .set({ status: "deleted", updatedAt: dbNow() })
    .where(and(eq(knowledgeFiles.knowledgeBaseId, id), ne(knowledgeFiles.status, "deleted")))
    .returning({ uploadId: knowledgeFiles.uploadId });
  await dropUploads(
    tx,
    deleted.flatMap(({ uploadId }) => uploadId ?? []),
  );
  const { providerAccountId: accountId, providerCorpusId: providerId } = base;
  if (providerId) await enqueue(tx, "upstream.remove", { kind: "corpus", accountId, providerId });
  await resyncAgentsUsing(tx, "knowledge_base", id);
  await emitKnowledgeEvent(
    tx,
    "knowledge_base.deleted",
    await changeBase(tx, id, { status: "deleted", readyFiles: 0 }),
  );
}

async function closeRuns(tx: Tx, baseId: string) {
  const files = await tx
    .select()
    .from(knowledgeFiles)
    .where(eq(knowledgeFiles.knowledgeBaseId, baseId))
    .orderBy(knowledgeFiles.id);
  for (const { id, status } of files) if (isOpen(status)) await closeWorkflow(tx, "knowledge-ingest", id, "failed");
}

async function refuseInUse(tx: Tx, id: string) {
  const users = await tx
    .select({ id: agents.id, name: agents.name })
    .from(agentUses)
    .innerJoin(agents, and(eq(agents.clientId, agentUses.clientId), eq(agents.id, agentUses.agentId)))
    .where(and(eq(agentUses.kind, "knowledge_base"), eq(agentUses.targetId, id), ne(agents.status, "deleted")))
    .orderBy(agents.id)
    .limit(20);
  if (users.length === 0) return;
  const message =
    "Agents use this knowledge base (see details). Remove it from them, or pass force=true to delete it anyway.";
  throw new ApiError("knowledge_base_in_use", message, {
    details: users.map((agent) => ({ path: "agent", ...agent, message: `The agent ${agent.name} uses it.` })),
  });
}

type KnowledgeEventType =
  `knowledge_base.${"created" | "deleted" | "ingestion.started" | "ingestion.completed" | "ingestion.failed"}`;

export function emitKnowledgeEvent(
  tx: Tx,
  type: KnowledgeEventType,
  { id, name, status, statusReason }: BaseRow,
): Promise<void> {
  return emit(tx, type, id, { id, name, status, statusReason });
}

export function toKnowledgeBase(base: Wire<BaseRow>): KnowledgeBase {
  const { id, name, description, status, statusReason, readyFiles, metadata, createdAt, updatedAt } = base;
  return {
    id,
    name,
    description,
    status,
    statusReason,
    isUsable: isUsable(base),
    readyFiles,
    metadata,
    createdAt: toIso(createdAt),
    updatedAt: toIso(updatedAt),
  };
}
