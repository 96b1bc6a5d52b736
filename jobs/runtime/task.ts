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
  clientId: string | null;
  requestId: string | null;
  log: Logger;
  providers: Providers;
  db: Database;
  /** A transaction of the job's client, fenced at both ends. A job of the house has none. */
  asClient<T>(work: (tx: Tx) => Promise<T>, options?: Mode): Promise<T>;
  /** A transaction of the house, fenced at both ends. */
  asSystem<T>(work: (tx: Tx) => Promise<T>, options?: Mode): Promise<T>;
  /** Throws when this pool may have been declared dead: ask before every effect that is not a transaction of ours. */
  fence: Pick<Fence, "check">;
  /** What the job begins and does not wait for. Nobody may rely on it: where it fails, `otherwise` tells the log who will do it. */
  inBackground(work: Promise<unknown>, otherwise: string): void;
  /** Aborts when the pool is fenced, or when a worker that stops waits no longer. */
  signal: AbortSignal;
};

export type Task<N extends JobName> = {
  run(payload: JobPayload<N>, ctx: JobContext): Promise<void>;
  /** Its client is suspended: puts the work where it is found again. Without this the job itself waits in the queue. */
  requeue?(payload: JobPayload<N>, ctx: JobContext): Promise<void>;
  /** The last attempt has failed. Called again when the process dies in it: what it does must bear that. */
  onExhausted?(payload: JobPayload<N>, ctx: JobContext, error: Error): Promise<void>;
};

export type Tasks = { [N in JobName]: Task<N> };
export type TaskDeps = {
  db: Database;
  providers: Providers;
  log: Logger;
  fence: Fence;
  signal: AbortSignal;
  /** Clients whose work waits. */
  isSuspended?: ((clientId: string) => boolean) | undefined;
  /** Called with the name of a job that is done. */
  onDone?: ((name: JobName) => void) | undefined;
  /** Of the slots of this pool. */
  shares?: Shares;
};

type Outcome = "done" | "retry" | "superseded" | "gave_up" | "waits";

/** How soon the work of a suspended client is looked at again. */
const suspendedSeconds = 30;
/** How soon a job comes again that could not open what is sealed. */
const keylessSeconds = 15;
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
/** What the crontab writes: the body, with `_cron` among its fields. */
const Cron = z
  .looseObject({ _cron: z.looseObject({ ts: z.string() }) })
  .transform(({ _cron, ...body }): z.input<typeof Envelope> => ({ clientId: null, body }));

/**
 * Gives a task to the worker. One run is one attempt: a failed one puts the next in its own place, in one commit, so
 * that a process may die at any point and there is still exactly one. A fenced run throws: its row belongs to its heir.
 */
