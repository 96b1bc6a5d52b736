import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { enqueue } from "../db/queue.ts";
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
import { type EventRef, fanOutEvents, matchEndpoints } from "../routers/webhooks/deliveries/fan-out.ts";
import { type LoadedDelivery, loadDeliveries } from "../routers/webhooks/deliveries/load-deliveries.ts";
import { messageTo, type Recipient } from "../routers/webhooks/deliveries/message.ts";
import {
  type Attempt,
  type AttemptResult,
  type Reservation,
  recordAttempts,
} from "../routers/webhooks/deliveries/record-attempts.ts";
import { nextAttemptInSeconds } from "../routers/webhooks/deliveries/schedule.ts";
import type { SlotRequest } from "../routers/webhooks/deliveries/slot-reservation.ts";
import { releaseSlot, reserveDueSlots } from "../routers/webhooks/deliveries/slots.ts";
import { hideHeaders, openHeaders } from "../routers/webhooks/endpoints/headers.ts";
import { disableFailing } from "../routers/webhooks/endpoints/service.ts";
import { createBatcher, isOfTheData } from "./runtime/batcher.ts";
import { deadline } from "./runtime/deadline.ts";
import { createPacer } from "./runtime/pacer.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { JobContext, Task } from "./runtime/task.ts";

/** What the jobs of one pool ask of the database in the same moment is asked together, behind that pool's fence. */
type Together = {
  fanOut(event: EventRef): Promise<"reached" | "gone">;
  find(asked: { clientId: string; deliveryId: string }): Promise<LoadedDelivery | null>;
  record(finding: Reservation & AttemptResult): Promise<boolean>;
  admit(wanted: SlotRequest): Promise<void>;
  pace: ReturnType<typeof createPacer>;
};

const ofPool = new WeakMap<JobContext["fence"], Together>();
/** The first of a batch waits for its neighbours; what they save is worth more than that, from two jobs a second on. */
const batch = { waitMs: 1, most: 200, atOnce: 2 };
/**
 * One at a time: a second would wait for the first one's lock of the places. Nobody waits for it, and it costs as much for
 * one place of an endpoint as for all: so under load it rests between two batches.
 */
const alone = { waitMs: 1, longestWaitMs: 5, most: 1000, atOnce: 1 };

function together(ctx: JobContext): Together {
  const known = ofPool.get(ctx.fence);
  if (known) return known;
  const { asSystem } = ctx;
  const made: Together = {
    fanOut: createBatcher({
      ...batch,
      work: async (events: EventRef[]) => {
        const reach = await asSystem((tx) => matchEndpoints(tx, events), { mode: "read" });
        const reached = reach.flatMap((one) => (one && one.endpointIds.length > 0 ? [one] : []));
        if (reached.length > 0) await asSystem((tx) => fanOutEvents(tx, reached));
        return reach.map((one) => (one === null ? "gone" : "reached"));
      },
    }),
    find: createBatcher({
      ...batch,
      work: (asked: { clientId: string; deliveryId: string }[]) =>
        asSystem((tx) => loadDeliveries(tx, asked), { mode: "read" }),
    }),
    record: createBatcher({
      ...batch,
      work: (findings: (Reservation & AttemptResult)[]) => asSystem((tx) => recordAttempts(tx, findings)),
    }),
    admit: createBatcher({
      ...alone,
      work: async (wanted: SlotRequest[]) => {
        await asSystem((tx) => reserveDueSlots(tx, wanted));
        return wanted.map(() => undefined);
      },
    }),
    pace: createPacer(),
  };
  ofPool.set(ctx.fence, made);
  return made;
}

function clientOf({ clientId }: JobContext): string {
  if (clientId === null) throw new Error("This belongs to a client.");
  return clientId;
}

