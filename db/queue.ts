import { sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "./client.ts";

type Job = {
  /** Whose rows the job sees: those of the client it was queued for, or everybody's. */
  wall: "client" | "house";
  /** `prompt` work is short and wanted now; `slow` work must not stand in its way. */
  pool: "prompt" | "slow";
  payload: z.ZodObject;
  /** When a failed attempt is tried again, counted from the failure; after the last, it has given up. */
  retryAfterSeconds: readonly number[];
};

const patient = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600] as const;

/** Every job there is, and the shape of its row. `jobs/` must handle each one, or the house does not compile. */
export const jobs = {
  /** Applies what a provider told us. */
  "ingress.apply": {
    wall: "house",
    pool: "prompt",
    payload: z.object({ ingressId: z.string(), receivedAt: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Finds out what became of something asked of a provider, when the request itself could not. */
  "intents.resolve": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ intentId: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Finds intents that are still open long after anybody should have settled them, whatever became of their job. */
  "intents.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Asks the provider how a call stands. */
  "calls.refresh": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [5, 30, 120, 600],
  },
  /** Reads the messages of an ended call and settles its outcome; gives up waiting after five minutes. */
  "calls.finalise": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [2, 5, 10, 30, 60, 90, 120],
  },
  /** Ends a call at the provider that is not ours to keep: a second one for the same id. */
  "calls.hangUpStray": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string(), providerAccountId: z.string(), providerCallId: z.string() }),
    retryAfterSeconds: [5, 30, 60, 120, 120, 300],
  },
  /** Finds calls about which the provider has been silent for too long. */
  "calls.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Writes one delivery per endpoint that wants the event. */
  "events.fanOut": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ eventId: z.string(), createdAt: z.string() }),
    retryAfterSeconds: patient,
  },
  /** One attempt at one delivery. Its retries are rows of ours, not of the queue. */
  "webhooks.deliver": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ deliveryId: z.string(), claim: z.number().int() }),
    retryAfterSeconds: [1, 5, 15],
  },
  /** Removes idempotency keys whose day is over. */
  "idempotency.expire": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Makes the partitions of the coming months and drops those past their age. */
  "partitions.keep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
} as const satisfies Record<string, Job>;

export type JobName = keyof typeof jobs;
export type JobPayload<N extends JobName> = z.output<(typeof jobs)[N]["payload"]>;
export type ClientJobName = { [N in JobName]: (typeof jobs)[N]["wall"] extends "client" ? N : never }[JobName];

export type QueueOptions = {
  /** Counted by the database's clock. */
  delaySeconds?: number;
  runAt?: Date;
  /** At most one waiting job per task and key; a later one replaces the earlier. */
  key?: string;
  attempt?: number;
};

/** Queues a job in the caller's transaction: it exists if, and only if, the transaction commits. */
export async function enqueue<N extends ClientJobName>(
  tx: Tx,
  name: N,
  payload: JobPayload<N>,
  options: QueueOptions = {},
) {
  await tx.execute(
    sql`select graphile_worker.patchbay_enqueue(${JSON.stringify([row(name, payload, options)])}::json)`,
  );
}

/** The house queues for a client, or for itself (null). */
export async function enqueueFor<N extends JobName>(
  tx: Tx,
  clientId: string | null,
  name: N,
  payload: JobPayload<N>,
  options: QueueOptions = {},
) {
  await tx.execute(
    sql`select graphile_worker.patchbay_enqueue_for(${clientId}::text, ${JSON.stringify([row(name, payload, options)])}::json)`,
  );
}

function row<N extends JobName>(name: N, payload: JobPayload<N>, { delaySeconds, runAt, key, attempt }: QueueOptions) {
  return {
    task: name,
    body: jobs[name].payload.parse(payload),
    ...(delaySeconds === undefined ? {} : { delaySeconds }),
    ...(runAt === undefined ? {} : { runAt: runAt.toISOString() }),
    ...(key === undefined ? {} : { key: `${name}:${key}` }),
    ...(attempt === undefined ? {} : { attempt }),
  };
}
