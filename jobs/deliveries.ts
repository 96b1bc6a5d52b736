import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { enqueue, jobs } from "../db/queue.ts";
import { eventEnvelope } from "../routers/events/service.ts";
import type { Cipher } from "../routers/ports/vault.ts";
import { SendFailed, type WebhookRequest } from "../routers/ports/webhook-sender.ts";
import { dispatchLimits } from "../routers/webhooks/deliveries/dispatch.ts";
import type { LoadedDelivery } from "../routers/webhooks/deliveries/loaded-delivery.ts";
import { messageTo, type Recipient } from "../routers/webhooks/deliveries/message.ts";
import type { Attempt, AttemptResult } from "../routers/webhooks/deliveries/record-attempts.ts";
import { nextAttemptInSeconds } from "../routers/webhooks/deliveries/schedule.ts";
import { hideHeaders, openHeaders } from "../routers/webhooks/endpoints/headers.ts";
import { batchersOf } from "./delivery-batchers.ts";
import { isRowError } from "./runtime/batcher.ts";
import { deadline } from "./runtime/deadline.ts";
import { runAll } from "./runtime/run-all.ts";
import type { JobContext, Task } from "./runtime/task.ts";

type Timing = Partial<Sending> & { takesForMs?: number };

/**
 * A batch of one client's deliveries: sent concurrently, with no transaction open, and recorded as the responses arrive. Each
 * result takes the next due delivery of its endpoint into the batch, so that a backlog needs no job for each delivery. After
 * `takesForMs` the next ones are left to new jobs: a batch ends, so that a stopping worker does not wait for it.
 */
export function deliverWithin({
  deadlineMs = dispatchLimits.deadlineSeconds * 1000,
  random = Math.random,
  takesForMs = 10_000,
}: Timing = {}) {
  const task: Task<"webhooks.deliver"> = {
    async run({ deliveries }, ctx) {
      const { find } = batchersOf(ctx);
      const until = performance.now() + takesForMs;
      const found = await Promise.all(deliveries.map((one) => find({ clientId: clientOf(ctx), ...one })));
      const held = new Set(found.filter((one) => one !== null)); // the others are over, or another job has them
      await runAll([...held], async (one) => {
        const sent = deliverOne(ctx, one, { deadlineMs, random });
        const result = await (held.has(one) ? sent : sent.catch((error: unknown) => toOwnJob(ctx, one, error)));
        if (result === null || isDeferred(result)) return []; // the next delivery would find the same
        return await takeNext(ctx, one, until);
      });
    },

    /** The deliveries wait in their rows. If the job waited, the leases would expire, and a second job would be queued. */
    async requeue({ deliveries }, ctx) {
      const { release } = batchersOf(ctx);
      await Promise.all(deliveries.map((one) => release({ clientId: clientOf(ctx), ...one })));
    },
  };
  return task;
}

export const deliver = deliverWithin();

function clientOf({ clientId }: JobContext): string {
  if (clientId === null) throw new Error("A delivery job belongs to a client.");
  return clientId;
}

/** No attempt was made, and the delivery is tried again later. */
const isDeferred = ({ attempt, outcome }: AttemptResult) => attempt === null && outcome.status === "pending";

type Sending = { deadlineMs: number; random: () => number };

/** Sends a delivery and records its result. null: nothing was sent, and the slot was given back. */
async function deliverOne(ctx: JobContext, found: LoadedDelivery, options: Sending): Promise<AttemptResult | null> {
  const { sending, pace } = batchersOf(ctx);
  const { draining } = ctx.pool;
  if (!(await sending.enter(draining))) return await giveBack(ctx, found);
  try {
    const { endpointId, ratePerSecond: rate } = found;
    if (rate !== null && !(await pace(endpointId, rate, draining))) return await giveBack(ctx, found);
    const result = await attemptOf(ctx, found, options);
    await recordAttempt(ctx, found, result);
    return result;
  } catch (error) {
    if (ctx.signal.aborted) await giveBack(ctx, found);
    throw error;
  } finally {
    sending.leave();
  }
}

/** The sweep reserves the slot again, for any worker. A fenced pool cannot write: then the lease expires. */
async function giveBack(ctx: JobContext, found: LoadedDelivery): Promise<null> {
  await batchersOf(ctx).release(found);
  return null;
}

/** A delivery that this job took is not in its payload, so the retries of this job would not find it. */
async function toOwnJob(ctx: JobContext, { deliveryId, claim }: LoadedDelivery, err: unknown): Promise<null> {
  ctx.fence.check();
  if (ctx.signal.aborted) throw err;
  ctx.log.warn({ err, delivery_id: deliveryId }, "delivery failed; its own job will retry");
  const delaySeconds = jobs["webhooks.deliver"].retryAfterSeconds[0];
  await ctx.asClient((tx) =>
    enqueue(tx, "webhooks.deliver", { deliveries: [{ deliveryId, claim }] }, { delaySeconds, attempt: 1 }),
  );
  return null;
}

