import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { eventEnvelope } from "../routers/events/service.ts";
import type { Cipher } from "../routers/ports/vault.ts";
import { SendFailed, type WebhookRequest } from "../routers/ports/webhook-sender.ts";
import { clearSetApart, listSetApartSubjects } from "../routers/set-apart/service.ts";
import {
  clientsWithWork,
  dispatchLimits,
  leadSweep,
  queueLagSeconds,
  refill,
} from "../routers/webhooks/deliveries/dispatch.ts";
import type { LoadedDelivery } from "../routers/webhooks/deliveries/load-deliveries.ts";
import { messageTo, type Recipient } from "../routers/webhooks/deliveries/message.ts";
import type { Attempt, AttemptResult, Reservation } from "../routers/webhooks/deliveries/record-attempts.ts";
import { nextAttemptInSeconds } from "../routers/webhooks/deliveries/schedule.ts";
import { releaseSlot } from "../routers/webhooks/deliveries/slots.ts";
import { hideHeaders, openHeaders } from "../routers/webhooks/endpoints/headers.ts";
import { disableFailing } from "../routers/webhooks/endpoints/service.ts";
import { batchersOf } from "./delivery-batchers.ts";
import { isRowError } from "./runtime/batcher.ts";
import { deadline } from "./runtime/deadline.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { JobContext, Task } from "./runtime/task.ts";

function clientOf({ clientId }: JobContext): string {
  if (clientId === null) throw new Error("A delivery job belongs to a client.");
  return clientId;
}

type Timing = { deadlineMs?: number; random?: () => number };

/** One attempt at one delivery: it is read, sent with no transaction open, and recorded. */
export function deliverWithin({
  deadlineMs = dispatchLimits.deadlineSeconds * 1000,
  random = Math.random,
}: Timing = {}) {
  const task: Task<"webhooks.deliver"> = {
    async run({ deliveryId, claim }, ctx) {
      const { find, pace } = batchersOf(ctx);
      const found = await find({ clientId: clientOf(ctx), deliveryId });
      if (found?.status !== "pending" || found.claim !== claim) return; // another job has it, or it is over
      const { clientId, endpointId } = found;
      const record = (finding: AttemptResult) =>
        recordAttempt(ctx, { clientId, deliveryId, endpointId, claim, ...finding });

      const obstacle = obstacleTo(found);
      if (obstacle) return void (await record({ attempt: null, outcome: { status: "dead", error: obstacle } }));
      if (found.ratePerSecond !== null) await pace(endpointId, found.ratePerSecond, ctx.signal);
      const made = await requestFor(ctx, found);
      if (!made) {
        const inSeconds = dispatchLimits.deferSeconds * (1 + 0.2 * random());
        return void (await record({
          attempt: null,
          outcome: { status: "pending", inSeconds, error: "key_unavailable" },
        }));
      }
      ctx.fence.check();
      const { attempt, retryAfterSeconds } = await post(ctx, made.request, deadlineMs);
      ctx.fence.check();
      const attempts = found.attempts - found.scheduleFrom + 1;
      await record({
        attempt: withoutHeaders(attempt, found.recipient, made.cipher),
        outcome: outcomeOf(attempt, attempts, retryAfterSeconds, random()),
      });
    },

    /** The delivery waits in its row. If the job waited, its lease would expire, and a second job would be queued. */
    async requeue(admission, ctx) {
      await ctx.asClient((tx) => releaseSlot(tx, admission));
    },
  };
  return task;
}

export const deliver = deliverWithin();

/** How long a result waits for the database: as long as the admission is valid, with some time left for the next steps. */
const recordBudgetMs = 30_000;
const recordRetryMs = 250;

/**
 * Records the result of an attempt. The receiver has the message already: if the job stopped retrying because the database is
 * unavailable, the message would be sent twice. So the write is retried for as long as the admission lasts; the claim
 * prevents a second write after an earlier one has committed. Then the free slot is given to the next due delivery of the
 * endpoint. The job does not wait for that: if it fails, the sweep does it.
 */