/** Writes one delivery per endpoint that wants the event. */
export const fanOut: Task<"events.fanOut"> = {
  async run({ eventId, createdAt }, ctx) {
    const found = await together(ctx).fanOut({ clientId: clientOf(ctx), eventId, createdAt });
    if (found === "gone") ctx.log.warn({ event_id: eventId }, "the event is past its age: nobody is told");
  },

  /** An event that was accepted is not lost: it is tried again for as long as it is kept. */
  async onExhausted(payload, ctx) {
    await ctx.asClient((tx) => enqueue(tx, "events.fanOut", payload, { delaySeconds: 3600 }));
  },
};

type Tempo = { deadlineMs?: number; random?: () => number };

/** One attempt at one delivery: it is read, posted with no transaction open, and written down. */
export function deliverWithin({
  deadlineMs = dispatchLimits.deadlineSeconds * 1000,
  random = Math.random,
}: Tempo = {}) {
  const task: Task<"webhooks.deliver"> = {
    async run({ deliveryId, claim }, ctx) {
      const { find, pace } = together(ctx);
      const found = await find({ clientId: clientOf(ctx), deliveryId });
      if (found?.status !== "pending" || found.claim !== claim) return; // somebody else has it, or it is over
      const { clientId, endpointId } = found;
      const write = (finding: AttemptResult) => settle(ctx, { clientId, deliveryId, endpointId, claim, ...finding });

      const obstacle = obstacleTo(found);
      if (obstacle) return void (await write({ attempt: null, outcome: { status: "dead", error: obstacle } }));
      if (found.ratePerSecond !== null) await pace(endpointId, found.ratePerSecond, ctx.signal);
      const made = await requestFor(ctx, found);
      if (!made) {
        const inSeconds = dispatchLimits.deferSeconds * (1 + 0.2 * random());
        return void (await write({
          attempt: null,
          outcome: { status: "pending", inSeconds, error: "key_unavailable" },
        }));
      }
      ctx.fence.check();
      const { attempt, retryAfterSeconds } = await post(ctx, made.request, deadlineMs);
      ctx.fence.check();
      const since = found.attempts - found.scheduleFrom + 1;
      await write({
        attempt: withoutHeaders(attempt, found.recipient, made.ring),
        outcome: outcomeOf(attempt, since, retryAfterSeconds, random()),
      });
    },

    /** What waits, waits in its row: were it the job that waited, its lease would run out, and there would be two. */
    async requeue(admission, ctx) {
      await ctx.asClient((tx) => releaseSlot(tx, admission));
    },
  };
  return task;
}

export const deliver = deliverWithin();

/** So long a finding waits for the database: as long as the admission is good, with some to spare for what follows. */
const patienceMs = 30_000;
const againMs = 250;

/**
 * Writes down what was found. The receiver has been told: were the job given up because the database is away, he would be
 * told once more. So the writing is tried again for as long as the admission lasts; what an earlier try did commit, the
 * claim keeps from being done twice. Then the place that came free is given to what is due at the same endpoint, which
 * this job does not wait for: were it forgotten, the sweep would do it.
 */
async function settle(ctx: JobContext, finding: Reservation & AttemptResult): Promise<void> {
  const { record, admit } = together(ctx);
  const until = performance.now() + patienceMs;
  while (!(await record(finding).then(noteStale, mayWait))) await sleep(againMs * (1 + Math.random()));
  const { clientId, endpointId, attempt, outcome } = finding;
  if (attempt === null && outcome.status === "pending") return; // the key is away: the next one would find it so too
  ctx.inBackground(admit({ clientId, endpointId }), "a place was not given on: the sweep will");

  function noteStale(isWritten: boolean): true {
    const { deliveryId, claim } = finding;
    if (!isWritten) ctx.log.warn({ delivery_id: deliveryId, claim }, "an attempt came too late to be written down");
    return true;
  }

  function mayWait(error: unknown): false {
    ctx.fence.check();
    if (isOfTheData(error) || ctx.signal.aborted || performance.now() > until) throw error;
    return false;
  }
}

