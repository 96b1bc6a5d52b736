import { sql } from "drizzle-orm";
import { recordingKey } from "../routers/calls/artifacts/artifacts.ts";
import {
  endedLately,
  isLongEnoughToSpeak,
  markRecordingMissing,
  removeRecording,
  saveLateTranscript,
  saveRecording,
  startBackfill,
  wantsRecording,
  wantsTranscript,
} from "../routers/calls/artifacts/backfill.ts";
import { fillBatch, readBatch, saveBatch } from "../routers/calls/artifacts/rerun-output.ts";
import { lockCall } from "../routers/calls/service.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";
import type { Workflow } from "./workflows.ts";

/** For the whole of a file, which may be hours long. A connection that sends nothing is closed sooner. */
const copyDeadlineMs = 10 * 60_000;
const requestDeadlineMs = 20_000;
const maxRecordingBytes = 500 * 1024 * 1024;
/** Until then, a call without a recording may be one whose recording is still being made. */
const recordingDelayMinutes = 15;
/** Longer than the schedule of `calls.fetchRecording` takes. */
const ownJobMinutes = 90;

/** Copies the recording of a call into our storage. If the provider has none yet, the attempt fails and is retried. */
export const fetchRecording: Task<"calls.fetchRecording"> = {
  async run({ callId }, ctx) {
    const outcome = await copyRecording(ctx, callId);
    if (outcome === "waiting") throw new Error("The provider does not have the recording of this call yet.");
    if (outcome === "none") await giveUpRecording(ctx, callId, "the provider has none");
  },
  onExhausted: ({ callId }, ctx, error) => giveUpRecording(ctx, callId, error.message),
};

async function giveUpRecording(ctx: JobContext, callId: string, reason: string) {
  if (await ctx.asClient((tx) => markRecordingMissing(tx, callId)))
    ctx.log.warn({ call_id: callId, reason }, "recording missing");
}

/**
 * Streams the recording from the provider into storage, where it becomes visible only when complete, then updates the row.
 * A crash in between leaves at most one object without a row. The next attempt writes the same object again.
 */
async function copyRecording(ctx: JobContext, callId: string): Promise<"done" | "waiting" | "none"> {
  const { call, isFresh } = await ctx.asClient(async (tx) => {
    const call = await lockCall(tx, callId);
    if (call.recordingStatus === "erased") await removeRecording(tx, call); // it was erased during the copy
    return { call, isFresh: await endedLately(tx, callId, recordingDelayMinutes) };
  });
  if (!wantsRecording(call) || !call.providerCallId) return "done";
  const finished = new AbortController();
  const signal = AbortSignal.any([ctx.signal, finished.signal, AbortSignal.timeout(copyDeadlineMs)]);
  try {
    const file = await ctx.providers.ultravox.getRecording(call.providerAccountId, call.providerCallId, { signal });
    if (file === "not_ready") return "waiting";
    if (file === "none") return isFresh ? "waiting" : "none";
    ctx.fence.check();
    const about = { contentType: "audio/wav", maxBytes: maxRecordingBytes };
    const { bytes } = await ctx.providers.files.put(recordingKey(call), file.chunks, about, { signal });
    if (bytes === 0 || (file.bytes !== null && bytes !== file.bytes))
      throw new Error(`The recording is incomplete: received ${bytes} of ${file.bytes ?? "unknown"} bytes.`);
    await ctx.asClient((tx) => saveRecording(tx, callId, bytes));
    return "done";
  } finally {
    finished.abort(); // closes the connection of a response that was not read to its end
  }
}

