import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { enqueue } from "../db/queue.ts";
import { uploads } from "../db/schema/files.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import type { ProviderVoice } from "../routers/ports/ultravox.ts";
import { readUpload } from "../routers/uploads/service.ts";
import { readVoiceRow, removeUpstream, type VoiceRow } from "../routers/voices/row.ts";
import { joinSamples, maxSampleBytes, type Sample } from "../routers/voices/samples.ts";
import {
  beginTraining,
  failUnfinishedVoice,
  failVoice,
  finishTraining,
  hasRunningWorkflow,
} from "../routers/voices/training.ts";
import { definitionOf, isVoiceUnknown } from "./external-voices.ts";
import { StepRefused } from "./runtime/step-refused.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";
import type { Step, Workflow } from "./workflows.ts";

/** A clone is made while we wait: the upload, and the provider's processing. */
const cloneMs = 60_000;
const requestMs = 20_000;
const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

const readVoice = (ctx: JobContext, id: string) => ctx.asClient((tx) => readVoiceRow(tx, id), { mode: "read" });

/** Refuses a voice that is deleted, or that has failed and whose credits were returned. */
function wanted(row: VoiceRow | null): VoiceRow {
  if (row && row.status !== "deleted" && row.status !== "failed") return row;
  throw new StepRefused(`The voice is ${row?.status ?? "gone"}. Create it again.`);
}

const fetchSamples: Step = {
  retryAfterSeconds: [5, 30, 120, 300],
  async run(ctx, { subjectId }) {
    const row = wanted(await readVoice(ctx, subjectId));
    if (row.status === "pending") await readSample(ctx, row);
    return "done";
  },
};

/** The sample to upload. Each step reads it again: no part of it is stored. */
async function readSample(ctx: JobContext, { sampleIds }: VoiceRow): Promise<Sample> {
  const rows = await ctx.asClient((tx) => tx.select().from(uploads).where(oneOf(sampleIds)), { mode: "read" });
  const deadline = within(cloneMs);
  const read = sampleIds.map(async (id) => {
    const row = rows.find((each) => each.id === id);
    if (!row) throw new StepRefused(`The sample ${id} is gone.`);
    return { fileName: row.fileName, bytes: await readUpload(ctx.providers.files, row, maxSampleBytes, deadline) };
  });
  const sample = joinSamples(await Promise.all(read));
  if ("refused" in sample) throw new StepRefused(sample.refused);
  return sample;
}

const oneOf = (ids: readonly string[]) => sql`${uploads.id} = any(string_to_array(${ids.join(",")}::text, ','))`;

/**
 * Creates a voice at the provider, named by our id. It is looked up before every attempt, because an interrupted attempt
 * may have created it. The name is unique in the account, so the lookup and the attempt need not be atomic.
 */
function making(make: (ctx: JobContext, row: VoiceRow) => Promise<ProviderVoice>): Step["run"] {
  return async (ctx, { subjectId }) => {
    const row = wanted(await ctx.asClient((tx) => beginTraining(tx, subjectId)));
    if (row.status === "active") return "done";
    const voice = (await findCopy(ctx, row)) ?? (await tryMaking(ctx, row, make));
    await ctx.asClient((tx) => finishTraining(tx, row.id, voice.providerVoiceId));
    return "done";
  };
}

async function tryMaking(
  ctx: JobContext,
  row: VoiceRow,
  make: (ctx: JobContext, row: VoiceRow) => Promise<ProviderVoice>,
): Promise<ProviderVoice> {
  try {
    return await make(ctx, row);
  } catch (error) {
    // The name was taken by an earlier attempt of ours that succeeded late.
    const late = error instanceof ProviderError && error.kind === "refused" ? await findCopy(ctx, row) : null;
    if (late) return late;
    throw error;
  }
}

/** The provider's copy by its name. Duplicates are removed. */
async function findCopy(ctx: JobContext, row: VoiceRow): Promise<ProviderVoice | null> {
  ctx.fence.check();
  const found = await ctx.providers.ultravox.findVoices(row.providerAccountId, row.id, within(requestMs));
  const [first, ...others] = found;
  if (others.length > 0) {
    await ctx.asClient(async (tx) => {
      for (const { providerVoiceId } of others) await removeUpstream(tx, row, providerVoiceId);
    });
  }
  return first ?? null;
}

const train: Step = {
  retryAfterSeconds: [5, 30, 120, 300, 900],
  run: making(async (ctx, row) => {
    const { id, language, description, providerAccountId } = row;
    const sample = await readSample(ctx, row);
    ctx.fence.check();
    const request = { id, sample, language, description };
    return ctx.providers.ultravox.cloneVoice(providerAccountId, request, within(cloneMs));
  }),
};

export const voiceCloneNative: Workflow<"voice-clone-native"> = {
  steps: { "fetch-samples": fetchSamples, train },
  failed: (tx, { subjectId }, reason) => failUnfinishedVoice(tx, subjectId, reason),
};

/** Checks with the TTS provider that the client's key has the voice. If it is unavailable, the check passes. */
const checkCredential: Step = {
  retryAfterSeconds: [5, 30, 120, 300],
  async run(ctx, { subjectId }) {
    const row = wanted(await readVoice(ctx, subjectId));
    if (row.status !== "pending") return "done";
    const problem = await isVoiceUnknown(ctx, row, within(requestMs));
    if (problem) throw new StepRefused(problem);
    return "done";
  },
};

