import type { Tx } from "../db/client.ts";
import { enqueueFor, jobs } from "../db/queue.ts";
import { applyAlone, type IngressRef, loadWaiting, markMessages } from "../routers/ingress/messages.ts";
import { KeysUnavailable } from "../routers/ports/vault.ts";
import { type Applied, applyUnit, type Failed } from "./ingress-apply.ts";
import { planMessages, unitsOf } from "./ingress-plan.ts";
import { inParallel } from "./runtime/in-parallel.ts";
import { type JobContext, keylessSeconds, retryDelaySeconds, type Task } from "./runtime/task.ts";

/** Transactions of one job at a time. Another job's messages need connections too. */
const unitsAtATime = 8;

/** Applies a provider's message, in any order and any number of times: a call only moves forward. */
export const apply: Task<"ingress.apply"> = {
  async run(ref, ctx) {
    const [failed] = await applyMessages([ref], ctx);
    if (failed) throw failed.error;
  },

  async onExhausted(ref, ctx, error) {
    const mark = { status: "failed", note: error.message.slice(0, 500) } as const;
    await ctx.asSystem((tx) => markMessages(tx, [{ ref, mark }]));
  },
};

/**
 * Applies messages that arrived together, in few transactions. One that fails gets a job of its own, with its own retries.
 * After a worker has died in it, every message does: one of them may be what killed the worker.
 */
export const applyBatch: Task<"ingress.applyBatch"> = {
  async run({ messages }, ctx) {
    if (ctx.lostRuns > 0) return queueEach(messages, ctx);
    await applyMessages(messages, ctx, retryAlone);
  },

  /** The database was unavailable for all this time: none of the messages is to blame. */
  onExhausted: ({ messages }, ctx) => queueEach(messages, ctx),
};

async function queueEach(refs: readonly IngressRef[], ctx: JobContext) {
  await ctx.asSystem((tx) => Promise.all(refs.map((ref) => applyAlone(tx, ref))));
}

type OnFailure = (tx: Tx, failed: Failed) => Promise<void>;
type Results = { applied: Applied[]; failed: Failed[] };

/** Applies messages and records what became of them. Returns those that failed; they still wait to be applied. */
async function applyMessages(refs: readonly IngressRef[], ctx: JobContext, onFailure?: OnFailure): Promise<Failed[]> {
  const { applied, units } = await ctx.asSystem(async (tx) => {
    const planned = await planMessages(tx, await loadWaiting(tx, refs), ctx.providers);
    const known = planned.flatMap(({ message: ref, plan }): Applied[] => ("mark" in plan ? [{ ref, ...plan }] : []));
    const units = unitsOf(planned);
    if (units.length === 0) await record(tx, { applied: known, failed: [] });
    return { applied: known, units };
  });
  if (units.length === 0) return [];
  const failed: Failed[] = [];
  await inParallel(unitsAtATime, units, async (unit) => {
    for (const result of await applyUnit(unit, ctx)) {
      if ("mark" in result) applied.push(result);
      else failed.push(result);
    }
  });
  if (applied.length > 0 || onFailure) await ctx.asSystem((tx) => record(tx, { applied, failed }, onFailure));
  if (onFailure)
    for (const { ref, error } of failed)
      ctx.log.warn({ ingress_id: ref.ingressId, err: error }, "provider message not applied; will retry");
  return failed;
}

async function record(tx: Tx, { applied, failed }: Results, onFailure?: OnFailure) {
  const refreshed = applied.flatMap(({ refresh }) => refresh ?? []);
  await Promise.all([
    markMessages(tx, applied),
    ...refreshed.map(({ clientId, callId }) => enqueueFor(tx, clientId, "calls.refresh", { callId }, { key: callId })),
    ...(onFailure ? failed.map((each) => onFailure(tx, each)) : []),
  ]);
}

/** The next attempt of a message that failed in its batch. Without keys of the vault, no attempt was made. */
const retryAlone: OnFailure = (tx, { ref, error }) =>
  error instanceof KeysUnavailable
    ? applyAlone(tx, ref, { delaySeconds: keylessSeconds })
    : applyAlone(tx, ref, {
        attempt: 1,
        delaySeconds: retryDelaySeconds(jobs["ingress.apply"].retryAfterSeconds, 0),
      });
