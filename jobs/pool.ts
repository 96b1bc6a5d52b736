import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CronItem,
  Logger as GraphileLogger,
  parseCronItems,
  type Runner,
  run,
  type TaskList,
  type WorkerEvents,
  type WorkerPool,
} from "graphile-worker";
import pg from "pg";
import type { Logger } from "pino";
import type { Fence } from "./fence.ts";
import { type Beating, type Heartbeat, startHeartbeat } from "./heartbeat.ts";

export type PoolOptions = {
  kind: "prompt" | "slow";
  workerUrl: string;
  concurrency: number;
  beating: Beating;
  pollIntervalMs: number;
  log: Logger;
  cronItems: CronItem[];
  /** The tasks of a pool behind this fence; `signal` tells them to stop. */
  taskList(fence: Fence, signal: AbortSignal): TaskList;
};

export type Pool = {
  id: string;
  fence: Fence;
  /** Resolves, with the reason, when it takes no more jobs: fenced, or broken. It never takes any again. */
  over: Promise<string>;
  /** Lets running jobs finish for so long, then tells them to stop, then leaves them to the fence. True: none is left. */
  drain(graceMs: number): Promise<boolean>;
  abort(): void;
};

/** Long enough for jobs that listen to their signal, and for their rows to be given back. */
const lastWordsMs = 5_000;
/** Prefetched jobs that nobody here has come to are given back after this: another worker may be idle. */
const prefetchMs = 5_000;

/** Starts to take jobs, under a new name, once the first beat has made it known. */
export async function startPool(options: PoolOptions): Promise<Pool> {
  const { kind, workerUrl, beating, log } = options;
  const id = `pool-${kind}-${randomBytes(9).toString("hex")}`;
  const heartbeat = await startHeartbeat(id, workerUrl, beating, log);
  const connections = openConnections(id, options);
  try {
    return await runPool(id, heartbeat, connections, options);
  } catch (error) {
    heartbeat.fence.close();
    await heartbeat.stop();
    await within(lastWordsMs, connections.end());
    throw error;
  }
}

async function runPool(id: string, heartbeat: Heartbeat, connections: pg.Pool, options: PoolOptions): Promise<Pool> {
  const { fence } = heartbeat;
  const stopping = new AbortController();
  const signal = AbortSignal.any([fence.signal, stopping.signal]);
  const events: WorkerEvents = new EventEmitter();
  let workers: WorkerPool | undefined;
  events.once("pool:create", ({ workerPool }) => {
    // Locks are taken in this name. It must be known before the first job is, and to the trigger that guards deletions.
    workerPool.id = id;
    workers = workerPool;
  });
  keepUntilReleased(events);
  const runner = await run({
    pgPool: connections,
    taskList: options.taskList(fence, signal),
    concurrency: options.concurrency,
    pollInterval: options.pollIntervalMs,
    parsedCronItems: parseCronItems(options.cronItems),
    noHandleSignals: true,
    logger: graphileLogger(options.log),
    events,
    preset: {
      worker: {
        // Batched also where there is little to batch: an unbatched completion that fails is a rejection nobody hears.
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        ...(options.kind === "prompt" && { localQueue: { size: options.concurrency * 10, ttl: prefetchMs } }),
      },
    },
  });
  const ended = runner.promise.then(
    () => "it ended",
    (error) => `it broke: ${error instanceof Error ? error.message : error}`,
  );
  const fenced = new Promise<string>((resolve) => {
    if (fence.closed) resolve("it is fenced");
    fence.signal.addEventListener("abort", () => resolve("it is fenced"), { once: true });
  });

  const close = async () => {
    await heartbeat.stop();
    await within(lastWordsMs, connections.end());
  };
  const force = async () => {
    fence.close(); // what still runs can record nothing from here on
    await within(lastWordsMs * 2, Promise.resolve(workers?.forcefulShutdown("The worker waits no longer.")));
  };

  return {
    id,
    fence,
    over: Promise.race([ended, fenced]),
    async drain(graceMs) {
      const drained = stopRunner(runner);
      let clean = await within(graceMs, drained);
      if (!clean) {
        stopping.abort(new Error("The worker is stopping."));
        clean = await within(lastWordsMs, drained);
      }
      if (!clean) await force();
      await close();
      return clean;
    },
    abort() {
      stopping.abort(new Error("The worker was aborted."));
      stopRunner(runner).catch(() => {});
      force().then(close, close);
    },
  };
}

/**
 * When it ends, the local queue gives prefetched jobs back as background work, which it refuses to itself unless some is
 * under way: then they go unwatched, and a connection lost in that moment is a rejection that ends the process.
 */
function keepUntilReleased(events: WorkerEvents) {
  const held = Promise.withResolvers<void>();
  events.once("localQueue:init", ({ localQueue }) => {
    (localQueue as unknown as { background(work: Promise<void>): void }).background(held.promise); // private in the types
  });
  events.on("localQueue:setMode", ({ newMode }) => {
    if (newMode === "RELEASED") held.resolve();
  });
}

/** Resolves when the last job has ended and its end is recorded. */
async function stopRunner(runner: Runner) {
  await runner.stop().catch(() => {}); // it may have begun to stop by itself
  await runner.promise.catch(() => {});
}

/** Whether the work was done in time. It is not interrupted, and its failure is its own. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  const done = work.then(
    () => true,
    () => true,
  );
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false);
  return await Promise.race([done, late]).finally(() => timer.abort());
}

/** Connections that carry the pool's name: the database asks for it when a job is removed. */
function openConnections(id: string, { workerUrl, kind, concurrency, log }: PoolOptions): pg.Pool {
  const connections = new pg.Pool({
    connectionString: workerUrl,
    application_name: `patchbay-${kind}`,
    max: kind === "prompt" ? 8 : concurrency + 3,
    connectionTimeoutMillis: 10_000,
    statement_timeout: 30_000,
    keepAlive: true,
    onConnect: async (client) => {
      await client.query("select set_config('patchbay.pool', $1, false)", [id]);
    },
  });
  const heard = (err: Error) => log.warn({ err, pool: id }, "a connection of the queue was lost");
  connections.on("error", heard);
  connections.on("connect", (client) => client.on("error", heard));
  return connections;
}

const levels = { error: "error", warning: "warn", info: "debug", debug: "trace" } as const;

/** The queue's own words. What it says of each job, and of pools smaller than it would like, is said better elsewhere. */
function graphileLogger(log: Logger): GraphileLogger {
  return new GraphileLogger(({ label, workerId, taskIdentifier, jobId }) => (level, message, meta) => {
    const known = meta && ("failure" in meta || "max" in meta);
    const told = { label, worker: workerId, task: taskIdentifier, job_id: jobId };
    log[known ? "debug" : levels[level]](told, message);
  });
}
