import { Logger, run } from "graphile-worker";
import pg from "pg";
import { answer, given } from "./child.ts";
import { countdown } from "./countdown.ts";

/** The queue's library by itself, with the settings of our prompt pool. */
const { begun, once } = countdown();
const pgPool = new pg.Pool({ connectionString: given("DATABASE_URL"), max: 8 });
pgPool.on("error", () => {});
pgPool.on("connect", (client) => client.on("error", () => {}));
const runner = await run({
  pgPool,
  taskList: { "webhooks.deliver": async () => begun() },
  concurrency: 50,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0, localQueue: { size: 500, ttl: 5_000 } } },
});

answer({ once }, async () => {
  await runner.stop();
  await pgPool.end();
});
