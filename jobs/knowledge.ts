import { sql } from "drizzle-orm";
import { reopenFile } from "../routers/knowledge/files.ts";
import {
  claimSource,
  expireFile,
  failFile,
  type Reading,
  readingOf,
  readWait,
  recordDocument,
  recordEmpty,
  recordReady,
  recordRefresh,
  recordSource,
  releaseClaim,
  sourceName,
} from "../routers/knowledge/ingestion.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import type { ProviderSource } from "../routers/ports/ultravox.ts";
import { uploadRules } from "../routers/uploads/schema.ts";
import { readUpload } from "../routers/uploads/service.ts";
import { StepRefused } from "./runtime/step-refused.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";
import type { Step, StepResult, Workflow } from "./workflows.ts";

const within = (seconds: number) => ({ signal: AbortSignal.timeout(seconds * 1000) });
/** Ten megabytes from storage and to the provider. */
const uploadSeconds = 120;
const requestSeconds = 20;
const lookSoonSeconds = 2;
const lookSeldomSeconds = 30;
const claimedSeconds = 10;

/** Every step makes sure of the previous ones: a run may be resumed at any step, with their results lost. */
const step = (retryAfterSeconds: readonly number[], run: (ctx: JobContext, reading: Reading) => Promise<StepResult>) =>
  ({
    retryAfterSeconds,
    async run(ctx, { id, subjectId }) {
      const reading = await ctx.asClient(async (tx) => {
        await reopenFile(tx, { runId: id, fileId: subjectId });
        return readingOf(tx, subjectId);
      });
      return reading ? run(ctx, reading) : "done";
    },
  }) satisfies Step;

/** Puts one file, or the pages of one URL, into the provider's corpus. The provider has no events: it is polled. */
export const knowledgeIngest: Workflow<"knowledge-ingest"> = {
  steps: {
    upload: step([5, 30, 120, 300], async (ctx, reading) => {
      await documentOf(ctx, reading);
      return "done";
    }),
    "create-source": step([5, 30, 120, 300], async (ctx, reading) =>
      (await sourceOf(ctx, reading)) ? "done" : { againInSeconds: claimedSeconds },
    ),
    "await-documents": step([5, 15, 30, 60, 120, 120, 120, 120, 120, 120], async (ctx, reading) => {
      if (!(await sourceOf(ctx, reading))) return { againInSeconds: claimedSeconds };
      return look(ctx, reading.file.id);
    }),
  },
  failed: (tx, run, reason) => failFile(tx, run.subjectId, reason),
};

/** The document id at the provider, uploaded if necessary. Returns null for pages, which need none. */
async function documentOf(ctx: JobContext, reading: Reading): Promise<string | null> {
  const { file, base, corpusId, upload } = reading;
  if (file.kind === "url" || file.providerSourceId) return null;
  if (file.providerDocumentId) return file.providerDocumentId;
  if (!upload) throw new StepRefused("The file is no longer in storage. Upload it again.");
  const deadline = within(uploadSeconds);
  const { files, ultravox } = ctx.providers;
  const bytes = await readUpload(files, upload, uploadRules.knowledge_file.maxBytes, deadline);
  ctx.fence.check();
  const { fileName, contentType } = upload;
  const document = { fileName, contentType, bytes };
  const { providerDocumentId } = await ultravox.uploadDocument(base.providerAccountId, corpusId, document, deadline);
  await ctx.asClient((tx) => recordDocument(tx, reading, providerDocumentId));
  return providerDocumentId;
}

/** Makes sure that the provider has the source. Returns false if another run may be creating it now. */
async function sourceOf(ctx: JobContext, reading: Reading): Promise<boolean> {
  if (reading.file.providerSourceId) {
    if (reading.file.askedAt === null) await readAgain(ctx, reading, reading.file.providerSourceId);
    return true;
  }
  const documentId = await documentOf(ctx, reading);
  const claim = await ctx.asClient((tx) => claimSource(tx, reading));
  if (claim === "wait") return false;
  if (claim === "done") return true;
  const found = claim === "look_up_first" ? await sourcesOf(ctx, reading) : [];
  const sources = found.length > 0 ? found : [await createSource(ctx, reading, documentId)];
  await ctx.asClient((tx) => recordSource(tx, reading, sources));
  return true;
}

const sourcesOf = ({ providers }: JobContext, { file, base, corpusId }: Reading): Promise<ProviderSource[]> =>
  providers.ultravox.findSources(base.providerAccountId, corpusId, sourceName(file), within(requestSeconds));