export function toWorkerTask<N extends JobName>(name: N, task: Task<N>, deps: TaskDeps): WorkerTask {
  // The fields of a line without an error are few and known: going through the list of secrets would cost more than the line.
  const lines = deps.log.child({}, { redact: { paths: [] } });
  return async (raw: unknown, helpers: JobHelpers) => {
    const began = performance.now();
    const jobId = String(helpers.job.id);
    let told: object = { task: name, job_id: jobId };
    let attempt = 0;
    const conclude = (outcome: string, level: "debug" | "info" | "warn" | "error", extra?: object) => {
      const line = { ...told, attempt, outcome, ms: Math.round(performance.now() - began), ...extra };
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
      told = { client_id: read.clientId, request_id: read.requestId, ...told };
      const isSuspended = mustWait(name, read.clientId, deps);
      const run = isSuspended ? task.requeue : task.run;
      if (!run) return conclude(await putNext(helpers, read, suspendedSeconds, read.attempt), "info");
      const place = placeFor(name, read.clientId, deps);
      if (place && "againInSeconds" in place) {
        const came = await putNext(helpers, read, place.againInSeconds, read.attempt);
        return conclude(came === "waits" ? "shares" : came, "debug");
      }
      const ctx = contextOf(name, jobId, read, told, deps);
      const [came, err] = await attemptOnce(name, { ...task, run }, read, ctx, helpers).finally(() => place?.leave());
      const outcome = isSuspended && came === "done" ? "put_back" : came;
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

/** A slot of the client's share, for jobs that may hold one for long; deliveries are admitted by shares already. */
function placeFor(name: JobName, clientId: string | null, { shares }: TaskDeps): Place | null {
  const isLong = jobs[name].pool === "slow" || "callsProvider" in jobs[name];
  return isLong && clientId !== null && shares ? shares.enter(clientId) : null;
}

/** Work of a suspended client is put off and uses up no attempt. */
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

/** When to try again after this attempt: never early, up to a fifth late so that what failed together comes apart. */
export function retryDelaySeconds(
  schedule: readonly number[],
  attempt: number,
  chance = Math.random(),
): number | undefined {
  const seconds = schedule[attempt];
  return seconds === undefined ? undefined : seconds * (1 + chance / 5);
}

/** The row as we wrote it, or as the crontab did; an Error when it is neither. */
function readJob<N extends JobName>(name: N, raw: unknown): Read<N> | Error {
  const { access, payload } = jobs[name];
  const isCron = typeof raw === "object" && raw !== null && "_cron" in raw; // asked first: a refusal of zod's is dear
  const envelope = Envelope.safeParse(isCron ? Cron.safeParse(raw).data : raw);
  if (!envelope.success) return unreadable("envelope", envelope.error);
  const { clientId, requestId = null, attempt } = envelope.data;
  if (access === "tenant" && clientId === null) return new Error(`A job of a client came without one: ${name}.`);
  const parsed = payload.safeParse(envelope.data.body);
  if (!parsed.success) return unreadable("payload", parsed.error);
  // The schema of this very name has read it; the index type cannot say so for a name that is still open.
  return { clientId, requestId, attempt, payload: parsed.data as JobPayload<N> };
}

function unreadable(part: string, { issues }: z.ZodError): Error {
  const seen = issues.slice(0, 5).map(({ path, message }) => `${path.join(".") || part}: ${message}`);
  return new Error(`The ${part} of this job could not be read. ${seen.join("; ")}`);
}

function contextOf<N extends JobName>(name: N, jobId: string, read: Read<N>, told: object, deps: TaskDeps): JobContext {
  const { db, providers, fence, signal } = deps;
  let log: Logger | undefined; // most jobs say nothing but their last line
  const { attempt, clientId, requestId } = read;
  /** The second look is just before the commit: what a stopped process had begun is rolled back when it goes on. */
  const fenced =
    <T>(work: (tx: Tx) => Promise<T>) =>
    async (tx: Tx) => {
      const result = await work(tx);
      fence.check();
      return result;
    };
  return {
    ...{ jobId, attempt, clientId, requestId, providers, db, fence, signal },
    inBackground(work, otherwise) {
      work.catch((error: unknown) => {
        if (!fence.closed) this.log.warn({ err: asError(error) }, otherwise);
      });
    },
    get log() {
      log ??= deps.log.child(told);
      return log;
    },
    async asClient(work, options) {
      if (jobs[name].access !== "tenant" || clientId === null)
        throw new Error(`${name} is a job of the house: it has no client.`);
      fence.check();
      return await db.asClient({ clientId, requestId }, fenced(work), options);
    },
    async asSystem(work, options) {
      fence.check();
      return await db.asSystem(fenced(work), { ...options, requestId });
    },
  };
}

/** Removes this job and queues the next attempt, if the row is still ours; a newer one of the same key goes before. */
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
  if (rows[0]?.put === "lost")
    throw new Fenced("This job was given to another pool before its failure could be recorded.");
  if (rows[0]?.put === "superseded") return "superseded";
  return attempt === read.attempt ? "waits" : "retry";
}

type Burial = { helpers: JobHelpers; name: JobName; clientId: string | null; payload: unknown; error: Error };

/** Removes this job and keeps it for people to look at, in one commit, if the row is still ours. */
async function deadLetter(db: Database, { helpers, name, clientId, payload, error }: Burial) {
  await db.asSystem(async (tx) => {
    const [row] = await tx.execute<{ removed: boolean }>(
      sql`select graphile_worker.patchbay_remove(${helpers.job.id}::bigint, ${helpers.job.locked_by}::text) as removed`,
    );
    if (!row?.removed) throw new Fenced("This job was given to another pool before its end could be recorded.");
    await tx.insert(deadJobs).values(deadJobRow({ task: name, clientId, payload, error: error.message }));
  });
}

/** A row for people to look at. Whatever it held can be written: Postgres keeps no zero byte and no half of a pair. */
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

/** What went wrong, without the parameters that drizzle puts into its messages: they are people's data. */
function asError(thrown: unknown): Error {
  if (thrown instanceof DrizzleQueryError && thrown.cause) return thrown.cause;
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
