import { Logger, type RunnerOptions } from "graphile-worker";
import pg from "pg";
import { given } from "./child.ts";

/**
 * The settings of the queue library when it is measured alone: those of `jobs/runtime/worker-pool.ts` for prompt jobs. A
 * larger local queue, a shorter poll interval or more connections would not be comparable.
 */
export function queueSettings(): { pgPool: pg.Pool; options: RunnerOptions } {
  const concurrency = Number(given("JOBS_AT_ONCE"));
  const pgPool = new pg.Pool({ connectionString: given("DATABASE_URL"), max: 8 });
  pgPool.on("error", () => {});
  pgPool.on("connect", (client) => client.on("error", () => {}));
  const localQueue = { size: concurrency * 2, ttl: 5_000 };
  return {
    pgPool,
    options: {
      ...{ pgPool, concurrency, pollInterval: 250, noHandleSignals: true },
      logger: new Logger(() => () => {}),
      preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0, localQueue } },
    },
  };
}