async function createSource(ctx: JobContext, reading: Reading, documentId: string | null): Promise<ProviderSource> {
  const { file, base, corpusId } = reading;
  const { url, maxDepth, maxDocuments } = file;
  const pages = { crawl: { startUrls: [url ?? ""], maxDepth: maxDepth ?? 0, maxDocuments: maxDocuments ?? 1 } };
  const from = documentId === null ? pages : { documentIds: [documentId] };
  ctx.fence.check();
  try {
    const source = { id: sourceName(file), ...from };
    return await ctx.providers.ultravox.createSource(base.providerAccountId, corpusId, source, within(requestSeconds));
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    const isOverloaded = error.kind === "unknown" && error.status === 503;
    const [there] = isOverloaded ? await sourcesOf(ctx, reading) : [];
    if (there) return there;
    if (isOverloaded || error.kind !== "unknown") await ctx.asClient((tx) => releaseClaim(tx, reading));
    throw error;
  }
}

async function readAgain(ctx: JobContext, reading: Reading, sourceId: string) {
  const { base, corpusId } = reading;
  try {
    await ctx.providers.ultravox.refreshSource(base.providerAccountId, corpusId, sourceId, within(requestSeconds));
  } catch (error) {
    if (!(error instanceof ProviderError && error.status === 404)) throw error;
    await gone(ctx, reading);
  }
  await ctx.asClient((tx) => recordRefresh(tx, reading));
}

async function gone(ctx: JobContext, reading: Reading): Promise<never> {
  await ctx.asClient((tx) => recordEmpty(tx, reading));
  throw new StepRefused("The voice provider no longer has this source.");
}

/** The provider has no failed status. A source has failed if it is ready and empty, or not ready in time. */
async function look(ctx: JobContext, fileId: string): Promise<StepResult> {
  const reading = await ctx.asClient((tx) => readingOf(tx, fileId), { mode: "read" });
  const sourceId = reading?.file.providerSourceId;
  if (!reading || !sourceId) return "done";
  const { base, corpusId } = reading;
  const source = await ctx.providers.ultravox.getSource(
    base.providerAccountId,
    corpusId,
    sourceId,
    within(requestSeconds),
  );
  if (!source) return gone(ctx, reading);
  const { seconds, isOver } = await ctx.asClient((tx) => readWait(tx, reading), { mode: "read" });
  // An unknown status is polled like the others. At the deadline the document count decides, not the status.
  const isKept = source.status === "ready" || (source.status === "other" && isOver);
  if (isKept && source.documents > 0) {
    // A create without a response may have made a source too: one of those with this name stays.
    const strays = (await sourcesOf(ctx, reading)).filter(({ providerSourceId }) => providerSourceId !== sourceId);
    await ctx.asClient(async (tx) => {
      await recordSource(tx, reading, strays);
      await recordReady(tx, reading, source.documents);
    });
    return "done";
  }
  if (source.status === "ready") {
    await ctx.asClient((tx) => recordEmpty(tx, reading));
    throw new StepRefused("The voice provider found no readable content in this source.");
  }
  if (isOver) throw new StepRefused("The voice provider did not finish this source in time.");
  return { againInSeconds: Math.min(lookSeldomSeconds, Math.max(lookSoonSeconds, seconds / 4)) };
}

/** Removes a source that may have been created without our receiving the response. */
export const forget: Task<"knowledge.forget"> = {
  async run({ accountId, corpusId, name }, { providers: { ultravox } }) {
    const found = await ultravox
      .findSources(accountId, corpusId, name, within(requestSeconds))
      .catch((error: unknown) => goneWithItsCorpus(error));
    for (const { providerSourceId } of found) {
      await ultravox.deleteSource(accountId, corpusId, providerSourceId, within(requestSeconds));
    }
  },
};

function goneWithItsCorpus(error: unknown): ProviderSource[] {
  if (error instanceof ProviderError && error.status === 404) return [];
  throw error;
}

export const expire: Task<"knowledge.expire"> = {
  run: ({ fileId }, ctx) => ctx.asClient((tx) => expireFile(tx, fileId)),
};

/** Expires files that lost their workflow. A file it takes goes to the end of the queue. */
export const sweep: Task<"knowledge.sweep"> = {
  async run(_payload, ctx) {
    const isLeft = sql`f.status in ('pending', 'ingesting') and f.deadline_at < statement_timestamp()
      and not exists (select from workflow_runs r
        where r.client_id = f.client_id and r.subject_id = f.id and r.status = 'running')`;
    await sweepInto(ctx, "knowledge.sweep", "knowledge.expire", async (tx) => {
      const left = await tx.execute<{ clientId: string; fileId: string }>(sql`
        update knowledge_files f set deadline_at = clock_timestamp()
        from (select f.client_id, f.id from ${roundRobin(
          sql`select f.client_id, f.id, f.deadline_at as due_at from knowledge_files f
            join clients c on c.id = f.client_id and c.status = 'active' where ${isLeft} order by f.deadline_at`,
          500,
        )} first join knowledge_files f on f.client_id = first.client_id and f.id = first.id
          where ${isLeft} for no key update of f skip locked) due
        where f.client_id = due.client_id and f.id = due.id
        returning f.client_id as "clientId", f.id as "fileId"`);
      return left.map(({ clientId, fileId }) => ({ clientId, payload: { fileId }, key: fileId }));
    });
  },
};
