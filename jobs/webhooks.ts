import { performance } from "node:perf_hooks";
import { enqueue } from "../db/queue.ts";
import { eventEnvelope } from "../routers/events/service.ts";
import {
  type Attempt,
  clientsWithWork,
  dispatchLimits,
  type Finding,
  type Found,
  fanOut as fanOutEvent,
  fromHotDelivery,
  hotDelivery,
  leadSweep,
  queueLagSeconds,
  record,
  refill,
} from "../routers/webhooks/dispatch.ts";
import { nextAttemptInSeconds } from "../routers/webhooks/schedule.ts";
import { SendFailed, type WebhookRequest } from "../routers/webhooks/sender.ts";
import { recordGone } from "../routers/webhooks/service.ts";
import { sign } from "../routers/webhooks/signature.ts";
import type { JobContext, Task } from "./task.ts";

/** Writes one delivery per endpoint that wants the event. */
export const fanOut: Task<"events.fanOut"> = {
  async run(payload, ctx) {
    const reached = await ctx.asClient((tx) => fanOutEvent(tx, payload));
    if (reached === null) ctx.log.warn({ event_id: payload.eventId }, "the event is past its age: nobody is told");
  },

  /** An event that was accepted is not lost: it is tried again for as long as it is kept. */
  async gaveUp(payload, ctx) {
    await ctx.asClient((tx) => enqueue(tx, "events.fanOut", payload, { delaySeconds: 3600 }));
  },
};

type Tempo = { deadlineMs?: number; random?: () => number };

/** One attempt at one delivery: one read, the post with no transaction open, one write. */
export function deliverWithin({
  deadlineMs = dispatchLimits.deadlineSeconds * 1000,
  random = Math.random,
}: Tempo = {}) {
  const task: Task<"webhooks.deliver"> = {
    async run({ deliveryId, claim }, ctx) {
      const found = await find(ctx, deliveryId);
      if (found?.state !== "pending" || found.claim !== claim) return; // somebody else has it, or it is over
      const write = (finding: Finding) => ctx.asClient((tx) => record(tx, found, finding));

      const obstacle = obstacleTo(found);
      if (obstacle) return void (await write({ attempt: null, outcome: { state: "dead", error: obstacle } }));
      const request = await requestFor(ctx, found);
      if (!request) {
        const inSeconds = dispatchLimits.deferSeconds * (1 + 0.2 * random());
        return void (await write({
          attempt: null,
          outcome: { state: "pending", inSeconds, error: "key_unavailable" },
        }));
      }
      ctx.fence.check();
      const { attempt, retryAfterSeconds } = await post(ctx, request, deadlineMs);
      ctx.fence.check();
      if (attempt.status === 410) return void (await ctx.asClient((tx) => recordGone(tx, found, attempt)));
      await write({ attempt, outcome: outcomeOf(attempt, found.attempts + 1, retryAfterSeconds, random()) });
    },
  };
  return task;
}

export const deliver = deliverWithin();

async function find(ctx: JobContext, deliveryId: string): Promise<Found | null> {
  if (ctx.clientId === null) throw new Error("A delivery belongs to a client.");
  const row = await ctx.db.readOne({ clientId: ctx.clientId, requestId: ctx.requestId }, hotDelivery, [deliveryId]);
  return row && fromHotDelivery(row);
}

function obstacleTo({ endpointState, event }: Found): string | null {
  if (endpointState !== "enabled") return `endpoint_${endpointState}`;
  return event ? null : "event_expired";
}

/** The signed request; its body is the same on every attempt. null when the key service is away. */
async function requestFor(ctx: JobContext, { endpointId, url, secret, event }: Found): Promise<WebhookRequest | null> {
  if (!event) return null;
  const ring = await ctx.providers.vault.keys(event.clientId, "webhook_secret").catch((error: unknown) => {
    ctx.log.warn({ err: error, endpoint_id: endpointId }, "the key service is away: the delivery waits");
    return null;
  });
  if (!ring) return null;
  const body = JSON.stringify(eventEnvelope(event));
  const timestampSeconds = Math.floor(Date.now() / 1000);
  const headers = {
    "content-type": "application/json",
    "user-agent": "Patchbay-Webhooks/1.0",
    "webhook-id": event.id,
    "webhook-timestamp": String(timestampSeconds),
    "webhook-signature": sign({
      id: event.id,
      timestampSeconds,
      body,
      secret: ring.open(secret, endpointId).toString(),
    }),
  };
  return { url, headers, body };
}

type Posted = { attempt: Attempt; retryAfterSeconds: number | null };

async function post(ctx: JobContext, request: WebhookRequest, deadlineMs: number): Promise<Posted> {
  const signal = AbortSignal.any([ctx.signal, AbortSignal.timeout(deadlineMs)]);
  const began = performance.now();
  try {
    const { status, latencyMs, response, retryAfterSeconds } = await ctx.providers.webhooks.send(request, { signal });
    const error = status >= 300 && status < 400 ? "redirect_not_followed" : null;
    return { attempt: { status, error, latencyMs, response }, retryAfterSeconds };
  } catch (error) {
    // When we ourselves stopped, the receiver has not failed: the queue tries again.
    if (ctx.signal.aborted || !(error instanceof SendFailed)) throw error;
    const latencyMs = Math.round(performance.now() - began);
    return { attempt: { status: null, error: error.reason, latencyMs, response: null }, retryAfterSeconds: null };
  }
}

function outcomeOf(
  { status }: Attempt,
  made: number,
  retryAfterSeconds: number | null,
  random: number,
): Finding["outcome"] {
  if (status !== null && status >= 200 && status < 300) return { state: "delivered" };
  const inSeconds = nextAttemptInSeconds(made, { retryAfterSeconds, random });
  return inSeconds === null ? { state: "dead" } : { state: "pending", inSeconds };
}

const clientsAtOnce = 4;
const sweepBudgetMs = 5_000;

/**
 * Admits what is due and frees what has expired, for every client a little: none gets more than its places, so the
 * longest backlog delays nobody else. For the worker's own timer, every second or two; one worker sweeps at a time.
 */
export async function sweepDeliveries({ db, log }: Pick<JobContext, "db" | "log">) {
  const total = { clients: 0, freed: 0, admitted: 0 };
  const sweepOne = async (clientId: string, lagSeconds: number) => {
    try {
      const done = await db.asClient({ clientId }, (tx) => refill(tx, { lagSeconds }));
      total.clients += 1;
      total.freed += done?.freed ?? 0;
      total.admitted += done?.admitted ?? 0;
    } catch (error) {
      log.error({ err: error, client_id: clientId }, "the deliveries of this client could not be swept"); // the others shall be
    }
  };
  await db.asHouse(
    async (house) => {
      if (!(await leadSweep(house))) return;
      const lagSeconds = await queueLagSeconds(house);
      const line = fromAnywhere(await clientsWithWork(house, { lagSeconds }));
      const until = performance.now() + sweepBudgetMs;
      while (line.length > 0 && performance.now() < until) {
        await Promise.all(line.splice(0, clientsAtOnce).map((clientId) => sweepOne(clientId, lagSeconds)));
      }
    },
    { mode: "read" },
  );
  return total;
}

/** Begins the round anywhere, so that a sweep that runs out of time does not always leave out the same ones. */
function fromAnywhere<T>(all: T[]): T[] {
  const first = Math.floor(Math.random() * all.length);
  return [...all.slice(first), ...all.slice(0, first)];
}
