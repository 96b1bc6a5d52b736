import { pino } from "pino";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openLog } from "../../server/log.ts";
import { openWorkers } from "../../server/workers.ts";
import { answer } from "./child.ts";

/** The worker as it is shipped: all its jobs, timers and log. A test that cannot wait half a minute gives it a tempo. */
const env = readEnv(process.env);
// Where workers are killed, each line is written at once: its log tells what it had done.
const log = process.env.WORKER_TEMPO ? openLog(env.LOG_LEVEL, pino.destination({ dest: 1, sync: true })) : undefined;
const deps = openDeps(env, log ? { log } : {});
const workers = await openWorkers(deps, JSON.parse(process.env.WORKER_TEMPO ?? "{}"));
answer({}, async () => {
  await workers.stop();
  await deps.close();
});