function obstacleTo({ endpointStatus, event }: LoadedDelivery): string | null {
  if (endpointStatus !== "enabled") return `endpoint_${endpointStatus}`;
  return event ? null : "event_expired";
}

/** The signed request, and the keys by which it was made. null when the key service is away. */
async function requestFor(ctx: JobContext, { recipient, event }: LoadedDelivery) {
  if (!event) return null;
  const ring = await ctx.providers.vault.keys(event.clientId, "webhook_secret").catch((error: unknown) => {
    ctx.log.warn({ err: error, endpoint_id: recipient.id }, "the key service is away: the delivery waits");
    return null;
  });
  return ring && { ring, request: messageTo(recipient, eventEnvelope(event), ring, new Date()) };
}

/** A receiver may answer with what it was sent: whoever reads its answers need not know the headers that open its door. */
function withoutHeaders(attempt: Attempt, { id, headers }: Recipient, ring: Cipher): Attempt {
  if (headers === null || attempt.response === null) return attempt;
  return { ...attempt, response: hideHeaders(attempt.response, openHeaders(headers, id, ring)) };
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
    // When we ourselves stopped, the receiver has not failed: the queue tries again.
    if (ctx.signal.aborted || !(error instanceof SendFailed)) throw error;
    const latencyMs = Math.round(performance.now() - began);
    return { attempt: { status: null, error: error.reason, latencyMs, response: null }, retryAfterSeconds: null };
  } finally {
    done();
  }
}

function outcomeOf(
  { status }: Attempt,
  made: number,
  retryAfterSeconds: number | null,
  random: number,
): AttemptResult["outcome"] {
  if (status !== null && status >= 200 && status < 300) return { status: "delivered" };
  if (status === 410) return { status: "dead", error: "gone" };
  const inSeconds = nextAttemptInSeconds(made, { retryAfterSeconds, random });
  return inSeconds === null ? { status: "dead" } : { status: "pending", inSeconds };
}

/** Its receiver is gone, or has done nothing but fail: unless it has recovered meanwhile, it is switched off. */
export const disable: Task<"webhooks.disable"> = {
  async run({ endpointId, why }, ctx) {
    const disabled = await ctx.asClient((tx) => disableFailing(tx, endpointId, why));
    if (disabled) ctx.log.error({ alert: true, endpoint_id: endpointId, why }, "a webhook endpoint was switched off");
  },
};

const clientsAtOnce = 50;
const sweepBudgetMs = 5_000;
const sweepLoop = "deliveries.sweep";

/**
 * Admits what is due and frees what has expired, for every client a little: none gets more than its places, so the
 * longest backlog delays nobody else. For the worker's own timer, every second or two; one worker sweeps at a time. A
 * client whose deliveries cannot be swept is swept alone from then on, after the others, until that works again.
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
      log.error({ err: error, clients: rows.length }, "the deliveries of some clients could not be swept"); // the others shall be
    });
  await db.asSystem(
    async (house) => {
      total.isLed = await leadSweep(house);
      if (!total.isLed) return;
      const lagSeconds = await queueLagSeconds(house);
      const apart = await listSetApartSubjects(house, sweepLoop, null);
      const all = fromAnywhere(await clientsWithWork(house, { lagSeconds }));
      const line = all.filter((clientId) => !apart.includes(clientId));
      const until = performance.now() + sweepBudgetMs;
      while (line.length > 0 && performance.now() < until) await sweepBatch(line.splice(0, clientsAtOnce), lagSeconds);
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
      log.debug({ err: error, client_id: clientId }, "the deliveries of a client that is set apart could not be swept");
    }
  }
}

/** Begins the round anywhere, so that a sweep that runs out of time does not always leave out the same ones. */
function fromAnywhere<T>(all: T[]): T[] {
  const first = Math.floor(Math.random() * all.length);
  return [...all.slice(first), ...all.slice(0, first)];
}
