import { pino } from "pino";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openLog } from "../../server/log.ts";
import { openWorkers } from "../../server/workers.ts";
import { serve } from "./child.ts";

/** The worker as shipped: all its jobs, timers and log. A test that cannot wait half a minute gives it shorter intervals. */
const env = readEnv(process.env);
// Where workers are killed, each log line is written immediately, so that the log is complete.
const log = process.env.WORKER_TEMPO ? openLog(env.LOG_LEVEL, pino.destination({ dest: 1, sync: true })) : undefined;
const deps = openDeps(env, log ? { log } : {});
const workers = await openWorkers(deps, JSON.parse(process.env.WORKER_TEMPO ?? "{}"));
serve({}, async () => {
  await workers.stop();
  await deps.close();
});
