import { sql } from "drizzle-orm";
import { announce, type Tx } from "./client.ts";
import { type ClientJobName, type JobName, type JobPayload, jobs } from "./job-list.ts";

export { type ClientJobName, type JobName, type JobPayload, jobs, type PoolKind, poolKinds } from "./job-list.ts";

export type QueueOptions = {
  /** Counted from the database's present time. */
  delaySeconds?: number;
  runAt?: Date;
  /** Allows one waiting job per task and key; a later one replaces the earlier one. */
  key?: string;
  attempt?: number;
};

/** Queues a job in the caller's transaction: the job exists if, and only if, the transaction commits. */
export async function enqueue<N extends ClientJobName>(
  tx: Tx,
  name: N,
  payload: JobPayload<N>,
  options: QueueOptions = {},
) {
  announceJobs(tx, options);
  await tx.execute(
    sql`select graphile_worker.patchbay_enqueue(${JSON.stringify([toRow(name, payload, options)])}::json)`,
  );
}

/** Queues a job for a client, or for the system (`clientId` null). Needs a system transaction. */
export async function enqueueFor<N extends JobName>(
  tx: Tx,
  clientId: string | null,
  name: N,
  payload: JobPayload<N>,
  options: QueueOptions = {},
) {
  announceJobs(tx, options);
  await tx.execute(
    sql`select graphile_worker.patchbay_enqueue_for(${clientId}::text, ${JSON.stringify([toRow(name, payload, options)])}::json)`,
  );
}

/**
 * A table expression (`task`, `body`) of this client's waiting and running jobs with these names. It scans the whole queue,
 * so use it only in rare operations.
 */
export const waitingJobs = (names: readonly ClientJobName[]) =>
  sql`graphile_worker.patchbay_waiting(${names.join(" ")}::text)`;

type KeyedJob<N extends JobName> = { clientId: string | null; payload: JobPayload<N>; key: string };

/**
 * Queues many jobs in one statement, except for keys that have a job: a job that waits for a retry keeps its time and its
 * attempt, so that frequent sweeps cannot prolong a schedule. Needs a system transaction.
 */
export async function enqueueEach<N extends JobName>(tx: Tx, name: N, each: readonly KeyedJob<N>[]) {
  if (each.length === 0) return;
  // Sorted by key, so that two sweeps with the same keys cannot deadlock.
  const inOrder = each.toSorted((one, other) => (one.key < other.key ? -1 : 1));
  const rows = inOrder.map(({ clientId, payload, key }) => ({ clientId, ...toRow(name, payload, { key }) }));
  announce(tx, { jobs: rows.length });
  await tx.execute(sql`select graphile_worker.patchbay_enqueue_missing(${JSON.stringify(rows)}::json)`);
}

/** Wakes the workers after the commit. A job for later is found when they poll. */
function announceJobs(tx: Tx, { delaySeconds = 0, runAt }: QueueOptions) {
  if (delaySeconds <= 0 && (runAt === undefined || runAt.getTime() <= Date.now())) announce(tx, { jobs: 1 });
}

/** The shape that `graphile_worker.patchbay_add` reads. JSON leaves out what is undefined. */
function toRow<N extends JobName>(
  name: N,
  payload: JobPayload<N>,
  { delaySeconds, runAt, key, attempt }: QueueOptions,
) {
  return {
    task: name,
    body: jobs[name].payload.parse(payload),
    priority: "priority" in jobs[name] ? jobs[name].priority : undefined,
    delaySeconds,
    runAt: runAt?.toISOString(),
    key: key === undefined ? undefined : `${name}:${key}`,
    attempt,
  };
}
