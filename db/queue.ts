import { sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "./client.ts";

export const poolKinds = ["prompt", "deliveries", "slow"] as const;
export type PoolKind = (typeof poolKinds)[number];

type Job = {
  /** Whose rows the job sees: those of the client it was queued for, or everybody's. */
  wall: "client" | "house";
  /**
   * `prompt` work is short and wanted now; `slow` work must not stand in its way, and `deliveries` wait for receivers of
   * the clients' own choice: each kind has slots of its own.
   */
  pool: PoolKind;
  payload: z.ZodObject;
  /** When a failed attempt is tried again, counted from the failure; after the last, it has given up. */
  retryAfterSeconds: readonly number[];
  /** Among what is due the lowest goes first; 0 without one. */
  priority?: number;
  /** It waits for somebody else's server: one client's may not take all the slots of a prompt pool. */
  asksProvider?: true;
  /** Also for a client that is suspended: what a provider has begun is settled, and money is not left held. */
  evenSuspended?: true;
};

const patient = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600] as const;

/** Every job there is, and the shape of its row. `jobs/` must handle each one, or the house does not compile. */
export const jobs = {
  /** Applies what a provider told us. */
  "ingress.apply": {
    wall: "house",
    pool: "prompt",
    payload: z.object({ ingressId: z.string(), receivedAt: z.string() }),
    priority: -10, // bills come this way
    retryAfterSeconds: patient,
  },
  /** Finds out what became of something asked of a provider, when the request itself could not. */
  "intents.resolve": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ intentId: z.string() }),
    // Credits are held, and an agent is busy, until it is known: so no pause is longer than a quarter of an hour.
    priority: -10,
    asksProvider: true,
    retryAfterSeconds: [1, 5, 15, 60, 300, 900, 900, 900, 900],
    evenSuspended: true,
  },
  /** Finds intents that are still open long after anybody should have settled them, whatever became of their job. */
  "intents.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Finds agents whose copy at the provider nobody has looked at for a day. */
  "agents.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Holds the provider's copy of an agent against ours and puts it right; `resend`: sends ours whatever it finds. */
  "agents.compare": {
    wall: "client",
    pool: "slow",
    payload: z.object({ agentId: z.string(), resend: z.boolean().default(false) }),
    retryAfterSeconds: [5, 30, 120, 600],
  },
  /** Asks the provider how a call stands. */
  "calls.refresh": {
    wall: "client",
    pool: "prompt",
    payload: z.object({
      callId: z.string(),
      /** It has told us of a refund, which counts when it has the call no more. */
      refundTold: z.boolean().optional(),
    }),
    asksProvider: true,
    retryAfterSeconds: [5, 30, 120, 600],
    evenSuspended: true,
  },
  /** Reads the messages of an ended call and settles its outcome; gives up waiting after five minutes. */
  "calls.finalise": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    asksProvider: true,
    retryAfterSeconds: [2, 5, 10, 30, 60, 90, 120],
    evenSuspended: true,
  },
  /** Copies the recording of an ended call into our storage; the provider may take a while to have it. */
  "calls.fetchRecording": {
    wall: "client",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [3, 5, 10, 20, 40, 80, 160, 300, 600, 900, 1200],
    evenSuspended: true,
  },
  /** sf-artifacts-backfill: finds ended calls whose transcript or recording did not come. */
  "artifacts.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Starts the backfill of one call. */
  "artifacts.backfill": {
    wall: "client",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [5, 60],
  },
  /** Finds the clients that have something to erase, by what their agents say they keep. */
  "retention.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Erases what one client's agents no longer keep. */
  "retention.erase": {
    wall: "client",
    pool: "slow",
    payload: z.object({}),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Ends a call at the provider that is not ours to keep: a second one for the same id. */
  "calls.hangUpStray": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string(), providerAccountId: z.string(), providerCallId: z.string() }),
    priority: -10,
    asksProvider: true,
    retryAfterSeconds: [5, 30, 60, 120, 120, 300],
    evenSuspended: true,
  },
  /** Ends a call of ours that somebody has answered. */
  "calls.hangUp": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    priority: -10,
    asksProvider: true,
    retryAfterSeconds: [1, 5, 15, 60, 300],
    evenSuspended: true,
  },
  /** Erases what was told of a call that is erased: in events, in what providers sent, in answers that are kept. */
  "calls.eraseCopies": {
    wall: "client",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Erases at the provider a call that is erased here; queued when its bill is known. */
  "calls.eraseUpstream": {
    wall: "client",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: patient,
    evenSuspended: true,
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
    pool: "deliveries",
    payload: z.object({ deliveryId: z.string(), claim: z.number().int() }),
    retryAfterSeconds: [1, 5, 15],
  },
  /** Switches an endpoint off whose receiver is gone, or has failed for too long, and says so to the client's others. */
  "webhooks.disable": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ endpointId: z.string(), why: z.enum(["gone", "failures", "days"]) }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Takes the next piece of a replay, and queues itself for the one after. */
  "webhooks.replay": {
    wall: "client",
    pool: "slow",
    payload: z.object({ replayId: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Finds replays whose job is gone. */
  "replays.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes deliveries whose attempts are past their age, and replays of that age. */
  "deliveries.expire": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Has what providers told us applied once more, all that a filter finds. */
  "ingress.reprocess": {
    wall: "house",
    pool: "slow",
    payload: z.object({
      provider: z.string().nullable(),
      eventType: z.string().nullable(),
      statuses: z.array(z.string()).min(1),
      createdAfter: z.iso.datetime(),
      createdBefore: z.iso.datetime(),
      /** The id of the last one that was looked at. */
      after: z.string().nullable(),
    }),
    retryAfterSeconds: [5, 60, 300],
  },
  /** The stale upload cleaner: removes from storage what was announced, perhaps sent, and never used. */
  "uploads.clean": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
  /** Removes from storage what is deleted here. Gone is gone. */
  "files.remove": {
    wall: "client",
    pool: "slow",
    payload: z.object({ keys: z.array(z.string()).min(1) }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Removes idempotency keys whose day is over. */
  "idempotency.expire": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes at the voice provider what is deleted here. Gone is gone. */
  "upstream.remove": {
    wall: "client",
    pool: "slow",
    payload: z.object({
      kind: z.enum(["agent", "voice", "tool", "corpus", "source", "registration"]),
      accountId: z.string(),
      providerId: z.string(),
      /** Of a source: the corpus that it belongs to. */
      parentId: z.string().optional(),
    }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Tells the voice provider who answers which number, for one of its accounts and all who share it. */
  "telephony.sync": {
    wall: "client",
    pool: "slow",
    payload: z.object({ accountId: z.string() }),
    retryAfterSeconds: [5, 30, 120, 600, 900],
    evenSuspended: true,
  },
  /** Has every account told again: an agent may have gone, or somebody may have changed it there. */
  "telephony.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes a source of a knowledge base at the voice provider, by its name: nobody heard whether it was made. */
  "knowledge.forget": {
    wall: "client",
    pool: "slow",
    payload: z.object({ accountId: z.string(), corpusId: z.string(), name: z.string() }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Fails a file of a knowledge base whose time is over and that nobody reads in any more. */
  "knowledge.expire": {
    wall: "client",
    pool: "slow",
    payload: z.object({ fileId: z.string() }),
    retryAfterSeconds: [5, 60, 600],
  },
  /** Finds files of knowledge bases that were left while they were being read in. */
  "knowledge.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Sends the voice provider what a voice is here: language, description, and how another company is asked. */
  "voices.sync": {
    wall: "client",
    pool: "slow",
    payload: z.object({ voiceId: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Removes at the voice provider what it may have come to have under the name of a voice that nobody waits for. */
  "voices.clear": {
    wall: "client",
    pool: "slow",
    payload: z.object({ voiceId: z.string(), accountId: z.string(), looksLeft: z.number().int() }),
    retryAfterSeconds: patient,
    evenSuspended: true,
  },
  /** Puts one voice right: left by its workflow, or gone at the provider. */
  "voices.check": {
    wall: "client",
    pool: "slow",
    payload: z.object({ voiceId: z.string() }),
    retryAfterSeconds: [30, 300, 1800],
    evenSuspended: true,
  },
  /** retry-voice-status: finds voices that wait for nothing any more, and active ones not looked at for a day. */
  "voices.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Takes the next step of a workflow. Its retries are written in the step's own row. */
  "workflows.advance": {
    wall: "client",
    pool: "slow",
    payload: z.object({ runId: z.string() }),
    retryAfterSeconds: [1, 5, 15],
  },
  /** Finds workflows whose next step is due and whose job is gone. */
  "workflows.sweep": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Has a client's own account at the voice provider tell us of its calls. */
  "accounts.connect": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ accountId: z.string() }),
    asksProvider: true,
    retryAfterSeconds: patient,
  },
  /** Removes our webhook from an account that is given up, and forgets its key. */
  "accounts.disconnect": {
    wall: "client",
    pool: "slow",
    payload: z.object({ accountId: z.string() }),
    // It waits for the bills of the account's calls, which come within seconds or not at all.
    retryAfterSeconds: [2, 3, 5, 10, 20, 60, 300, 900, 3600, 3600],
  },
  /** Brings the key of a company of voices, or that there is none any more, to the client's own account. */
  "credentials.publish": {
    wall: "client",
    pool: "prompt",
    payload: z.object({ provider: z.string() }),
    asksProvider: true,
    retryAfterSeconds: patient,
  },
  /** Wraps data keys anew that an earlier master key has wrapped. */
  "vault.rewrap": { wall: "house", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
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

/**
 * For a query: `task` and `body` of what waits or runs of these, of this transaction's client. It reads the whole queue:
 * for what is rare.
 */
export const waitingJobs = (names: readonly ClientJobName[]) =>
  sql`graphile_worker.patchbay_waiting(${names.join(" ")}::text)`;

type KeyedJob<N extends JobName> = { clientId: string | null; payload: JobPayload<N>; key: string };

/**
 * The house queues one job for each of many, in one statement, but for those that have one: a retry that waits keeps its
 * time and its attempt, and a schedule comes to its end however often a sweep comes by. In the order of their keys, so
 * that two sweeps that find the same do not wait for each other crosswise.
 */
export async function enqueueEach<N extends JobName>(tx: Tx, name: N, each: readonly KeyedJob<N>[]) {
  if (each.length === 0) return;
  const inOrder = each.toSorted((one, other) => (one.key < other.key ? -1 : 1));
  const rows = inOrder.map(({ clientId, payload, key }) => ({ clientId, ...row(name, payload, { key }) }));
  await tx.execute(sql`select graphile_worker.patchbay_enqueue_missing(${JSON.stringify(rows)}::json)`);
}

function row<N extends JobName>(name: N, payload: JobPayload<N>, { delaySeconds, runAt, key, attempt }: QueueOptions) {
  return {
    task: name,
    body: jobs[name].payload.parse(payload),
    ...("priority" in jobs[name] ? { priority: jobs[name].priority } : {}),
    ...(delaySeconds === undefined ? {} : { delaySeconds }),
    ...(runAt === undefined ? {} : { runAt: runAt.toISOString() }),
    ...(key === undefined ? {} : { key: `${name}:${key}` }),
    ...(attempt === undefined ? {} : { attempt }),
  };
}
