import { crontab, tasks } from "../jobs/index.ts";
import { chainAudit } from "../jobs/maintenance.ts";
import { sweepDeliveries } from "../jobs/webhooks.ts";
import { startWorkers } from "../jobs/worker.ts";
import type { Deps } from "./deps.ts";

const sweepEveryMs = 1_000;
const chainEveryMs = 5_000;

/** The workers of this process: both pools, the crontab and the timers. */
export function openWorkers({ env, roles, db, providers, log }: Deps) {
  return startWorkers({
    workerUrl: roles.workerUrl,
    db,
    providers,
    log,
    tasks,
    crontab,
    concurrency: { prompt: env.WORKER_PROMPT_JOBS, slow: env.WORKER_SLOW_JOBS },
    timers: [
      { name: "deliveries.sweep", everyMs: sweepEveryMs, run: sweepDeliveries },
      { name: "audit.chain", everyMs: chainEveryMs, run: chainAudit },
    ],
  });
}
