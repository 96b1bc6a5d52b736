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
import pg from "pg";
import type { Logger } from "pino";
import type { PoolKind } from "../../db/queue.ts";
import type { Fence } from "./fence.ts";
import { type Beating, type Heartbeat, startHeartbeat } from "./heartbeat.ts";

export type PoolOptions = {
  kind: PoolKind;
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
  /** Lets running jobs finish for so long, tells them to stop, leaves them to the fence. True: none is left. */
  drain(graceMs: number): Promise<boolean>;
  abort(): void;
};

/** Long enough for jobs that listen to their signal, and for their rows to be given back. */
const lastWordsMs = 5_000;
/** Nothing has run for so long, so what was done is recorded, or will not be. */
const quietMs = 1_500;
/** The first question for jobs is answered within this, or the pool has not started. */
const firstAnswerMs = 15_000;
/**
 * How many jobs a pool fetches ahead for each of its slots, and when it gives back those that it has not begun: another
 * worker may be idle. A delivery holds a slot of the whole installation, and may not wait behind busy ones.
 */
const prefetched: Partial<Record<PoolKind, { perSlot: number; ms: number }>> = {
  prompt: { perSlot: 2, ms: 5_000 },
  deliveries: { perSlot: 1, ms: 500 },
};

/** Starts to take jobs, under a new name, once the first beat has made it known. */
export async function startPool(options: PoolOptions): Promise<Pool> {
  const { kind, workerUrl, beating, log } = options;
  const id = `pool-${kind}-${randomBytes(9).toString("hex")}`;
  const heartbeat = await startHeartbeat({ id, kind, slots: options.concurrency }, workerUrl, beating, log);
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
  const running = new Running();
  const events: WorkerEvents = new EventEmitter();
  const broken = new Promise<string>((resolve) => {
    events.once("pool:gracefulShutdown", ({ message }) => resolve(message));
  });
  let workers: WorkerPool | undefined;
  events.once("pool:create", ({ workerPool }) => {
    // Locks are taken in this name. It must be known before the first job is, and to the trigger that guards deletions.
    workerPool.id = id;
    workers = workerPool;
  });
  keepUntilReleased(events);
  const answered = firstAnswer(events);
  const ahead = prefetched[options.kind];
  const runner = await run({
    pgPool: connections,
    taskList: running.watch(options.taskList(fence, AbortSignal.any([fence.signal, stopping.signal]))),
    concurrency: options.concurrency,
    pollInterval: options.pollIntervalMs,
    parsedCronItems: parseCronItems(options.cronItems),
    noHandleSignals: true,
    logger: graphileLogger(options.log, answered.hear),
    events,
    preset: {
      worker: {
        // Batched also where there is little to batch: an unbatched completion that fails is a rejection nobody hears.
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        ...(ahead && { localQueue: { size: options.concurrency * ahead.perSlot, ttl: ahead.ms } }),
      },
    },
  });
  const ended = runner.promise.then(
    () => "it ended",
    () => "it ended",
  );
  ended.then(answered.never);
  if (!(await answered.within(firstAnswerMs))) {
    await within(lastWordsMs, runner.stop());
    throw new Error("The queue gave no answer when it was first asked for jobs.");
  }
  const fenced = new Promise<string>((resolve) => {
    if (fence.closed) resolve("it is fenced");
    fence.signal.addEventListener("abort", () => resolve("it is fenced"), { once: true });
  });
  const close = async () => {
    fence.close(); // what runs in spite of all can record nothing from here on
    await heartbeat.stop();
    await within(lastWordsMs, connections.end());
  };

  return {
    id,
    fence,
    over: Promise.race([ended, broken, fenced]),
    async drain(graceMs) {
      runner.stop().catch(() => {}); // it may have begun to stop by itself
      // After a failed completion the queue counts its batches wrongly, and may never say that it has ended.
      const drained = Promise.race([ended, running.quiet(quietMs)]);
      let clean = await within(graceMs, drained);
      if (!clean) {
        stopping.abort(new Error("The worker is stopping."));
        clean = await within(lastWordsMs, drained);
      }
      if (!clean) {
        fence.close();
        await within(lastWordsMs, Promise.resolve(workers?.forcefulShutdown("The worker waits no longer.")));
      }
      await close();
      return clean;
    },
    abort() {
      stopping.abort(new Error("The worker was aborted."));
      runner.stop().catch(() => {});
      close();
    },
  };
}

