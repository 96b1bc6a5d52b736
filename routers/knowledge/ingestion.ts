import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { uploads } from "../../db/schema/files.ts";
import { knowledgeBases, knowledgeFiles } from "../../db/schema/knowledge.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import { dbNow } from "../../db/time.ts";
import type { ProviderSource } from "../ports/ultravox.ts";
import type { UploadRow } from "../uploads/service.ts";
import { changeFile, newDeadline, recount } from "./rounds.ts";
import type { BaseRow, FileRow } from "./service.ts";
import { isOpen } from "./transitions.ts";

/** After this time, a request to create a source has either had its response or never gets one. */
const responseWithinSeconds = 30;

/** A file that is being ingested, with what the steps of its workflow need. */
export type Reading = { file: FileRow; base: BaseRow; corpusId: string; upload: UploadRow | null };

/** The name of the source at the provider. Each attempt has its own source. */
export const sourceName = ({ id, attempt }: Pick<FileRow, "id" | "attempt">) =>
  attempt === 1 ? id : `${id}.${attempt}`;

/** Returns null when nothing is left to do: the file is ready, has failed, or is deleted. */
export async function readingOf(tx: Tx, fileId: string): Promise<Reading | null> {
  const [found] = await tx
    .select({ file: knowledgeFiles, base: knowledgeBases, upload: uploads })
    .from(knowledgeFiles)
    .innerJoin(knowledgeBases, eq(knowledgeBases.id, knowledgeFiles.knowledgeBaseId))
    .leftJoin(uploads, eq(uploads.id, knowledgeFiles.uploadId))
    .where(eq(knowledgeFiles.id, fileId));
  const corpusId = found?.base.providerCorpusId;
  return found && corpusId && isOpen(found.file.status) ? { ...found, corpusId } : null;
}

/** Locks the base, then the file. Returns null if this attempt is over. */
async function lockReading(tx: Tx, { file: { id, knowledgeBaseId, attempt } }: Pick<Reading, "file">) {
  const [base] = await tx.select().from(knowledgeBases).where(eq(knowledgeBases.id, knowledgeBaseId)).for("update");
  const [file] = await tx.select().from(knowledgeFiles).where(eq(knowledgeFiles.id, id)).for("update");
  if (!base || !file) throw new Error(`No file ${id} of a knowledge base.`);
  return isOpen(file.status) && file.attempt === attempt ? { base, file } : null;
}

export async function recordDocument(tx: Tx, reading: Reading, providerDocumentId: string): Promise<void> {
  const locked = await lockReading(tx, reading);
  if (locked) await changeFile(tx, locked.file.id, { status: "ingesting", providerDocumentId });
}

/**
 * Claims the right to create the source at the provider. A worker that crashed, or another one, may have sent the request
 * already: until its response would have arrived, the claim is refused. A later claim looks the source up first.
 */
export async function claimSource(tx: Tx, reading: Reading): Promise<"create" | "look_up_first" | "wait" | "done"> {
  const locked = await lockReading(tx, reading);
  if (!locked || locked.file.providerSourceId) return "done";
  const { id, askedAt } = locked.file;
  const [claimed] = await tx
    .update(knowledgeFiles)
    .set({ askedAt: dbNow() })
    .where(
      sql`${knowledgeFiles.id} = ${id} and (${knowledgeFiles.askedAt} is null
        or ${knowledgeFiles.askedAt} < clock_timestamp() - make_interval(secs => ${responseWithinSeconds}))`,
    )
    .returning({ id: knowledgeFiles.id });
  if (!claimed) return "wait";
  return askedAt === null ? "create" : "look_up_first";
}

/** Releases the claim when the provider certainly created no source. */
export async function releaseClaim(tx: Tx, reading: Reading): Promise<void> {
  if (await lockReading(tx, reading)) await changeFile(tx, reading.file.id, { askedAt: null });
}

