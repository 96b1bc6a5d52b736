import { and, desc, eq, inArray, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
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

/** The uploads that are to be read in, before storage is asked whether they are there. */
export async function uploadsOf(tx: Tx, { id, fileIds }: IngestFiles): Promise<UploadRow[]> {
  refuseUnmade(await findBase(tx, id));
  return findUploads(tx, fileIds, { purpose: "knowledge_file", subjectId: id });
}

export async function ingestFiles(tx: Tx, { id, fileIds }: IngestFiles) {
  const base = await roomIn(tx, id, fileIds.length);
  const uploads = await useUploads(tx, fileIds, { purpose: "knowledge_file", subjectId: id });
  const files = uploads.map(({ id: uploadId, fileName, contentType, bytes }) => ({
    ...{ id: newId("knowledgeFile"), knowledgeBaseId: id, kind: "file" as const },
    ...{ uploadId, fileName, contentType, bytes },
  }));
  return { files: (await beginFiles(tx, base, files)).map(onTheWire) };
}

export async function ingestUrls(tx: Tx, { id, urls, maxDepth, maxDocuments }: IngestUrls) {
  const base = await roomIn(tx, id, urls.length);
  const pages = urls.map((text, index) => ({
    ...{ id: newId("knowledgeFile"), knowledgeBaseId: id, kind: "url" as const },
    ...{ url: pageAddress(text, `urls.${index}`), maxDepth, maxDocuments },
  }));
  return { files: (await beginFiles(tx, base, pages)).map(onTheWire) };
}

/** The base, locked, if so many more fit into it. */
async function roomIn(tx: Tx, id: string, wanted: number): Promise<BaseRow> {
  const base = await lockBase(tx, id);
  refuseUnmade(base);
  const [counted] = await tx
    .select({ taken: sql<number>`count(*)::int` })
    .from(knowledgeFiles)
    .where(
      and(eq(knowledgeFiles.knowledgeBaseId, id), inArray(knowledgeFiles.status, ["pending", "ingesting", "ready"])),
    );
  const room = maxFiles - (counted?.taken ?? 0);
  if (wanted <= room) return base;
  const message = `A knowledge base holds at most ${maxFiles} files and addresses; there is room for ${room} in ${id}, and this would be ${wanted}.`;
  throw new ApiError("knowledge_base_full", message);
}

function refuseUnmade({ id, status, statusReason, providerCorpusId }: BaseRow) {
  if (status === "provisioning") throw new ApiError("knowledge_base_busy", undefined, { retryAfterSeconds: 1 });
  if (providerCorpusId) return;
  const message = `Knowledge base ${id} could not be made. Delete it and make another. ${statusReason ?? ""}`.trim();
  throw new ApiError("knowledge_base_not_ready", message);
}

export async function listKnowledgeFiles(tx: Tx, { id, limit, cursor, status }: ListKnowledgeFiles, key: ListKey) {
  await findBase(tx, id);
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(knowledgeFiles)
    .where(
      and(
        eq(knowledgeFiles.knowledgeBaseId, id),
        before === null ? undefined : lt(knowledgeFiles.id, before),
        status ? eq(knowledgeFiles.status, status) : ne(knowledgeFiles.status, "deleted"),
      ),
    )
    .orderBy(desc(knowledgeFiles.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id: fileId }) => fileId);
}

export async function getKnowledgeFile(tx: Tx, which: KnowledgeFileId): Promise<KnowledgeFile> {
  await findBase(tx, which.id);
  return onTheWire(await fileIn(tx, which));
}

/** What a lock on the base covers needs no lock of its own. */
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
  // The engine of the workflows locks a run before its subject, and so do we.
  await closeWorkflow(tx, "knowledge-ingest", which.fileId, "failed");
  const base = await lockBase(tx, which.id);
  const file = await fileIn(tx, which);
  await changeFile(tx, file.id, { status: "deleted" });
  await forgetSource(tx, base, file);
  if (file.uploadId) await dropUploads(tx, [file.uploadId]);
  await recount(tx, base);
}

/** A file that failed is read in anew, from the beginning. Pages that are ready are read again, and stay until then. */
export async function retryKnowledgeFile(tx: Tx, which: KnowledgeFileId): Promise<KnowledgeFile> {
  const { base, file } = await lockRetried(tx, which);
  const changed = await beginAgain(tx, base, file);
  await startWorkflow(tx, "knowledge-ingest", file.id);
  await recount(tx, base);
  return onTheWire(changed);
}

/** The run of a file that failed was taken up again by those who run the installation, and the file is with it. */
export async function reopenFile(tx: Tx, { runId, fileId }: { runId: string; fileId: string }): Promise<void> {
  const [file] = await tx.select().from(knowledgeFiles).where(eq(knowledgeFiles.id, fileId));
  if (file?.status !== "failed") return;
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("share");
  if (run?.status !== "running") return;
  const locked = await lockRetried(tx, { id: file.knowledgeBaseId, fileId });
  await beginAgain(tx, locked.base, locked.file);
  await recount(tx, locked.base);
}

function beginAgain(tx: Tx, base: BaseRow, { id, status, attempt }: FileRow): Promise<FileRow> {
  const begun = { round: roundOf(base), deadlineAt: newDeadline, askedAt: null, statusReason: null };
  if (status === "ready") return changeFile(tx, id, { ...begun, status: "ingesting" });
  return changeFile(tx, id, { ...begun, status: "pending", attempt: attempt + 1 });
}

async function lockRetried(tx: Tx, which: KnowledgeFileId) {
  const base = await lockBase(tx, which.id);
  const file = await fileIn(tx, which);
  const next = file.status === "failed" ? "pending" : "ingesting";
  if (isOpen(file.status) || !mayMove(file.status, next) || (file.status === "ready" && file.kind === "file")) {
    const message = `File ${file.id} is ${file.status}; one that has failed can be tried again, and pages also when they are ready.`;
    throw new ApiError("knowledge_file_not_failed", message);
  }
  if (file.status === "failed") await roomIn(tx, base.id, 1);
  return { base, file };
}

/** Has every file that is being read in looked at now, and takes up one that nobody looks at any more. */
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

function onTheWire(file: FileRow): KnowledgeFile {
  const { id, knowledgeBaseId, kind, fileName, contentType, bytes, url, maxDepth, maxDocuments } = file;
  return {
    ...{ id, knowledgeBaseId, kind, fileName, contentType, bytes, url, maxDepth, maxDocuments },
    status: file.status,
    statusReason: file.statusReason,
    documents: file.documents,
    createdAt: toIso(file.createdAt),
    updatedAt: toIso(file.updatedAt),
  };
}