const register: Step = {
  retryAfterSeconds: [5, 30, 120, 300, 900],
  run: making(async (ctx, row) => {
    const { id, language, description, providerAccountId } = row;
    const definition = await definitionOf(ctx, row, within(requestMs));
    ctx.fence.check();
    const request = { id, definition, language, description };
    return ctx.providers.ultravox.registerVoice(providerAccountId, request, within(requestMs));
  }),
};

export const voiceCloneExternal: Workflow<"voice-clone-external"> = {
  steps: { "check-credential": checkCredential, register },
  failed: (tx, { subjectId }, reason) => failUnfinishedVoice(tx, subjectId, reason),
};

/** Sends the present values, however often they changed meanwhile. */
export const sync: Task<"voices.sync"> = {
  async run({ voiceId }, ctx) {
    const row = await readVoice(ctx, voiceId);
    if (row?.status !== "active" || !row.providerVoiceId) return;
    const { language, description, providerAccountId } = row;
    const definition =
      row.kind === "external" ? await definitionOf(ctx, row, within(requestMs)).catch(ifRefused) : null;
    if (definition instanceof StepRefused) {
      ctx.log.warn({ voice_id: voiceId, err: definition }, "voice not updated at the provider");
      return;
    }
    const change = { language, description, ...(definition && { definition }) };
    ctx.fence.check();
    await ctx.providers.ultravox.updateVoice(providerAccountId, row.providerVoiceId, change, within(requestMs));
  },
};

/** A retry would not help: the provider keeps its present version of the voice. */
function ifRefused(error: unknown): StepRefused {
  if (error instanceof StepRefused) return error;
  throw error;
}

const lookAgainSeconds = 600;

export const clear: Task<"voices.clear"> = {
  async run({ voiceId, accountId, looksLeft }, ctx) {
    const row = await readVoice(ctx, voiceId);
    if (row?.status === "active") return;
    const { ultravox } = ctx.providers;
    for (const { providerVoiceId } of await ultravox.findVoices(accountId, voiceId, within(requestMs))) {
      ctx.fence.check();
      await ultravox.deleteVoice(accountId, providerVoiceId, within(requestMs));
    }
    if (looksLeft <= 1) return;
    const again = { voiceId, accountId, looksLeft: looksLeft - 1 };
    await ctx.asClient((tx) => enqueue(tx, "voices.clear", again, { key: voiceId, delaySeconds: lookAgainSeconds }));
  },
};

export const check: Task<"voices.check"> = {
  async run({ voiceId }, ctx) {
    const row = await readVoice(ctx, voiceId);
    if (row?.status === "active" && row.providerVoiceId) {
      const { ultravox } = ctx.providers;
      const there = await ultravox.getVoice(row.providerAccountId, row.providerVoiceId, within(requestMs));
      if (there) return;
      await ctx.asClient((tx) =>
        failVoice(tx, voiceId, "The voice provider no longer has this voice. Create it again."),
      );
      ctx.log.warn({ voice_id: voiceId }, "voice missing at the provider");
    }
    if (row?.status === "pending" || row?.status === "training") await finishAbandoned(ctx, row);
  },
};

/** Its workflow has ended without a result: the voice becomes active if the provider has it, and fails otherwise. */
async function finishAbandoned(ctx: JobContext, row: VoiceRow) {
  if (await ctx.asClient((tx) => hasRunningWorkflow(tx, row.id), { mode: "read" })) return;
  const voice = row.status === "training" ? await findCopy(ctx, row) : null;
  await ctx.asClient(async (tx) => {
    if (await hasRunningWorkflow(tx, row.id)) return;
    if (voice) await finishTraining(tx, row.id, voice.providerVoiceId);
    else await failVoice(tx, row.id, "The creation of this voice ended without a result. Create it again.");
  });
}

/** retry-voice-status. The voices checked longest ago come first; a voice it takes goes to the end of the queue. */
export const sweep: Task<"voices.sweep"> = {
  async run(_, ctx) {
    const isLeft = sql`v.status in ('pending', 'training') and v.updated_at < statement_timestamp() - interval '5 minutes'
      and not exists (select from workflow_runs r
        where r.client_id = v.client_id and r.subject_id = v.id and r.status = 'running')`;
    const isUnseen = sql`v.status = 'active' and v.checked_at < clock_timestamp() - interval '1 day'`;
    const take = (tx: Tx, which: SQL, due: SQL, limit: number) =>
      tx.execute<{ clientId: string; id: string }>(sql`
        update voices v set checked_at = clock_timestamp()
        from (select v.client_id, v.id from ${roundRobin(
          sql`select v.client_id, v.id, ${due} as due_at from voices v where ${which} order by due_at`,
          limit,
        )} first join voices v on v.client_id = first.client_id and v.id = first.id
          where ${which} for no key update of v skip locked) due
        where v.client_id = due.client_id and v.id = due.id
        returning v.client_id as "clientId", v.id`);
    await sweepInto(ctx, "voices.sweep", "voices.check", async (tx) => {
      const left = await take(tx, isLeft, sql`coalesce(v.checked_at, '-infinity')`, 500);
      const unseen = await take(tx, isUnseen, sql`v.checked_at`, 200);
      return [...left, ...unseen].map(({ clientId, id }) => ({ clientId, payload: { voiceId: id }, key: id }));
    });
  },
};
