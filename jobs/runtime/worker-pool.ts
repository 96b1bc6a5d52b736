import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CronItem,
  Logger as GraphileLogger,
  parseCronItems,
  run,
  type Task,
  type TaskList,
  type WorkerEvents,
  type WorkerPool,
} from "graphile-worker";
import type pg from "pg";
import type { Logger } from "pino";
import type { PoolKind } from "../../db/queue.ts";
import type { Fence } from "./fence.ts";
import { type Beating, type Heartbeat, startHeartbeat } from "./heartbeat.ts";
import { onConnectionLoss, openQueueConnections } from "./pool-connections.ts";

export type PoolOptions = {
  kind: PoolKind;
  workerUrl: string;
  concurrency: number;
  beating: Beating;
  pollIntervalMs: number;
  log: Logger;
  cronItems: CronItem[];
  /** The tasks of a pool behind this fence; they must stop when `signal` aborts, and should end soon after `draining` does. */
  taskList(fence: Fence, signal: AbortSignal, draining: AbortSignal): TaskList;
};

export type Pool = {
  id: string;
  fence: Fence;
  /** Resolves with the reason when the pool takes no more jobs, because it is fenced or broken. This is final. */
  over: Promise<string>;
  /** Lets running jobs finish, aborts them after `graceMs`, then closes the fence. True if no job is left. */
  drain(graceMs: number): Promise<boolean>;
  abort(): void;
};

/** Long enough for aborted jobs to stop, and for their rows to be returned to the queue. */
const abortGraceMs = 5_000;
/** After this time without a running job, every result is recorded or never will be. */
const quietMs = 1_500;
/** The first fetch of jobs must succeed within this, or the pool has not started. */
const firstFetchMs = 15_000;
/**
 * How many jobs a pool fetches ahead for each of its slots, and when it returns those that it has not started: another
 * worker may be idle. A delivery holds a slot of the whole installation, and must not wait behind busy ones.
 */
const prefetched: Partial<Record<PoolKind, { perSlot: number; ms: number }>> = {
  prompt: { perSlot: 2, ms: 5_000 },
  deliveries: { perSlot: 1, ms: 500 },
};

/** Starts to take jobs under a new id, once the first heartbeat with that id is confirmed. */
export async function startPool(options: PoolOptions): Promise<Pool> {
  const { kind, workerUrl, beating, log } = options;
  const id = `pool-${kind}-${randomBytes(9).toString("hex")}`;
  const heartbeat = await startHeartbeat({ id, kind, slots: options.concurrency }, workerUrl, beating, log);
  const connections = openConnections(id, options);
  try {
    return await runPool({ id, heartbeat, connections, options });
  } catch (error) {
    heartbeat.fence.close();
    await heartbeat.stop();
    await within(abortGraceMs, connections.end());
    throw error;
  }
}

type PoolParts = { id: string; heartbeat: Heartbeat; connections: pg.Pool; options: PoolOptions };

async function runPool({ id, heartbeat, connections, options }: PoolParts): Promise<Pool> {
  const { fence } = heartbeat;
  const [draining, stopping] = [new AbortController(), new AbortController()];
  const running = new RunningJobs();
  const tasks = options.taskList(fence, AbortSignal.any([fence.signal, stopping.signal]), draining.signal);
  const queue = await startQueue({ id, heartbeat, connections, options }, running.watch(tasks));
  const close = async () => {
    fence.close(); // a job that ignores the abort can record nothing from here on
    await heartbeat.stop();
    await within(abortGraceMs, connections.end());
  };

  return {
    id,
    fence,
    over: Promise.race([queue.ended, queue.broken, whenFenced(fence)]),
    async drain(graceMs) {
      draining.abort();
      queue.stop().catch(() => {}); // it may be stopping already
      // After a failed completion the queue counts its batches wrongly, and may never end.
      const drained = Promise.race([queue.ended, running.quiet(quietMs)]);
      let clean = await within(graceMs, drained);
      if (!clean) {
        stopping.abort(new Error("The worker is stopping."));
        clean = await within(abortGraceMs, drained);
      }
      if (!clean) {
        fence.close();
        await within(abortGraceMs, Promise.resolve(queue.kill("The grace period of the worker has ended.")));
      }
      await close();
      return clean;
    },
    abort() {
      draining.abort();
      stopping.abort(new Error("The worker was aborted."));
      queue.stop().catch(() => {});
      close();
    },
  };
}

const whenFenced = (fence: Fence) =>
  new Promise<string>((resolve) => {
    if (fence.closed) resolve("fenced");
    fence.signal.addEventListener("abort", () => resolve("fenced"), { once: true });
  });

