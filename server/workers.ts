import { busTimer } from "../jobs/bus.ts";
import { crontab, tasks } from "../jobs/index.ts";
import { chainAudit } from "../jobs/maintenance.ts";
import { watchSuspensions } from "../jobs/suspensions.ts";
import { sweepDeliveries } from "../jobs/webhooks.ts";
import { startWorkers, type WorkerOptions } from "../jobs/worker.ts";
import type { Deps } from "./deps.ts";

const sweepEveryMs = 1_000;
const chainEveryMs = 5_000;
const watchEveryMs = 2_000;

type Tempo = Pick<WorkerOptions, "heartbeat" | "rescueEveryMs" | "pollIntervalMs">;

/** The workers of this process: both pools, the crontab and the timers. `tempo`: other than in production. */
export async function openWorkers({ env, roles, db, providers, log }: Deps, tempo: Tempo = {}) {
  const suspensions = await watchSuspensions(db, watchEveryMs);
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
    timers: [
      suspensions.timer,
      { name: "deliveries.sweep", everyMs: sweepEveryMs, run: sweepDeliveries },
      { name: "audit.chain", everyMs: chainEveryMs, run: chainAudit },
      ...(providers.bus ? [busTimer()] : []),
    ],
  });
}