/**
 * The queue asks for the numbers of its tasks once, and keeps the answer, also when the question has failed: such a pool
 * would beat on and never take a job. So it counts as started when it was first answered; what fails before is told by an
 * event, or where jobs are fetched ahead by nothing but a line for the log.
 */
function firstAnswer(events: WorkerEvents) {
  const first = Promise.withResolvers<boolean>();
  const never = () => first.resolve(false);
  for (const event of ["localQueue:getJobs:complete", "worker:getJob:empty", "job:start"] as const)
    events.once(event, () => first.resolve(true));
  events.once("worker:getJob:error", never);
  return {
    never,
    /** A line that the queue has for its log. */
    hear(line: string) {
      if (line.startsWith("Error occurred fetching jobs")) never();
    },
    /** Whether it was answered in time. */
    async within(ms: number) {
      return (await within(ms, first.promise)) && (await first.promise);
    },
  };
}

/** How many jobs run in a pool at this moment. */
class Running {
  #count = 0;

  watch(tasks: TaskList): TaskList {
    const watched = Object.entries(tasks).map(([name, task]) => [name, task && this.#counted(task)]);
    return Object.fromEntries(watched);
  }

  /** Resolves when nothing has run for so long. */
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
 * When it ends, the local queue gives prefetched jobs back as background work, which it refuses to itself unless some
 * is under way: then they go unwatched, and a connection lost in that moment is a rejection that ends the process.
 */
function keepUntilReleased(events: WorkerEvents) {
  const held = Promise.withResolvers<void>();
  events.once("localQueue:init", ({ localQueue }) => {
    // Private in the types, and the only way to be counted.
    (localQueue as unknown as { background(work: Promise<void>): void }).background(held.promise);
  });
  events.on("localQueue:setMode", ({ newMode }) => {
    if (newMode === "RELEASED") held.resolve();
  });
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
    max: kind in prefetched ? 8 : concurrency + 3,
    connectionTimeoutMillis: 10_000,
    statement_timeout: 30_000,
    query_timeout: 32_000, // ours: a server that has stopped ends no statement
    keepAlive: true,
    onConnect: async (client) => {
      await client.query("select set_config('patchbay.pool', $1, false)", [id]);
    },
  });
  onConnectionLoss(connections, (reason) => log.warn({ reason, pool: id }, "a connection of the queue was lost"));
  return connections;
}

/** A lost connection is replaced when it is next wanted; unheard, it would end the process. Of the error, the words. */
export function onConnectionLoss(connections: pg.Pool, tell: (reason: string) => void) {
  connections.on("connect", (client) => {
    client.on("error", ({ message }) => tell(message));
    endWhenSilent(client, tell);
  });
  connections.on("error", () => {}); // an idle one: the same error once more
}

/** A query that missed its deadline (`query_timeout`) is still under way: its connection is closed, and never used again. */
function endWhenSilent(client: pg.PoolClient, tell: (reason: string) => void) {
  const query = client.query.bind(client) as (...given: unknown[]) => unknown;
  const watched = (...given: unknown[]) => {
    const sent = query(...given);
    if (!(sent instanceof Promise)) return sent;
    sent.catch(({ message }: Error) => {
      if (message !== "Query read timeout") return;
      tell(message);
      (client as unknown as pg.Client).end().catch(() => {}); // gone already
    });
    return sent;
  };
  client.query = watched as typeof client.query; // it takes and gives what the original does
}

const levels = { error: "error", warning: "warn", info: "debug", debug: "trace" } as const;

/** The queue's own words. What it says of each job, and of the number of connections, is said better elsewhere. */
function graphileLogger(log: Logger, hear: (line: string) => void): GraphileLogger {
  return new GraphileLogger(({ label, workerId, taskIdentifier, jobId }) => (level, message, meta) => {
    hear(message);
    const known = meta && ("failure" in meta || "max" in meta);
    const told = { label, worker: workerId, task: taskIdentifier, job_id: jobId };
    log[known ? "debug" : levels[level]](told, message);
  });
}
