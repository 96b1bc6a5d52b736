import { chainAudit } from "../jobs/audit-chain.ts";
import { busTimer } from "../jobs/bus.ts";
import { fanOutTimer } from "../jobs/fan-out.ts";
import { crontab, tasks } from "../jobs/index.ts";
import { loopRecorder, watchLoops } from "../jobs/runtime/loops.ts";
import { rescueEveryMs } from "../jobs/runtime/rescue.ts";
import { watchSuspensions } from "../jobs/runtime/suspensions.ts";
import type { Timer, TimerContext } from "../jobs/runtime/timers.ts";
import { loopsOf, startWorkers, type WorkerOptions } from "../jobs/runtime/worker.ts";
import { sweepDeliveries } from "../jobs/webhooks.ts";
import type { Deps } from "./deps.ts";

const sweepEveryMs = 1_000;
const chainEveryMs = 5_000;
const watchEveryMs = 2_000;

type Timing = Pick<WorkerOptions, "heartbeat" | "rescueEveryMs" | "pollIntervalMs">;

/** The workers of this process: the pools, the crontab and the timers. `timing` differs from production in tests. */
export async function openWorkers(deps: Deps, timing: Timing = {}) {
  const { env, roles, providers, log, notifications } = deps;
  const db = deps.db.forJobs;
  const suspensions = await watchSuspensions(db, watchEveryMs);
  const timers: Timer[] = [
    suspensions.timer,
    fanOutTimer(notifications),
    { name: "deliveries.sweep", everyMs: sweepEveryMs, run: sweepOnce },
    { name: "audit.chain", everyMs: chainEveryMs, run: chainAudit },
    ...(providers.bus ? [busTimer()] : []),
  ];
  const allTimers = [...timers, { name: "rescue", everyMs: timing.rescueEveryMs ?? rescueEveryMs }];
  const periods = allTimers.map(({ name, everyMs }) => ({ name, periodSeconds: Math.ceil(everyMs / 1000) }));
  await watchLoops(db, [...periods, ...loopsOf(crontab)]);
  return startWorkers({
    ...timing,
    workerUrl: roles.workerUrl,
    db,
    providers,
    log,
    tasks,
    crontab,
    concurrency: {
      prompt: env.WORKER_PROMPT_JOBS,
      deliveries: env.WORKER_DELIVERY_JOBS,
      slow: env.WORKER_SLOW_JOBS,
    },
    isSuspended: suspensions.isSuspended,
    onSuccess: loopRecorder(db),
    timers,
  });
}

/** A sweep by another worker is no success of this one: if that worker hangs, health must report it. */
async function sweepOnce(ctx: TimerContext) {
  const { isLed, failures } = await sweepDeliveries(ctx);
  return isLed && failures === 0 ? "done" : "skipped";
}
