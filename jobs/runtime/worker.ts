import { setTimeout as sleep } from "node:timers/promises";
import type { CronItem, TaskList } from "graphile-worker";
import pg from "pg";
import type { Logger } from "pino";
import type { Database } from "../../db/client.ts";
import { type JobName, jobs, type PoolKind, poolKinds } from "../../db/queue.ts";
import type { Providers } from "../../routers/ports/index.ts";
import type { Fence } from "./fence.ts";
import { type Beating, beatingDefaults } from "./heartbeat.ts";
import { type PeriodicLoop, periodOf } from "./loops.ts";
import { rescueEveryMs, rescueTimer } from "./rescue.ts";
import { openShares, type Shares } from "./shares.ts";
import { type Tasks, toWorkerTask } from "./task.ts";
import { startTimers, type Timer } from "./timers.ts";
import { onConnectionLoss, type Pool, type PoolOptions, startPool } from "./worker-pool.ts";

export type WorkerOptions = {
  workerUrl: string;
  db: Database;
  providers: Providers;
  log: Logger;
  tasks: Partial<Tasks>;
  /** Lines of five fields (UTC) and the name of a job of the house. Minutes without a worker are not made up for. */
  crontab?: string;
  /** Jobs at once. */
  concurrency?: Partial<Record<PoolKind, number>>;
  heartbeat?: Beating;
  rescueEveryMs?: number;
  pollIntervalMs?: number;
  /** How long running jobs may go on when the worker stops. */
  graceMs?: number;
  timers?: readonly Timer[];
  /** Called with the name of a job of the crontab, or of a timer, whenever it has succeeded. */
  onSuccess?: (name: string) => void;
  /** Clients whose work waits. */
  isSuspended?: (clientId: string) => boolean;
};

export type Workers = {
  /** Lets running jobs finish, within bounds; whatever is left is given back to the queue. */
  stop(): Promise<void>;
  /** Waits for nothing. */
  abort(): void;
  /** The names in which jobs are locked at present. */
  readonly pools: string[];
};

/** What is queued begins at once, for it is told; this is how late at most begins what was queued for later. */
const pollEveryMs = { prompt: 250, deliveries: 250, slow: 2_000 };
const slotsUnlessGiven = { prompt: 50, deliveries: 50, slow: 4 };

