import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { uploads } from "../../db/schema/files.ts";
import { knowledgeBases, knowledgeFiles } from "../../db/schema/knowledge.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import type { ProviderSource } from "../ports/ultravox.ts";
import type { UploadRow } from "../uploads/service.ts";
import { changeFile, newDeadline, recount } from "./rounds.ts";
import type { BaseRow, FileRow } from "./service.ts";
import { isOpen } from "./transitions.ts";

/** Long enough for a provider that was asked for a source to have answered, or never to answer. */
const answeredAfterSeconds = 30;

/** A file that is being read in, with what the steps of its workflow need. */
export type Reading = { file: FileRow; base: BaseRow; corpusId: string; upload: UploadRow | null };

/** The name of the source at the provider. Another attempt is another source. */
export const sourceName = ({ id, attempt }: Pick<FileRow, "id" | "attempt">) =>
  attempt === 1 ? id : `${id}.${attempt}`;

/** null when nothing is left to be done: the file is ready, has failed, or is deleted. */
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

/** The base and the file, both locked in this order; null when the file is no longer being read in this attempt. */
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
 * Who may ask the provider for the source now. A worker that died may have asked, and another may be asking: until its
 * answer would have come nobody does, and who comes then looks first.
 */
export async function claimSource(tx: Tx, reading: Reading): Promise<"ask" | "look first" | "not now" | "nothing"> {
  const locked = await lockReading(tx, reading);
  if (!locked || locked.file.providerSourceId) return "nothing";
  const { id, askedAt } = locked.file;
  const [asked] = await tx
    .update(knowledgeFiles)
    .set({ askedAt: sql`clock_timestamp()` as unknown as Date })
    .where(
      sql`${knowledgeFiles.id} = ${id} and (${knowledgeFiles.askedAt} is null
        or ${knowledgeFiles.askedAt} < clock_timestamp() - make_interval(secs => ${answeredAfterSeconds}))`,
    )
    .returning({ id: knowledgeFiles.id });
  if (!asked) return "not now";
  return askedAt === null ? "ask" : "look first";
}

/** The provider surely made none. */
export async function releaseClaim(tx: Tx, reading: Reading): Promise<void> {
  if (await lockReading(tx, reading)) await changeFile(tx, reading.file.id, { askedAt: null });
}

/** Takes the first of what the provider has under this name; any other goes, and so does one that comes too late. */
export async function recordSource(tx: Tx, reading: Reading, found: readonly ProviderSource[]): Promise<void> {
  const locked = await lockReading(tx, reading);
  const known = locked?.file.providerSourceId ?? null;
  const taken = locked ? (known ?? found[0]?.providerSourceId ?? null) : null;
  for (const { providerSourceId } of found) {
    if (providerSourceId !== taken) await removeSource(tx, reading, providerSourceId);
  }
  if (!locked || known !== null) return;
  const begun = { status: "ingesting", providerSourceId: taken, deadlineAt: newDeadline } as const;
  await changeFile(tx, locked.file.id, begun);
}

/** The pages of a source that is there already are being read again from now on. */
export async function recordRefresh(tx: Tx, reading: Reading): Promise<void> {
  if (!(await lockReading(tx, reading))) return;
  const askedAt = sql`clock_timestamp()` as unknown as Date;
  await changeFile(tx, reading.file.id, { askedAt, deadlineAt: newDeadline });
}

/** How long the provider has been at it, and whether that is too long, by the database's clock. */
export async function readWait(tx: Tx, { file }: Reading): Promise<{ seconds: number; isOver: boolean }> {
  const [told] = await tx
    .select({
      seconds: sql<number>`extract(epoch from clock_timestamp() - coalesce(${knowledgeFiles.askedAt}, ${knowledgeFiles.updatedAt}))::float8`,
      isOver: sql<boolean>`coalesce(${knowledgeFiles.deadlineAt} < clock_timestamp(), false)`,
    })
    .from(knowledgeFiles)
    .where(eq(knowledgeFiles.id, file.id));
  return told ?? { seconds: 0, isOver: true };
}

export async function recordReady(tx: Tx, reading: Reading, documents: number): Promise<void> {
  const locked = await lockReading(tx, reading);
  if (!locked) return;
  await changeFile(tx, locked.file.id, { status: "ready", statusReason: null, documents });
  await recount(tx, locked.base);
}

/** Nothing of it can be found any more, whatever was there before. */
export async function recordEmpty(tx: Tx, reading: Reading): Promise<void> {
  if (await lockReading(tx, reading)) await changeFile(tx, reading.file.id, { documents: 0 });
}

/**
 * It will not become ready. What was there before it was to be read again stays, with the reason; else the source goes,
 * since it would count among those that a corpus may have.
 */
export async function failFile(tx: Tx, fileId: string, reason: string): Promise<void> {
  const reading = await readingOf(tx, fileId);
  const locked = reading && (await lockReading(tx, reading));
  if (!reading || !locked) return;
  const { file, base } = locked;
  if (file.providerSourceId && (file.documents ?? 0) > 0) {
    await changeFile(tx, fileId, { status: "ready", statusReason: `It could not be read again. ${reason}` });
  } else {
    await forgetSource(tx, base, file);
    const nothing = { providerSourceId: null, providerDocumentId: null, documents: null };
    await changeFile(tx, fileId, { ...nothing, status: "failed", statusReason: reason });
  }
  await recount(tx, base);
}

/** Nobody reads it in any more, and its time is over. */
export async function expireFile(tx: Tx, fileId: string): Promise<void> {
  const reading = await readingOf(tx, fileId);
  if (!reading || !(await readWait(tx, reading)).isOver) return;
  const [running] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.subjectId, fileId), eq(workflowRuns.status, "running")));
  if (!running) await failFile(tx, fileId, "It was not read in time.");
}

/** Has the provider's source of a file removed: the one that is known, or the one that may yet turn up. */
export async function forgetSource(tx: Tx, base: BaseRow, file: FileRow): Promise<void> {
  const corpusId = base.providerCorpusId;
  if (!corpusId) return;
  if (file.providerSourceId) return removeSource(tx, { base, corpusId }, file.providerSourceId);
  if (!file.askedAt) return;
  const stray = { accountId: base.providerAccountId, corpusId, name: sourceName(file) };
  await enqueue(tx, "knowledge.forget", stray, { key: stray.name, delaySeconds: 2 * answeredAfterSeconds });
}

async function removeSource(tx: Tx, { base, corpusId: parentId }: Pick<Reading, "base" | "corpusId">, id: string) {
  const accountId = base.providerAccountId;
  await enqueue(tx, "upstream.remove", { kind: "source", accountId, parentId, providerId: id });
}
