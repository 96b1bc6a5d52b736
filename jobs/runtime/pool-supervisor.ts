import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type Pool, type PoolOptions, startPool } from "./worker-pool.ts";

type Options = {
  log: Logger;
  graceMs: number;
  /** Releases the locks of a pool in which nothing runs any more. */
  retire(poolId: string): Promise<void>;
};

export type PoolSupervisor = {
  stopReplacing(): void;
  /** Resolves when no replacement is under way any more. */
  replaced(): Promise<unknown>;
  end(how: "drain" | "abort"): Promise<void>;
  ids(): string[];
};

const firstRestartMs = 200;
const maxRestartMs = 10_000;

/** Starts the pools, and replaces each one that is fenced or broken. Throws if one of them cannot start. */
export async function supervisePools(pools: readonly PoolOptions[], options: Options): Promise<PoolSupervisor> {
  const { log } = options;
  const stopped = Promise.withResolvers<void>();
  let isStopping = false;
  const current = new Map<string, Pool>();
  const draining = new Set<Promise<void>>();

  const open = async (pool: PoolOptions) => {
    const started = await startPool(pool);
    current.set(pool.kind, started);
    log.info({ pool: started.id }, "pool started");
  };
  const drain = (pool: Pool) => {
    const drained = drainAndRetire(pool, options).finally(() => draining.delete(drained));
    draining.add(drained);
  };
  const reopen = async (pool: PoolOptions) => {
    for (let waitMs = firstRestartMs; !isStopping; waitMs = Math.min(waitMs * 2, maxRestartMs)) {
      const failure = await open(pool).catch((err: unknown) => err);
      if (failure === undefined) return;
      log.error({ err: failure }, "pool not started; will retry");
      await Promise.race([sleep(waitMs), stopped.promise]);
    }
  };
  const supervise = async (pool: PoolOptions) => {
    while (!isStopping) {
      const running = current.get(pool.kind)!;
      const reason = await Promise.race([running.over, stopped.promise]);
      if (isStopping) return;
      log.error({ pool: running.id, reason }, "pool replaced");
      drain(running);
      await reopen(pool);
    }
  };

  try {
    for (const pool of pools) await open(pool);
  } catch (error) {
    for (const pool of current.values()) pool.abort();
    throw error;
  }
  const supervised = pools.map(supervise);
  return {
    stopReplacing() {
      isStopping = true;
      stopped.resolve();
    },
    replaced: () => Promise.all(supervised),
    async end(how) {
      for (const pool of current.values()) how === "drain" ? drain(pool) : pool.abort();
      while (draining.size > 0) await Promise.all(draining);
    },
    ids: () => [...current.values()].map(({ id }) => id),
  };
}

/** Releases the locks of the pool only if nothing of it runs any more; otherwise the rescue does it later. */
async function drainAndRetire(pool: Pool, { log, graceMs, retire }: Options): Promise<void> {
  try {
    if (await pool.drain(graceMs)) await retire(pool.id);
    else log.error({ pool: pool.id }, "jobs did not end in time; another worker will run them");
  } catch (err) {
    log.warn({ err, pool: pool.id }, "pool not retired");
  }
}
