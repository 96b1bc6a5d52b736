import { openDatabase } from "../../db/client.ts";
import { startWorkers } from "../../jobs/runtime/worker.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { readEnv, roleUrls } from "../../server/env.ts";
import { openLog } from "../../server/log.ts";
import { given, serve } from "./child.ts";
import { countdown } from "./countdown.ts";

/** Our worker around an empty job, which measures envelope, parsing, fence and rescue. */
const { begun, once, soFar } = countdown();
const roles = roleUrls(readEnv(process.env));
const db = openDatabase(roles);
const workers = await startWorkers({
  workerUrl: roles.workerUrl,
  db,
  providers: {} as Providers, // an empty job uses no provider
  log: openLog("silent"),
  concurrency: { prompt: Number(given("JOBS_AT_ONCE")), slow: 4 },
  tasks: { "webhooks.deliver": { run: async () => begun() } },
});

serve({ once, soFar }, async () => {
  await workers.stop();
  await db.close();
});