async function recordAttempt(ctx: JobContext, finding: Reservation & AttemptResult): Promise<void> {
  const { record, admit } = batchersOf(ctx);
  const until = performance.now() + recordBudgetMs;
  while (!(await record(finding).then(logStale, throwUnlessTransient)))
    await sleep(recordRetryMs * (1 + Math.random()));
  const { clientId, endpointId, attempt, outcome } = finding;
  if (attempt === null && outcome.status === "pending") return; // no key: the next delivery would find the same
  ctx.inBackground(admit({ clientId, endpointId }), "delivery slot not passed on; the sweep will do it");

  function logStale(isWritten: boolean): true {
    const { deliveryId, claim } = finding;
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

/** Disables an endpoint whose receiver is gone or only fails, unless it has recovered meanwhile. */
export const disable: Task<"webhooks.disable"> = {
  async run({ endpointId, why }, ctx) {
    const disabled = await ctx.asClient((tx) => disableFailing(tx, endpointId, why));
    if (disabled) ctx.log.error({ alert: true, endpoint_id: endpointId, reason: why }, "webhook endpoint disabled");
  },
};

const clientsPerBatch = 50;
const sweepBudgetMs = 5_000;
const sweepLoop = "deliveries.sweep";

/**
 * Admits due deliveries and frees expired slots, for every client a little: none gets more than its slots, so the longest
 * backlog delays no other client. It runs on the worker's timer, every second or two; one worker sweeps at a time. A
 * client whose deliveries cannot be swept is swept alone, after the others, until that works again.
 */
export async function sweepDeliveries({
  db,
  log,
  signal = new AbortController().signal,
}: Pick<JobContext, "db" | "log"> & { signal?: AbortSignal }) {
  const total = { clients: 0, freed: 0, admitted: 0, isLed: false, failures: 0 };
  const ctx: SystemWork = { asSystem: (work, options) => db.asSystem(work, options), log, signal };
  const sweepSome = async (clientIds: readonly string[], lagSeconds: number) => {
    const done = await db.asSystem((tx) => refill(tx, { clientIds, lagSeconds }));
    total.clients += done.clients;
    total.freed += done.freed;
    total.admitted += done.admitted;
  };
  const sweepBatch = (rows: readonly string[], lagSeconds: number) =>
    eachOrApart(ctx, {
      loop: sweepLoop,
      rows,
      subjectOf: (clientId) => ({ id: clientId, clientId }),
      work: (some) => sweepSome(some, lagSeconds),
    }).catch((error: unknown) => {
      total.failures += 1;
      log.error({ err: error, clients: rows.length }, "delivery sweep failed for some clients"); // the others continue
    });
  await db.asSystem(
    async (system) => {
      total.isLed = await leadSweep(system);
      if (!total.isLed) return;
      const lagSeconds = await queueLagSeconds(system);
      const apart = await listSetApartSubjects(system, sweepLoop, null);
      const all = rotate(await clientsWithWork(system, { lagSeconds }));
      const queue = all.filter((clientId) => !apart.includes(clientId));
      const until = performance.now() + sweepBudgetMs;
      while (queue.length > 0 && performance.now() < until)
        await sweepBatch(queue.splice(0, clientsPerBatch), lagSeconds);
      for (const clientId of apart) if (performance.now() < until) await sweepAlone(clientId, lagSeconds);
    },
    { mode: "read" },
  );
  return total;

  async function sweepAlone(clientId: string, lagSeconds: number) {
    try {
      await sweepSome([clientId], lagSeconds);
      await db.asSystem((tx) => clearSetApart(tx, sweepLoop, [clientId]));
    } catch (error) {
      log.debug({ err: error, client_id: clientId }, "delivery sweep failed for a client that is set apart");
    }
  }
}

/** Starts at a random client, so that a sweep that runs out of time does not always skip the same ones. */
function rotate<T>(all: T[]): T[] {
  const first = Math.floor(Math.random() * all.length);
  return [...all.slice(first), ...all.slice(0, first)];
}