/** Fetches the artifacts of a call again, when they did not arrive in time. */
export const artifactsBackfill: Workflow<"artifacts-backfill"> = {
  steps: {
    transcript: {
      retryAfterSeconds: [5, 30, 120],
      async run(ctx, { subjectId: callId }) {
        const call = await ctx.asClient((tx) => lockCall(tx, callId));
        if (!wantsTranscript(call) || !call.providerCallId) return "done";
        const deadline = { signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(requestDeadlineMs)]) };
        const { ultravox } = ctx.providers;
        const messages = await ultravox
          .listMessages(call.providerAccountId, call.providerCallId, deadline)
          .catch(goneIsNull);
        // The recording may exist without messages. The next sweep tries again.
        if (messages === null || (messages.length === 0 && isLongEnoughToSpeak(call))) return "done";
        ctx.fence.check();
        await ctx.asClient((tx) => saveLateTranscript(tx, callId, messages));
        return "done";
      },
    },
    recording: {
      retryAfterSeconds: [5, 30, 120, 600],
      async run(ctx, { subjectId: callId }) {
        if ((await copyRecording(ctx, callId)) === "done") return "done";
        // While the call's own job still retries, that job gives up the recording.
        const isFresh = await ctx.asClient((tx) => endedLately(tx, callId, ownJobMinutes));
        if (!isFresh) await giveUpRecording(ctx, callId, "the provider has none");
        return "done";
      },
    },
  },
  async failed() {},
};

const rerunBudgetMs = 20_000;
const rerunBatchSize = 50;

/** Recomputes the outputs of calls, batch by batch. After its time budget the step is postponed, so that other jobs run. */
export const outputRerun: Workflow<"output-rerun"> = {
  steps: {
    recompute: {
      retryAfterSeconds: [5, 30, 120, 600],
      async run(ctx, { id }) {
        const until = performance.now() + rerunBudgetMs;
        while (performance.now() < until && !ctx.signal.aborted) {
          const read = await ctx.asClient((tx) => readBatch(tx, id, rerunBatchSize));
          if (!read) return "done";
          const outputs = await fillBatch(read);
          ctx.fence.check();
          await ctx.asClient((tx) => saveBatch(tx, id, read, outputs));
          if (read.isLast) return "done";
        }
        return { againInSeconds: 0 };
      },
    },
  },
  async failed() {},
};

/** Returns null when the provider no longer has the call. */
function goneIsNull(error: unknown): null {
  if (error instanceof ProviderError && error.kind === "refused" && error.status === 404) return null;
  throw error;
}

export const backfill: Task<"artifacts.backfill"> = {
  run: ({ callId }, ctx) =>
    ctx.asClient(async (tx) => {
      const call = await lockCall(tx, callId);
      if (wantsTranscript(call) || wantsRecording(call)) await startBackfill(tx, callId);
    }),
};

/**
 * sf-artifacts-backfill. A call is retried at most every six hours and ten times, within thirty days after its end.
 */
export const sweep: Task<"artifacts.sweep"> = {
  async run(_payload, ctx) {
    await sweepInto(ctx, "artifacts.sweep", "artifacts.backfill", async (tx) => {
      const due = await tx.execute<{ clientId: string; callId: string }>(sql`
        select client_id as "clientId", id as "callId" from ${roundRobin(
          sql`select c.client_id, c.id, clock_timestamp() - c.ended_at as due_at
        from calls c join clients owner on owner.id = c.client_id and owner.status = 'active' cross join lateral (
          select count(*) as runs, max(created_at) as latest from workflow_runs w
          where w.client_id = c.client_id and w.subject_id = c.id and w.name = 'artifacts-backfill') past
        where (c.recording_status in ('pending', 'missing')
            or c.transcript_status in ('pending', 'missing') and c.joined_at is not null)
          and c.status = 'ended' and c.provider_call_id is not null
          and c.ended_at between now() - interval '30 days' and now() - interval '15 minutes'
          and past.runs < 10 and (past.latest is null or past.latest < now() - interval '6 hours')
        order by c.ended_at desc`,
          500,
        )} due`);
      return due.map(({ clientId, callId }) => ({ clientId, payload: { callId }, key: callId }));
    });
  },
};