/** Runs the jobs, in a pool for each kind, so that no kind takes the slots of another. A pool that is fenced or breaks is replaced. */
export async function startWorkers(options: WorkerOptions): Promise<Workers> {
  const { db, providers, log, tasks, heartbeat: beating = beatingDefaults, graceMs = 25_000 } = options;
  const pools = poolsOf(options);
  const connections = openConnections(options);
  const stopped = Promise.withResolvers<void>();
  let stopping = false;
  const current = new Map<string, Pool>();
  const leaving = new Set<Promise<void>>();

  const open = async (pool: PoolOptions) => {
    const started = await startPool(pool);
    current.set(pool.kind, started);
    log.info({ pool: started.id }, "pool started");
  };
  /** Ends a pool. Its locks are given back at once only when nothing of it runs any more; else the rescue does it. */
  const leave = (pool: Pool) => {
    const left = pool.drain(graceMs).then(async (clean) => {
      if (clean) await connections.query("select graphile_worker.patchbay_retire($1::text[])", [[pool.id]]);
      else log.error({ pool: pool.id }, "jobs did not end in time: they are left to another worker");
    });
    const quiet = left
      .catch((err) => log.warn({ err, pool: pool.id }, "pool not retired"))
      .finally(() => leaving.delete(quiet));
    leaving.add(quiet);
  };
  const keep = async (pool: PoolOptions) => {
    while (!stopping) {
      const held = current.get(pool.kind)!;
      const why = await Promise.race([held.over, stopped.promise]);
      if (stopping) return;
      log.error({ pool: held.id, why }, "pool replaced");
      leave(held);
      for (let waitMs = 200; !stopping; waitMs = Math.min(waitMs * 2, 10_000)) {
        const failure = await open(pool).catch((err: unknown) => err);
        if (failure === undefined) break;
        log.error({ err: failure }, "pool not started");
        await Promise.race([sleep(waitMs), stopped.promise]);
      }
    }
  };

  try {
    for (const pool of pools) await open(pool);
  } catch (error) {
    for (const pool of current.values()) pool.abort();
    await connections.end();
    throw error;
  }
  const kept = pools.map(keep);
  const rescue = rescueTimer({
    connections,
    deadAfterMs: beating.deadAfterMs,
    everyMs: options.rescueEveryMs ?? rescueEveryMs,
  });
  const timers = startTimers([rescue, ...(options.timers ?? [])], {
    ...{ db, providers, log },
    ...(options.onSuccess ? { onSuccess: options.onSuccess } : {}),
  });

  const halt = async (end: (pool: Pool) => void) => {
    if (stopping) return;
    stopping = true;
    stopped.resolve();
    await Promise.all([...kept, timers.stop()]);
    for (const pool of current.values()) end(pool);
    while (leaving.size > 0) await Promise.all(leaving);
    await connections.end();
  };
  return {
    stop: () => halt(leave),
    abort: () => {
      halt((pool) => pool.abort()).catch((err) => log.warn({ err }, "worker aborted"));
    },
    get pools() {
      return [...current.values()].map(({ id }) => id);
    },
  };

  function poolsOf({ workerUrl, concurrency, pollIntervalMs }: WorkerOptions): PoolOptions[] {
    const slots = { ...slotsUnlessGiven, ...concurrency };
    const served = poolKinds.filter((kind) => namesOf(tasks, kind).length > 0);
    return served.map((kind) => ({
      ...{ kind, workerUrl, beating, log, concurrency: slots[kind] },
      pollIntervalMs: pollIntervalMs ?? pollEveryMs[kind],
      cronItems: kind === served.at(-1) ? cronItems(options.crontab ?? "") : [],
      taskList: (fence, signal) => taskList(kind, fence, signal, openShares(slots[kind])),
    }));
  }

  function taskList(kind: PoolKind, fence: Fence, signal: AbortSignal, shares: Shares): TaskList {
    const list: TaskList = {};
    const { isSuspended, onSuccess } = options;
    const ofCrontab = new Set(cronItems(options.crontab ?? "").map(({ task }) => task));
    const onDone = (name: JobName) => (ofCrontab.has(name) ? onSuccess?.(name) : undefined);
    const add = <N extends JobName>(name: N) => {
      const task: Tasks[N] | undefined = tasks[name];
      if (task)
        list[name] = toWorkerTask(name, task, { db, providers, log, fence, signal, isSuspended, shares, onDone });
    };
    for (const name of namesOf(tasks, kind)) add(name);
    return list;
  }
}

function namesOf(tasks: Partial<Tasks>, kind: PoolKind): JobName[] {
  return (Object.keys(tasks) as JobName[]).filter((name) => tasks[name] && jobs[name].pool === kind);
}

/** The loops of a crontab, with their periods. */
export const loopsOf = (crontab: string): PeriodicLoop[] =>
  cronItems(crontab).map(({ task, match }) => ({ name: task, periodSeconds: periodOf(String(match)) }));

/** At most one of a kind waits, and none disturbs one that runs. The queue's own reader knows no names with dots. */
function cronItems(crontab: string): CronItem[] {
  const lines = crontab.split("\n").map((line) => line.trim());
  return lines
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, match = "", task = ""] = /^((?:\S+\s+){4}\S+)\s+(\S+)$/.exec(line) ?? [];
      if (!isHouseJob(task)) throw new Error(`This line of the crontab names no job of the house: ${line}`);
      return { task, match, options: { maxAttempts: 10, jobKey: `${task}:cron`, jobKeyMode: "replace" } };
    });
}

const isHouseJob = (name: string) => Object.hasOwn(jobs, name) && jobs[name as JobName].access === "system";

/** For rescue and retirement. They carry no pool's name: they remove nothing. */
function openConnections({ workerUrl, log }: WorkerOptions): pg.Pool {
  const connections = new pg.Pool({
    connectionString: workerUrl,
    application_name: "patchbay-rescue",
    max: 1,
    connectionTimeoutMillis: 10_000,
    statement_timeout: 20_000,
    query_timeout: 25_000,
  });
  onConnectionLoss(connections, (reason) => log.warn({ reason }, "the rescue's connection was lost"));
  return connections;
}
