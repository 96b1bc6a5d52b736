import { chainAudit } from "../jobs/audit-chain.ts";
import { busTimer } from "../jobs/bus.ts";
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

type Tempo = Pick<WorkerOptions, "heartbeat" | "rescueEveryMs" | "pollIntervalMs">;

/** The workers of this process: both pools, the crontab and the timers. `tempo`: other than in production. */
export async function openWorkers({ env, roles, db, providers, log }: Deps, tempo: Tempo = {}) {
  const suspensions = await watchSuspensions(db, watchEveryMs);
  const timers: Timer[] = [
    suspensions.timer,
    { name: "deliveries.sweep", everyMs: sweepEveryMs, run: sweepAndTell },
    { name: "audit.chain", everyMs: chainEveryMs, run: chainAudit },
    ...(providers.bus ? [busTimer()] : []),
  ];
  const ofTimers = [...timers, { name: "rescue", everyMs: tempo.rescueEveryMs ?? rescueEveryMs }];
  const periods = ofTimers.map(({ name, everyMs }) => ({ name, periodSeconds: Math.ceil(everyMs / 1000) }));
  await watchLoops(db, [...periods, ...loopsOf(crontab)]);
  return startWorkers({
    ...tempo,
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

/** Another worker's sweep is no success of this one's: if that hangs, health is to say so. */
async function sweepAndTell(ctx: TimerContext) {
  const { isLed, failures } = await sweepDeliveries(ctx);
  return isLed && failures === 0 ? "done" : "skipped";
}