/** Keeps the first source that the provider has under this name. Removes the others, and any that come too late. */
export async function recordSource(tx: Tx, reading: Reading, found: readonly ProviderSource[]): Promise<void> {
  const locked = await lockReading(tx, reading);
  const known = locked?.file.providerSourceId ?? null;
  const taken = locked ? (known ?? found[0]?.providerSourceId ?? null) : null;
  for (const { providerSourceId } of found) {
    if (providerSourceId !== taken) await removeSource(tx, reading, providerSourceId);
  }
  if (!locked || known !== null) return;
  const ingesting = { status: "ingesting", providerSourceId: taken, deadlineAt: newDeadline() } as const;
  await changeFile(tx, locked.file.id, ingesting);
}

/** Records that the provider is reading the pages of an existing source again. */
export async function recordRefresh(tx: Tx, reading: Reading): Promise<void> {
  if (!(await lockReading(tx, reading))) return;
  await changeFile(tx, reading.file.id, { askedAt: dbNow(), deadlineAt: newDeadline() });
}

/** How long the provider has been working, and whether the deadline has passed, by the database's clock. */
export async function readWait(tx: Tx, { file }: Reading): Promise<{ seconds: number; isOver: boolean }> {
  const [wait] = await tx
    .select({
      seconds: sql<number>`extract(epoch from clock_timestamp() - coalesce(${knowledgeFiles.askedAt}, ${knowledgeFiles.updatedAt}))::float8`,
      isOver: sql<boolean>`coalesce(${knowledgeFiles.deadlineAt} < clock_timestamp(), false)`,
    })
    .from(knowledgeFiles)
    .where(eq(knowledgeFiles.id, file.id));
  return wait ?? { seconds: 0, isOver: true };
}

export async function recordReady(tx: Tx, reading: Reading, documents: number): Promise<void> {
  const locked = await lockReading(tx, reading);
  if (!locked) return;
  await changeFile(tx, locked.file.id, { status: "ready", statusReason: null, documents });
  await recount(tx, locked.base);
}

/** Records that the source no longer has any documents. */
export async function recordEmpty(tx: Tx, reading: Reading): Promise<void> {
  if (await lockReading(tx, reading)) await changeFile(tx, reading.file.id, { documents: 0 });
}

/**
 * Fails a file. If it had documents from an earlier ingestion, they stay and the file is `ready` with the reason. Otherwise
 * its source is removed, since it would count against the limit of the corpus.
 */
export async function failFile(tx: Tx, fileId: string, reason: string): Promise<void> {
  const reading = await readingOf(tx, fileId);
  const locked = reading && (await lockReading(tx, reading));
  if (!reading || !locked) return;
  const { file, base } = locked;
  if (file.providerSourceId && (file.documents ?? 0) > 0) {
    await changeFile(tx, fileId, { status: "ready", statusReason: `The file could not be ingested again. ${reason}` });
  } else {
    await forgetSource(tx, base, file);
    const nothing = { providerSourceId: null, providerDocumentId: null, documents: null };
    await changeFile(tx, fileId, { ...nothing, status: "failed", statusReason: reason });
  }
  await recount(tx, base);
}

/** Fails a file whose deadline has passed and that has no running workflow. */
export async function expireFile(tx: Tx, fileId: string): Promise<void> {
  const reading = await readingOf(tx, fileId);
  if (!reading || !(await readWait(tx, reading)).isOver) return;
  const [running] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.subjectId, fileId), eq(workflowRuns.status, "running")));
  if (!running) await failFile(tx, fileId, "The file was not ingested in time. Retry it.");
}

/** Removes a file's source at the provider: the known one, or one that may still appear. */
export async function forgetSource(tx: Tx, base: BaseRow, file: FileRow): Promise<void> {
  const corpusId = base.providerCorpusId;
  if (!corpusId) return;
  if (file.providerSourceId) return removeSource(tx, { base, corpusId }, file.providerSourceId);
  if (!file.askedAt) return;
  const orphan = { accountId: base.providerAccountId, corpusId, name: sourceName(file) };
  await enqueue(tx, "knowledge.forget", orphan, { key: orphan.name, delaySeconds: 2 * responseWithinSeconds });
}

async function removeSource(tx: Tx, { base, corpusId: parentId }: Pick<Reading, "base" | "corpusId">, id: string) {
  const accountId = base.providerAccountId;
  await enqueue(tx, "upstream.remove", { kind: "source", accountId, parentId, providerId: id });
}
