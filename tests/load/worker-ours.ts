import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openWorkers } from "../../server/workers.ts";
import { answer } from "./child.ts";

/** The worker as it is shipped: all its jobs, timers and log. */
const deps = openDeps(readEnv(process.env));
const workers = await openWorkers(deps);
answer({}, async () => {
  await workers.stop();
  await deps.close();
});
