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

/** A clone is made while we wait: the upload, and what the provider does with it. */
const makeMs = 60_000;
const askMs = 20_000;
const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

const readVoice = (ctx: JobContext, id: string) => ctx.asClient((tx) => readVoiceRow(tx, id), { mode: "read" });

/** Nobody waits for a voice that is deleted, or has failed and has its credits back. */
function wanted(row: VoiceRow | null): VoiceRow {
  if (row && row.status !== "deleted" && row.status !== "failed") return row;
  throw new StepRefused(`The voice is ${row?.status ?? "gone"}: make it anew.`);
}

const fetchSamples: Step = {
  retryAfterSeconds: [5, 30, 120, 300],
  async run(ctx, { subjectId }) {
    const row = wanted(await readVoice(ctx, subjectId));
    if (row.status === "pending") await readSample(ctx, row);
    return "done";
  },
};

/** What will be uploaded. Read anew by each step that needs it: no half of it is kept anywhere. */
async function readSample(ctx: JobContext, { sampleIds }: VoiceRow): Promise<Sample> {
  const rows = await ctx.asClient((tx) => tx.select().from(uploads).where(oneOf(sampleIds)), { mode: "read" });
  const deadline = within(makeMs);
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
 * Makes a voice at the provider, whose name there is our id. Before every attempt it is looked for: an attempt that was
 * cut off may have made it. The name is unique in the account, so the look and the attempt need not be one.
 */
function making(make: (ctx: JobContext, row: VoiceRow) => Promise<ProviderVoice>): Step["run"] {
  return async (ctx, { subjectId }) => {
    const row = wanted(await ctx.asClient((tx) => beginTraining(tx, subjectId)));
    if (row.status === "active") return "done";
    const voice = (await lookFor(ctx, row)) ?? (await tryMaking(ctx, row, make));
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
    // A name that is taken was taken by an earlier attempt of ours that came through late.
    const late = error instanceof ProviderError && error.kind === "refused" ? await lookFor(ctx, row) : null;
    if (late) return late;
    throw error;
  }
}

/** The provider's copy by its name; should there be others, they go. */
async function lookFor(ctx: JobContext, row: VoiceRow): Promise<ProviderVoice | null> {
  ctx.fence.check();
  const found = await ctx.providers.ultravox.findVoices(row.providerAccountId, row.id, within(askMs));
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
    const asked = { id, sample, language, description };
    return ctx.providers.ultravox.cloneVoice(providerAccountId, asked, within(makeMs));
  }),
};

export const voiceCloneNative: Workflow<"voice-clone-native"> = {
  steps: { "fetch-samples": fetchSamples, train },
  failed: (tx, { subjectId }, reason) => failUnfinishedVoice(tx, subjectId, reason),
};

/** The company itself is asked whether the client's key opens that voice; one that cannot be asked is believed. */
const checkCredential: Step = {
  retryAfterSeconds: [5, 30, 120, 300],
  async run(ctx, { subjectId }) {
    const row = wanted(await readVoice(ctx, subjectId));
    if (row.status !== "pending") return "done";
    const problem = await isVoiceUnknown(ctx, row, within(askMs));
    if (problem) throw new StepRefused(problem);
    return "done";
  },
};

const register: Step = {
  retryAfterSeconds: [5, 30, 120, 300, 900],
  run: making(async (ctx, row) => {
    const { id, language, description, providerAccountId } = row;
    const definition = await definitionOf(ctx, row, within(askMs));
    ctx.fence.check();
    const asked = { id, definition, language, description };
    return ctx.providers.ultravox.registerVoice(providerAccountId, asked, within(askMs));
  }),
};

export const voiceCloneExternal: Workflow<"voice-clone-external"> = {
  steps: { "check-credential": checkCredential, register },
  failed: (tx, { subjectId }, reason) => failUnfinishedVoice(tx, subjectId, reason),
};

/** Sends what stands here now, however often it was changed meanwhile. */
export const sync: Task<"voices.sync"> = {
  async run({ voiceId }, ctx) {
    const row = await readVoice(ctx, voiceId);
    if (row?.status !== "active" || !row.providerVoiceId) return;
    const { language, description, providerAccountId } = row;
    const definition = row.kind === "external" ? await definitionOf(ctx, row, within(askMs)).catch(ifRefused) : null;
    if (definition instanceof StepRefused) {
      ctx.log.warn({ voice_id: voiceId, err: definition }, "a voice cannot be told to the provider as it stands");
      return;
    }
    const change = { language, description, ...(definition && { definition }) };
    ctx.fence.check();
    await ctx.providers.ultravox.updateVoice(providerAccountId, row.providerVoiceId, change, within(askMs));
  },
};

/** Trying again would not help: the voice goes on as the provider knows it. */
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
    for (const { providerVoiceId } of await ultravox.findVoices(accountId, voiceId, within(askMs))) {
      ctx.fence.check();
      await ultravox.deleteVoice(accountId, providerVoiceId, within(askMs));
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
      const there = await ultravox.getVoice(row.providerAccountId, row.providerVoiceId, within(askMs));
      if (there) return;
      await ctx.asClient((tx) => failVoice(tx, voiceId, "The voice is gone at the voice provider."));
      ctx.log.warn({ voice_id: voiceId }, "a voice is gone at the provider");
    }
    if (row?.status === "pending" || row?.status === "training") await putRight(ctx, row);
  },
};

/** Its workflow is over and has left it behind: what the provider has of it counts. */
async function putRight(ctx: JobContext, row: VoiceRow) {
  if (await ctx.asClient((tx) => hasRunningWorkflow(tx, row.id), { mode: "read" })) return;
  const voice = row.status === "training" ? await lookFor(ctx, row) : null;
  await ctx.asClient(async (tx) => {
    if (await hasRunningWorkflow(tx, row.id)) return;
    if (voice) await finishTraining(tx, row.id, voice.providerVoiceId);
    else await failVoice(tx, row.id, "The making of this voice ended without a result. Make it anew.");
  });
}

/** retry-voice-status. Those that were looked for longest ago go first; what it takes goes to the end of the line. */
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