/** Runs graphile-worker under the id of the pool. Resolves after its first fetch of jobs. */
async function startQueue({ id, connections, options }: PoolParts, taskList: TaskList) {
  const events: WorkerEvents = new EventEmitter();
  const broken = new Promise<string>((resolve) => {
    events.once("pool:gracefulShutdown", ({ message }) => resolve(message));
  });
  let workers: WorkerPool | undefined;
  events.once("pool:create", ({ workerPool }) => {
    // Jobs are locked under this id. It must be set before the first job, and before the trigger that guards deletions.
    workerPool.id = id;
    workers = workerPool;
  });
  keepUntilReleased(events);
  const firstFetch = watchFirstFetch(events);
  const ahead = prefetched[options.kind];
  const runner = await run({
    pgPool: connections,
    taskList,
    concurrency: options.concurrency,
    pollInterval: options.pollIntervalMs,
    parsedCronItems: parseCronItems(options.cronItems),
    noHandleSignals: true,
    logger: graphileLogger(options.log, firstFetch.readLog),
    events,
    preset: {
      worker: {
        // Batched even where there is little to batch: an unbatched completion that fails is an unhandled rejection.
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        ...(ahead && { localQueue: { size: options.concurrency * ahead.perSlot, ttl: ahead.ms } }),
      },
    },
  });
  const ended = runner.promise.then(
    () => "ended",
    () => "ended",
  );
  ended.then(firstFetch.fail);
  if (!(await firstFetch.within(firstFetchMs))) {
    await within(abortGraceMs, runner.stop());
    throw new Error("The first fetch of jobs failed or timed out.");
  }
  return { ended, broken, stop: () => runner.stop(), kill: (reason: string) => workers?.forcefulShutdown(reason) };
}

/**
 * graphile-worker reads the ids of its tasks once and keeps the result, even a failed one: such a pool would send
 * heartbeats and never take a job. So a pool counts as started after its first successful fetch. A failure before it is
 * an event, or, where jobs are fetched ahead, only a log line.
 */
function watchFirstFetch(events: WorkerEvents) {
  const first = Promise.withResolvers<boolean>();
  const fail = () => first.resolve(false);
  for (const event of ["localQueue:getJobs:complete", "worker:getJob:empty", "job:start"] as const)
    events.once(event, () => first.resolve(true));
  events.once("worker:getJob:error", fail);
  return {
    fail,
    readLog(line: string) {
      if (line.startsWith("Error occurred fetching jobs")) fail();
    },
    async within(ms: number) {
      return (await within(ms, first.promise)) && (await first.promise);
    },
  };
}

/** Counts the jobs that run in a pool. */
class RunningJobs {
  #count = 0;

  watch(tasks: TaskList): TaskList {
    const watched = Object.entries(tasks).map(([name, task]) => [name, task && this.#counted(task)]);
    return Object.fromEntries(watched);
  }

  /** Resolves when no job has run for `ms`. */
  async quiet(ms: number) {
    const step = 50;
    for (let quietMs = 0; quietMs < ms; quietMs = this.#count === 0 ? quietMs + step : 0) await sleep(step);
  }

  #counted(task: Task): Task {
    return async (payload, helpers) => {
      this.#count++;
      try {
        return await task(payload, helpers);
      } finally {
        this.#count--;
      }
    };
  }
}

/**
 * When it ends, the local queue returns prefetched jobs as background work. It does not track that work unless some is
 * under way already: then a connection lost at that moment is a rejection that ends the process.
 */
function keepUntilReleased(events: WorkerEvents) {
  const held = Promise.withResolvers<void>();
  events.once("localQueue:init", ({ localQueue }) => {
    // Private in the types, and the only way to be tracked.
    (localQueue as unknown as { background(work: Promise<void>): void }).background(held.promise);
  });
  events.on("localQueue:setMode", ({ newMode }) => {
    if (newMode === "RELEASED") held.resolve();
  });
}

/** Returns whether the work settled in time. It does not interrupt the work, and ignores its failure. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  const done = work.then(
    () => true,
    () => true,
  );
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false);
  return await Promise.race([done, late]).finally(() => timer.abort());
}

/** Connections that carry the pool's id: the database checks it when a job is removed. */
function openConnections(id: string, { workerUrl, kind, concurrency, log }: PoolOptions): pg.Pool {
  const max = kind in prefetched ? 8 : concurrency + 3;
  const connections = openQueueConnections(
    { workerUrl, name: `patchbay-${kind}`, max, statementMs: 30_000, queryMs: 32_000 },
    {
      keepAlive: true,
      onConnect: async (client) => {
        await client.query("select set_config('patchbay.pool', $1, false)", [id]);
      },
    },
  );
  onConnectionLoss(connections, (reason) => log.warn({ reason, pool: id }, "queue connection lost"));
  return connections;
}

const levels = { error: "error", warning: "warn", info: "debug", debug: "trace" } as const;

/** graphile-worker's own log lines. Those about each job and about the number of connections are logged elsewhere. */
function graphileLogger(log: Logger, readLog: (line: string) => void): GraphileLogger {
  return new GraphileLogger(({ label, workerId, taskIdentifier, jobId }) => (level, message, meta) => {
    readLog(message);
    const isRepeated = meta && ("failure" in meta || "max" in meta);
    const fields = { label, worker: workerId, task: taskIdentifier, job_id: jobId };
    log[isRepeated ? "debug" : levels[level]](fields, message);
  });
}