async function attemptOf(
  ctx: JobContext,
  found: LoadedDelivery,
  { deadlineMs, random }: Sending,
): Promise<AttemptResult> {
  const obstacle = obstacleTo(found);
  if (obstacle) return { attempt: null, outcome: { status: "dead", error: obstacle } };
  const made = await requestFor(ctx, found);
  if (!made) {
    const inSeconds = dispatchLimits.deferSeconds * (1 + 0.2 * random());
    return { attempt: null, outcome: { status: "pending", inSeconds, error: "key_unavailable" } };
  }
  ctx.fence.check();
  const { attempt, retryAfterSeconds } = await post(ctx, made.request, deadlineMs);
  ctx.fence.check();
  const attempts = found.attempts - found.scheduleFrom + 1;
  return {
    attempt: withoutHeaders(attempt, found.recipient, made.cipher),
    outcome: outcomeOf(attempt, attempts, retryAfterSeconds, random()),
  };
}

/**
 * Gives the free slot to the next due delivery of the client, to be sent in this batch. Late in the batch it is queued, and
 * nobody waits for that. If it fails, the sweep does it.
 */
async function takeNext(ctx: JobContext, { clientId, endpointId }: LoadedDelivery, until: number) {
  const { take, admit } = batchersOf(ctx);
  const failure = "delivery slot not passed on; the sweep will do it";
  if (performance.now() > until || ctx.pool.draining.aborted) {
    ctx.inBackground(admit({ clientId, endpointId }), failure);
    return [];
  }
  return await take({ clientId, endpointId }).catch((err: unknown) => {
    ctx.fence.check();
    ctx.log.warn({ err }, failure);
    return [];
  });
}

/** How long a result waits for the database: as long as the admission is valid, with some time left for the next steps. */
const recordBudgetMs = 30_000;
const recordRetryMs = 250;

/**
 * Records the result of an attempt. The receiver has the message already: if the job stopped retrying because the database is
 * unavailable, the message would be sent twice. So the write is retried for as long as the admission lasts; the claim
 * prevents a second write after an earlier one has committed.
 */
async function recordAttempt(ctx: JobContext, found: LoadedDelivery, result: AttemptResult): Promise<void> {
  const { record } = batchersOf(ctx);
  const { clientId, deliveryId, endpointId, claim } = found;
  const until = performance.now() + recordBudgetMs;
  while (!(await record({ clientId, deliveryId, endpointId, claim, ...result }).then(logStale, throwUnlessTransient)))
    await sleep(recordRetryMs * (1 + Math.random()));

  function logStale(isWritten: boolean): true {
    if (!isWritten) ctx.log.warn({ delivery_id: deliveryId, claim }, "attempt not recorded; its claim has expired");
    return true;
  }

  function throwUnlessTransient(error: unknown): false {
    ctx.fence.check();
    if (isRowError(error) || ctx.signal.aborted || performance.now() > until) throw error;
    return false;
  }
}

function obstacleTo({ endpointStatus, event }: LoadedDelivery): string | null {
  if (endpointStatus !== "enabled") return `endpoint_${endpointStatus}`;
  return event ? null : "event_expired";
}

/** The signed request and its keys, or null when the key service is unavailable. */
async function requestFor(ctx: JobContext, { recipient, event }: LoadedDelivery) {
  if (!event) return null;
  const cipher = await ctx.providers.vault.keys(event.clientId, "webhook_secret").catch((error: unknown) => {
    ctx.log.warn({ err: error, endpoint_id: recipient.id }, "key service unavailable; the delivery waits");
    return null;
  });
  return cipher && { cipher, request: messageTo(recipient, eventEnvelope(event), cipher, new Date()) };
}

/** A receiver may echo its request. The secret headers are masked in the stored response. */
function withoutHeaders(attempt: Attempt, { id, headers }: Recipient, cipher: Cipher): Attempt {
  if (headers === null || attempt.response === null) return attempt;
  return { ...attempt, response: hideHeaders(attempt.response, openHeaders(headers, id, cipher)) };
}

type Posted = { attempt: Attempt; retryAfterSeconds: number | null };

async function post(ctx: JobContext, request: WebhookRequest, deadlineMs: number): Promise<Posted> {
  const { signal, done } = deadline(ctx.signal, deadlineMs);
  const began = performance.now();
  try {
    const { status, latencyMs, response, retryAfterSeconds } = await ctx.providers.webhooks.send(request, { signal });
    const error = status >= 300 && status < 400 ? "redirect_not_followed" : null;
    return { attempt: { status, error, latencyMs, response }, retryAfterSeconds };
  } catch (error) {
    // Our own abort is no failure of the receiver: the queue tries again.
    if (ctx.signal.aborted || !(error instanceof SendFailed)) throw error;
    const latencyMs = Math.round(performance.now() - began);
    return { attempt: { status: null, error: error.reason, latencyMs, response: null }, retryAfterSeconds: null };
  } finally {
    done();
  }
}

function outcomeOf(
  { status }: Attempt,
  attemptNumber: number,
  retryAfterSeconds: number | null,
  random: number,
): AttemptResult["outcome"] {
  if (status !== null && status >= 200 && status < 300) return { status: "delivered" };
  if (status === 410) return { status: "dead", error: "gone" };
  const inSeconds = nextAttemptInSeconds(attemptNumber, { retryAfterSeconds, random });
  return inSeconds === null ? { status: "dead" } : { status: "pending", inSeconds };
}
