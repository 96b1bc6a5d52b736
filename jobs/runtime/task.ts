import { DrizzleQueryError, sql } from "drizzle-orm";
import type { JobHelpers, Task as WorkerTask } from "graphile-worker";
import type { Logger } from "pino";
import { z } from "zod";
import type { Database, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { type JobName, type JobPayload, jobs } from "../../db/queue.ts";
import { deadJobs } from "../../db/schema/platform.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { KeysUnavailable } from "../../routers/ports/vault.ts";
import { type Fence, Fenced } from "./fence.ts";
import type { Place, Shares } from "./shares.ts";

type Mode = { mode?: "read" | "write" };

export type JobContext = {
  jobId: string;
  /** 0 is the first. */
  attempt: number;
  /** How many runs of this very job ended with their worker: it died, or could not record the outcome. */
  lostRuns: number;
  clientId: string | null;
  requestId: string | null;
  log: Logger;
  providers: Providers;
  db: Database;
  /** A transaction of the job's client, fenced at both ends. A system job has none. */
  asClient<T>(work: (tx: Tx) => Promise<T>, options?: Mode): Promise<T>;
  /** A system transaction, fenced at both ends. */
  asSystem<T>(work: (tx: Tx) => Promise<T>, options?: Mode): Promise<T>;
  /** Throws when this pool may have been declared dead. Call it before every effect that is not a transaction of ours. */
  fence: Pick<Fence, "check">;
  /** Work that the job starts and does not wait for. Nothing may depend on it. If it fails, `otherwise` is the log message. */
  inBackground(work: Promise<unknown>, otherwise: string): void;
  /** Aborts when the pool is fenced, and when the grace period of a stopping worker ends. */
  signal: AbortSignal;
  pool: PoolState;
};

/** `slots`: what the pool reports. `draining`: aborts when the pool takes no more jobs; running ones should end soon. */
export type PoolState = { slots: number; draining: AbortSignal };

export type Task<N extends JobName> = {
  run(payload: JobPayload<N>, ctx: JobContext): Promise<void>;
  /** Runs instead when the client is suspended: puts the work where it is found again. Without it the job stays queued. */
  requeue?(payload: JobPayload<N>, ctx: JobContext): Promise<void>;
  /** The last attempt has failed. Runs again when the process dies in it, so it must be repeatable. */
  onExhausted?(payload: JobPayload<N>, ctx: JobContext, error: Error): Promise<void>;
};

export type Tasks = { [N in JobName]: Task<N> };
export type TaskDeps = {
  db: Database;
  providers: Providers;
  log: Logger;
  fence: Fence;
  signal: AbortSignal;
  pool: PoolState;
  /** Suspended clients. */
  isSuspended?: ((clientId: string) => boolean) | undefined;
  /** Called after a job succeeds. */
  onDone?: ((name: JobName) => void) | undefined;
  /** Of the slots of this pool. */
  shares?: Shares;
};

type Outcome = "done" | "retry" | "superseded" | "gave_up" | "waits";

/** After this time the work of a suspended client is tried again. */
const suspendedSeconds = 30;
/** After this time a job is tried again for which the key service was unavailable. */
export const keylessSeconds = 15;
type Read<N extends JobName> = {
  clientId: string | null;
  requestId: string | null;
  attempt: number;
  payload: JobPayload<N>;
};

const Envelope = z.object({
  clientId: z.string().min(1).nullable(),
  requestId: z.string().nullish(),
  attempt: z.number().int().min(0).default(0),
  body: z.unknown(),
});
/** What the crontab writes: the payload, with `_cron` among its fields. */
const Cron = z
  .looseObject({ _cron: z.looseObject({ ts: z.string() }) })
  .transform(({ _cron, ...body }): z.input<typeof Envelope> => ({ clientId: null, body }));

/**
 * Wraps a task for the worker. One run is one attempt. A failed attempt is replaced by the next in one commit, so that a
 * process may die at any point and exactly one job exists. A fenced run throws: its row belongs to another pool.
 */
export function toWorkerTask<N extends JobName>(name: N, task: Task<N>, deps: TaskDeps): WorkerTask {
  // The fields of a line without an error are known: redaction would cost more than the line.
  const lines = deps.log.child({}, { redact: { paths: [] } });
  return async (raw: unknown, helpers: JobHelpers) => {
    const began = performance.now();
    const jobId = String(helpers.job.id);
    let fields: object = { task: name, job_id: jobId };
    let attempt = 0;
    const conclude = (outcome: string, level: "debug" | "info" | "warn" | "error", extra?: object) => {
      const line = { ...fields, attempt, outcome, ms: Math.round(performance.now() - began), ...extra };
      (extra ? deps.log : lines)[level](line, "job");
    };

    try {
      deps.fence.check(); // a job may have waited in memory while the process was stopped
      const read = readJob(name, raw);
      if (read instanceof Error) {
        await deadLetter(deps.db, { helpers, name, clientId: null, payload: raw, error: read });
        return conclude("unreadable", "error", { alert: true, err: read });
      }
      attempt = read.attempt;
      fields = { client_id: read.clientId, request_id: read.requestId, ...fields };
      const isSuspended = mustWait(name, read.clientId, deps);
      const run = isSuspended ? task.requeue : task.run;
      if (!run) return conclude(await putNext(helpers, read, suspendedSeconds, read.attempt), "info");
      const place = placeFor(name, read.clientId, deps);
      if (place && "againInSeconds" in place) {
        const put = await putNext(helpers, read, place.againInSeconds, read.attempt);
        return conclude(put === "waits" ? "shares" : put, "debug");
      }
      const ctx = contextOf(name, helpers, read, fields, deps);
      const [result, err] = await attemptOnce(name, { ...task, run }, read, ctx, helpers).finally(() => place?.leave());
      const outcome = isSuspended && result === "done" ? "put_back" : result;
      deps.fence.check();
      if (outcome === "done") deps.onDone?.(name);
      if (outcome === "gave_up") conclude(outcome, "error", { alert: true, err });
      else conclude(outcome, err ? "warn" : "info", err ? { err } : undefined);
    } catch (error) {
      const outcome = error instanceof Fenced ? "fenced" : deps.signal.aborted ? "interrupted" : "unrecorded";
      conclude(outcome, "warn", { err: asError(error) });
      throw error; // the row stays, and the queue runs it again
    }
  };
}

/** A slot of the client's share, for jobs that may hold one for long. Deliveries have slots of their own. */
function placeFor(name: JobName, clientId: string | null, { shares }: TaskDeps): Place | null {
  const isLong = jobs[name].pool === "slow" || "callsProvider" in jobs[name];
  return isLong && clientId !== null && shares ? shares.enter(clientId) : null;
}

/** Work of a suspended client is postponed and uses no attempt. */
function mustWait(name: JobName, clientId: string | null, { isSuspended }: TaskDeps): boolean {
  return clientId !== null && !("runsWhenSuspended" in jobs[name]) && (isSuspended?.(clientId) ?? false);
}

async function attemptOnce<N extends JobName>(
  name: N,
  task: Task<N>,
  read: Read<N>,
  ctx: JobContext,
  helpers: JobHelpers,
): Promise<[Outcome, Error?]> {
  try {
    await task.run(read.payload, ctx);
    return ["done"];
  } catch (thrown) {
    ctx.fence.check();
    if (thrown instanceof Fenced || ctx.signal.aborted) throw thrown;
    const error = asError(thrown);
    if (error instanceof KeysUnavailable) return [await putNext(helpers, read, keylessSeconds, read.attempt), error];
    const seconds = retryDelaySeconds(jobs[name].retryAfterSeconds, read.attempt);
    if (seconds !== undefined) return [await putNext(helpers, read, seconds), error];
    await task.onExhausted?.(read.payload, ctx, error);
    ctx.fence.check();
    await deadLetter(ctx.db, { helpers, name, clientId: read.clientId, payload: read.payload, error });
    return ["gave_up", error];
  }
}

/** When to try again after this attempt: never early, and up to a fifth late, to spread jobs that failed together. */
export function retryDelaySeconds(
  schedule: readonly number[],
  attempt: number,
  chance = Math.random(),
): number | undefined {
  const seconds = schedule[attempt];
  return seconds === undefined ? undefined : seconds * (1 + chance / 5);
}

/** The job as we wrote it, or as the crontab did; an Error when it is neither. */
function readJob<N extends JobName>(name: N, raw: unknown): Read<N> | Error {
  const { access, payload } = jobs[name];
  const isCron = typeof raw === "object" && raw !== null && "_cron" in raw; // tested first: a failed zod parse is slow
  const envelope = Envelope.safeParse(isCron ? Cron.safeParse(raw).data : raw);
  if (!envelope.success) return unreadable("envelope", envelope.error);
  const { clientId, requestId = null, attempt } = envelope.data;
  if (access === "tenant" && clientId === null) return new Error(`A client job has no client: ${name}.`);
  const parsed = payload.safeParse(envelope.data.body);
  if (!parsed.success) return unreadable("payload", parsed.error);
  // The schema of this name has parsed it; the index type cannot express that for a generic name.
  return { clientId, requestId, attempt, payload: parsed.data as JobPayload<N> };
}

function unreadable(part: string, { issues }: z.ZodError): Error {
  const seen = issues.slice(0, 5).map(({ path, message }) => `${path.join(".") || part}: ${message}`);
  return new Error(`The ${part} of this job could not be read. ${seen.join("; ")}`);
}

function contextOf<N extends JobName>(
  name: N,
  { job }: JobHelpers,
  read: Read<N>,
  fields: object,
  deps: TaskDeps,
): JobContext {
  const { db, providers, fence, signal, pool } = deps;
  let log: Logger | undefined; // created on first use: most jobs log only their last line
  const { attempt, clientId, requestId } = read;
  /** The second check is just before the commit: a process that was stopped and resumed rolls back. */
  const fenced =
    <T>(work: (tx: Tx) => Promise<T>) =>
    async (tx: Tx) => {
      const result = await work(tx);
      fence.check();
      return result;
    };
  return {
    ...{
      jobId: String(job.id),
      lostRuns: job.attempts - 1,
      attempt,
      clientId,
      requestId,
      providers,
      db,
      fence,
      signal,
      pool,
    },
    inBackground(work, otherwise) {
      work.catch((error: unknown) => {
        if (!fence.closed) this.log.warn({ err: asError(error) }, otherwise);
      });
    },
    get log() {
      log ??= deps.log.child(fields);
      return log;
    },
    async asClient(work, options) {
      if (jobs[name].access !== "tenant" || clientId === null)
        throw new Error(`${name} is a system job: it has no client.`);
      fence.check();
      return await db.asClient({ clientId, requestId }, fenced(work), options);
    },
    async asSystem(work, options) {
      fence.check();
      return await db.asSystem(fenced(work), { ...options, requestId });
    },
  };
}

/** Removes this job and queues the next attempt, if the row is still ours. A newer job of the same key takes precedence. */
async function putNext(
  helpers: JobHelpers,
  read: Read<JobName>,
  seconds: number,
  attempt = read.attempt + 1,
): Promise<Outcome> {
  const { clientId, requestId, payload } = read;
  const envelope = JSON.stringify({ clientId, requestId, attempt, body: payload });
  const { rows } = await helpers.query<{ put: string }>(
    "select graphile_worker.patchbay_put_next($1::bigint, $2::text, $3::text, $4::json, $5::double precision) as put",
    [helpers.job.id, helpers.job.locked_by, helpers.job.key, envelope, seconds],
  );
  if (rows[0]?.put === "lost") throw new Fenced("Another pool has this job: its failure could not be recorded.");
  if (rows[0]?.put === "superseded") return "superseded";
  return attempt === read.attempt ? "waits" : "retry";
}

type DeadLetter = { helpers: JobHelpers; name: JobName; clientId: string | null; payload: unknown; error: Error };

/** Moves this job to the dead letters in one commit, if the row is still ours. */
async function deadLetter(db: Database, { helpers, name, clientId, payload, error }: DeadLetter) {
  await db.asSystem(async (tx) => {
    const [row] = await tx.execute<{ removed: boolean }>(
      sql`select graphile_worker.patchbay_remove(${helpers.job.id}::bigint, ${helpers.job.locked_by}::text) as removed`,
    );
    if (!row?.removed) throw new Fenced("Another pool has this job: its end could not be recorded.");
    await tx.insert(deadJobs).values(deadJobRow({ task: name, clientId, payload, error: error.message }));
  });
}

/** A dead letter. Its payload can always be stored: Postgres has no zero byte and no lone surrogate. */
export function deadJobRow({
  task,
  clientId,
  payload,
  error,
}: {
  task: string;
  clientId: string | null;
  payload: unknown;
  error: string;
}) {
  const clean = (text: string) => text.toWellFormed().replaceAll("\0", "\ufffd");
  const kept = JSON.stringify(payload ?? {}, (_, value) => (typeof value === "string" ? clean(value) : value));
  return {
    id: newId("gaveUp"),
    task,
    clientId,
    payload: JSON.parse(kept) as unknown,
    error: clean(error.slice(0, 2_000)),
  };
}

/** The error without the parameters that drizzle puts into its messages: they are personal data. */
export function asError(thrown: unknown): Error {
  if (thrown instanceof DrizzleQueryError && thrown.cause) return thrown.cause;
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
