import { and, desc, eq, inArray, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { type Given, pages, type Wire } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { createdValues, createdWithin } from "../core/list-filters.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { dropUploads, findUploads, openUploads, type UploadRow, useUploads } from "../uploads/service.ts";
import { closeWorkflow, startWorkflow } from "../workflows/service.ts";
import { forgetSource } from "./ingestion.ts";
import { beginFiles, changeFile, newDeadline, recount, roundOf } from "./rounds.ts";
import type {
  IngestFiles,
  IngestUrls,
  KnowledgeBase,
  KnowledgeFile,
  KnowledgeFileId,
  ListKnowledgeFiles,
  PresignKnowledgeFiles,
} from "./schema.ts";
import { type BaseRow, type FileRow, findBase, getKnowledgeBase, lockBase } from "./service.ts";
import { isOpen, maxFiles, mayMove } from "./transitions.ts";
import { pageAddress } from "./url.ts";

const fileNotFound = ({ id, fileId }: KnowledgeFileId) =>
  new ApiError("knowledge_file_not_found", `There is no file ${fileId} in knowledge base ${id}.`);

export async function presignKnowledgeFiles(tx: Tx, { id, files }: PresignKnowledgeFiles) {
  await findBase(tx, id);
  return { files: await openUploads(tx, { purpose: "knowledge_file", subjectId: id }, files) };
}

/** The uploads to ingest. The caller verifies them in storage next. */
export async function uploadsOf(tx: Tx, { id, fileIds }: IngestFiles): Promise<UploadRow[]> {
  refuseUnprovisioned(await findBase(tx, id));
  return findUploads(tx, fileIds, { purpose: "knowledge_file", subjectId: id });
}

export async function ingestFiles(tx: Tx, { id, fileIds }: IngestFiles) {
  const base = await lockWithCapacity(tx, id, fileIds.length);
  const uploads = await useUploads(tx, fileIds, { purpose: "knowledge_file", subjectId: id });
  const files = uploads.map(({ id: uploadId, fileName, contentType, bytes }) => {
    return {
      id: newId("knowledgeFile"),
      knowledgeBaseId: id,
      kind: "file" as const,
      uploadId,
      fileName,
      contentType,
      bytes,
    };
  });
  return { files: (await beginFiles(tx, base, files)).map(toKnowledgeFile) };
}

export async function ingestUrls(tx: Tx, { id, urls, maxDepth, maxDocuments }: IngestUrls) {
  const base = await lockWithCapacity(tx, id, urls.length);
  const pages = urls.map((text, index) => {
    const url = pageAddress(text, `urls.${index}`);
    return { id: newId("knowledgeFile"), knowledgeBaseId: id, kind: "url" as const, url, maxDepth, maxDocuments };
  });
  return { files: (await beginFiles(tx, base, pages)).map(toKnowledgeFile) };
}

/** Locks the base. Throws `knowledge_base_full` if that many more files do not fit. */
async function lockWithCapacity(tx: Tx, id: string, wanted: number): Promise<BaseRow> {
  const base = await lockBase(tx, id);
  refuseUnprovisioned(base);
  const [counted] = await tx
    .select({ taken: sql<number>`count(*)::int` })
    .from(knowledgeFiles)
    .where(
      and(eq(knowledgeFiles.knowledgeBaseId, id), inArray(knowledgeFiles.status, ["pending", "ingesting", "ready"])),
    );
  const capacity = maxFiles - (counted?.taken ?? 0);
  if (wanted <= capacity) return base;
  const message = `A knowledge base has at most ${maxFiles} files and addresses. This one has capacity for ${capacity} more, and you sent ${wanted}. Delete some first.`;
  throw new ApiError("knowledge_base_full", message);
}

function refuseUnprovisioned({ id, status, statusReason, providerCorpusId }: BaseRow) {
  if (status === "provisioning") throw new ApiError("knowledge_base_busy", undefined, { retryAfterSeconds: 1 });
  if (providerCorpusId) return;
  const message =
    `Knowledge base ${id} could not be created. Delete it and create another. ${statusReason ?? ""}`.trim();
  throw new ApiError("knowledge_base_not_ready", message);
}

export async function listKnowledgeFiles(
  tx: Tx,
  { id, limit, cursor, status, ...filters }: ListKnowledgeFiles,
  key: ListKey,
) {
  const before = readCursor(key, cursor);
  const given = { knowledgeBaseId: id, status, ...createdValues(filters) };
  const [, rows] = await Promise.all([findBase(tx, id), filePages(tx, { ...given, before, limit: limit + 1 })]);
  return toPage(key, rows.map(toKnowledgeFile), limit, ({ id: fileId }) => fileId);
}

const filePages = pages((db, given: Given<"knowledgeBaseId" | "status" | "createdAfter" | "createdBefore">) =>
  db
    .select()
    .from(knowledgeFiles)
    .where(
      and(
        eq(knowledgeFiles.knowledgeBaseId, given.knowledgeBaseId!),
        given.before && lt(knowledgeFiles.id, given.before),
        given.status ? eq(knowledgeFiles.status, given.status) : ne(knowledgeFiles.status, "deleted"),
        createdWithin(knowledgeFiles.createdAt, given),
      ),
    )
    .orderBy(desc(knowledgeFiles.id))
    .limit(sql.placeholder("limit")),
);

export async function getKnowledgeFile(tx: Tx, which: KnowledgeFileId): Promise<KnowledgeFile> {
  await findBase(tx, which.id);
  return toKnowledgeFile(await fileIn(tx, which));
}

/** Files need no lock: the lock of their base covers them. */
async function fileIn(tx: Tx, which: KnowledgeFileId): Promise<FileRow> {
  const [file] = await tx
    .select()
    .from(knowledgeFiles)
    .where(
      and(
        eq(knowledgeFiles.id, which.fileId),
        eq(knowledgeFiles.knowledgeBaseId, which.id),
        ne(knowledgeFiles.status, "deleted"),
      ),
    );
  if (!file) throw fileNotFound(which);
  return file;
}

export async function removeKnowledgeFile(tx: Tx, which: KnowledgeFileId): Promise<void> {
  // Lock order: the workflow run first, then its subject, as in routers/workflows.
  await closeWorkflow(tx, "knowledge-ingest", which.fileId, "failed");
  const base = await lockBase(tx, which.id);
  const file = await fileIn(tx, which);
  await changeFile(tx, file.id, { status: "deleted" });
  await forgetSource(tx, base, file);
  if (file.uploadId) await dropUploads(tx, [file.uploadId]);
  await recount(tx, base);
}

/** Ingests a failed file again from the start. Pages that are ready are read again and stay usable meanwhile. */
export async function retryKnowledgeFile(tx: Tx, which: KnowledgeFileId): Promise<KnowledgeFile> {
  const { base, file } = await lockRetried(tx, which);
  const changed = await restartIngestion(tx, base, file);
  await startWorkflow(tx, "knowledge-ingest", file.id);
  await recount(tx, base);
  return toKnowledgeFile(changed);
}

/** Reopens a failed file after an operator has retried its workflow run. */
export async function reopenFile(tx: Tx, { runId, fileId }: { runId: string; fileId: string }): Promise<void> {
  const [file] = await tx.select().from(knowledgeFiles).where(eq(knowledgeFiles.id, fileId));
  if (file?.status !== "failed") return;
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("share");
  if (run?.status !== "running") return;
  const locked = await lockRetried(tx, { id: file.knowledgeBaseId, fileId });
  await restartIngestion(tx, locked.base, locked.file);
  await recount(tx, locked.base);
}

function restartIngestion(tx: Tx, base: BaseRow, { id, status, attempt }: FileRow): Promise<FileRow> {
  const restarted = { round: roundOf(base), deadlineAt: newDeadline(), askedAt: null, statusReason: null };
  if (status === "ready") return changeFile(tx, id, { ...restarted, status: "ingesting" });
  return changeFile(tx, id, { ...restarted, status: "pending", attempt: attempt + 1 });
}

async function lockRetried(tx: Tx, which: KnowledgeFileId) {
  const base = await lockBase(tx, which.id);
  const file = await fileIn(tx, which);
  const next = file.status === "failed" ? "pending" : "ingesting";
  if (isOpen(file.status) || !mayMove(file.status, next) || (file.status === "ready" && file.kind === "file")) {
    const message = `File ${file.id} is ${file.status}. Only a failed file, or pages that are ready, can be retried.`;
    throw new ApiError("knowledge_file_not_failed", message);
  }
  if (file.status === "failed") await lockWithCapacity(tx, base.id, 1);
  return { base, file };
}

/** Checks every file that is being ingested now, and starts a workflow for one that has none. */
export async function refreshKnowledgeBase(tx: Tx, id: string): Promise<KnowledgeBase> {
  await findBase(tx, id);
  const files = await tx.select().from(knowledgeFiles).where(eq(knowledgeFiles.knowledgeBaseId, id));
  for (const file of files) {
    if (!isOpen(file.status)) continue;
    const runId = await startWorkflow(tx, "knowledge-ingest", file.id);
    await enqueue(tx, "workflows.advance", { runId }, { key: runId });
  }
  return getKnowledgeBase(tx, id);
}

function toKnowledgeFile(file: Wire<FileRow>): KnowledgeFile {
  const { id, knowledgeBaseId, kind, fileName, contentType, bytes, url, maxDepth, maxDocuments } = file;
  return {
    id,
    knowledgeBaseId,
    kind,
    fileName,
    contentType,
    bytes,
    url,
    maxDepth,
    maxDocuments,
    status: file.status,
    statusReason: file.statusReason,
    documents: file.documents,
    createdAt: toIso(file.createdAt),
    updatedAt: toIso(file.updatedAt),
  };
}
