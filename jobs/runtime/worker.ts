import type { CronItem, TaskList } from "graphile-worker";
import type pg from "pg";
import type { Logger } from "pino";
import type { Database } from "../../db/client.ts";
import { type JobName, jobs, type PoolKind, poolKinds } from "../../db/queue.ts";
import type { Providers } from "../../routers/ports/index.ts";
import type { Fence } from "./fence.ts";
import { type Beating, beatingDefaults } from "./heartbeat.ts";
import { type PeriodicLoop, periodOf } from "./loops.ts";
import { onConnectionLoss, openQueueConnections } from "./pool-connections.ts";
import { supervisePools } from "./pool-supervisor.ts";
import { rescueEveryMs, rescueTimer } from "./rescue.ts";
import { openShares, type Shares } from "./shares.ts";
import { type PoolState, type Tasks, toWorkerTask } from "./task.ts";
import { startTimers, type Timer } from "./timers.ts";
import type { PoolOptions } from "./worker-pool.ts";

export type WorkerOptions = {
  workerUrl: string;
  db: Database;
  providers: Providers;
  log: Logger;
  tasks: Partial<Tasks>;
  /** Lines of five fields (UTC) and the name of a system job. Minutes without a worker are not caught up. */
  crontab?: string;
  /** How many jobs run concurrently. */
  concurrency?: Partial<Record<PoolKind, number>>;
  heartbeat?: Beating;
  rescueEveryMs?: number;
  pollIntervalMs?: number;
  /** How long running jobs may go on when the worker stops. */
  graceMs?: number;
  timers?: readonly Timer[];
  /** Called after each success of a crontab job or a timer, with its name. */
  onSuccess?: (name: string) => void;
  /** Suspended clients: their jobs wait. */
  isSuspended?: (clientId: string) => boolean;
};

export type Workers = {
  /** Lets running jobs finish within the grace period, and returns the rest to the queue. */
  stop(): Promise<void>;
  /** Stops without waiting for running jobs. */
  abort(): void;
  /** The ids under which jobs are locked at present. */
  readonly pools: string[];
};

/** Queued jobs start immediately, by notification. This is the maximum delay of jobs that were queued for later. */
const pollEveryMs = { prompt: 250, deliveries: 250, slow: 2_000 };
const defaultSlots = { prompt: 50, deliveries: 50, slow: 4 };

/** Runs the jobs in one pool for each kind, so that no kind takes the slots of another. */
export async function startWorkers(options: WorkerOptions): Promise<Workers> {
  const { db, providers, log, heartbeat: beating = beatingDefaults, graceMs = 25_000 } = options;
  const connections = openConnections(options);
  const retire = async (poolId: string) => {
    await connections.query("select graphile_worker.patchbay_retire($1::text[])", [[poolId]]);
  };
  const pools = await supervisePools(poolsOf(options, beating), { log, graceMs, retire }).catch(async (error) => {
    await connections.end();
    throw error;
  });
  const everyMs = options.rescueEveryMs ?? rescueEveryMs;
  const rescue = rescueTimer({ connections, deadAfterMs: beating.deadAfterMs, everyMs });
  const timers = startTimers([rescue, ...(options.timers ?? [])], {
    ...{ db, providers, log, onSuccess: options.onSuccess },
  });

  let isStopping = false;
  const end = async (how: "drain" | "abort") => {
    if (isStopping) return;
    isStopping = true;
    pools.stopReplacing();
    await Promise.all([pools.replaced(), timers.stop()]);
    await pools.end(how);
    await connections.end();
  };
  return {
    stop: () => end("drain"),
    abort: () => {
      end("abort").catch((err) => log.warn({ err }, "worker abort failed"));
    },
    get pools() {
      return pools.ids();
    },
  };
}

function poolsOf(options: WorkerOptions, beating: Beating): PoolOptions[] {
  const { workerUrl, concurrency, pollIntervalMs, log, tasks } = options;
  const slots = { ...defaultSlots, ...concurrency };
  const served = poolKinds.filter((kind) => namesOf(tasks, kind).length > 0);
  return served.map((kind) => ({
    ...{ kind, workerUrl, beating, log, concurrency: slots[kind] },
    pollIntervalMs: pollIntervalMs ?? pollEveryMs[kind],
    cronItems: kind === served.at(-1) ? cronItems(options.crontab ?? "") : [],
    taskList: (fence, signal, draining) =>
      taskList(options, kind, {
        fence,
        signal,
        pool: { slots: slots[kind], draining },
        shares: openShares(slots[kind]),
      }),
  }));
}

type PoolDeps = { fence: Fence; signal: AbortSignal; pool: PoolState; shares: Shares };

function taskList(options: WorkerOptions, kind: PoolKind, pool: PoolDeps): TaskList {
  const list: TaskList = {};
  const { db, providers, log, tasks, isSuspended, onSuccess } = options;
  const scheduled = new Set(cronItems(options.crontab ?? "").map(({ task }) => task));
  const onDone = (name: JobName) => (scheduled.has(name) ? onSuccess?.(name) : undefined);
  const add = <N extends JobName>(name: N) => {
    const task: Tasks[N] | undefined = tasks[name];
    if (task) list[name] = toWorkerTask(name, task, { db, providers, log, isSuspended, onDone, ...pool });
  };
  for (const name of namesOf(tasks, kind)) add(name);
  return list;
}

function namesOf(tasks: Partial<Tasks>, kind: PoolKind): JobName[] {
  return (Object.keys(tasks) as JobName[]).filter((name) => tasks[name] && jobs[name].pool === kind);
}

/** The loops of a crontab, with their periods. */
export const loopsOf = (crontab: string): PeriodicLoop[] =>
  cronItems(crontab).map(({ task, match }) => ({ name: task, periodSeconds: periodOf(String(match)) }));

/**
 * At most one job of a name waits, and it does not affect one that runs. graphile-worker's own crontab parser does not
 * accept names with dots.
 */
function cronItems(crontab: string): CronItem[] {
  const lines = crontab.split("\n").map((line) => line.trim());
  return lines
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, match = "", task = ""] = /^((?:\S+\s+){4}\S+)\s+(\S+)$/.exec(line) ?? [];
      if (!isSystemJob(task)) throw new Error(`This crontab line names no system job: ${line}`);
      return { task, match, options: { maxAttempts: 10, jobKey: `${task}:cron`, jobKeyMode: "replace" } };
    });
}

const isSystemJob = (name: string) => Object.hasOwn(jobs, name) && jobs[name as JobName].access === "system";

/** For rescue and retirement. They carry no pool id, so they cannot remove jobs. */
function openConnections({ workerUrl, log }: WorkerOptions): pg.Pool {
  const limits = { max: 1, statementMs: 20_000, queryMs: 25_000 };
  const connections = openQueueConnections({ workerUrl, name: "patchbay-rescue", ...limits });
  onConnectionLoss(connections, (reason) => log.warn({ reason }, "rescue connection lost"));
  return connections;
}
