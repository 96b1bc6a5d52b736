import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { Fence } from "./fence.ts";

/** After `fenceAfterMs` without a beat (its own clock) a pool stops itself; after `deadAfterMs` (the database's) it is dead. */
export type Beating = { everyMs: number; fenceAfterMs: number; deadAfterMs: number };
export const beatingDefaults: Beating = { everyMs: 5_000, fenceAfterMs: 20_000, deadAfterMs: 30_000 };

/** What other processes may read about a pool while it lives. */
export type PoolFacts = { id: string; kind: string; slots: number };
export type Heartbeat = { fence: Fence; stop(): Promise<void> };

const insertBeat = `insert into public.worker_heartbeats (pool_id, kind, slots, beat_at)
  values ($1, $2, $3, clock_timestamp())`;
/** A pool that was silent for too long stays dead, even if no other pool has removed it yet. */
const beatAgain = `update public.worker_heartbeats set beat_at = clock_timestamp()
  where pool_id = $1 and beat_at > clock_timestamp() - make_interval(secs => $2)`;

/** Starts the heartbeat on its own connection. The first beat is confirmed when this resolves. */
export async function startHeartbeat(
  { id: poolId, kind, slots }: PoolFacts,
  workerUrl: string,
  beating: Beating,
  log: Logger,
): Promise<Heartbeat> {
  const firstSentAt = performance.now();
  await executeOnce(workerUrl, beating.fenceAfterMs, insertBeat, [poolId, kind, slots]); // nothing runs yet that would wait for it
  const fence = new Fence(beating.fenceAfterMs, firstSentAt);
  const connection = new HeartbeatConnection(workerUrl, beating.everyMs);
  const stopped = new AbortController();

  const beat = async () => {
    const sentAt = performance.now();
    try {
      const alive = await connection.execute(beatAgain, [poolId, beating.deadAfterMs / 1000]);
      if (alive === 1) fence.confirm(sentAt);
      else fence.close();
      return beating.everyMs - (performance.now() - sentAt);
    } catch (err) {
      log.warn({ err, pool: poolId }, "heartbeat not confirmed");
      return beating.everyMs / 5;
    }
  };
  const beatUntilStopped = async () => {
    let waitMs = beating.everyMs;
    while (!fence.closed && !stopped.signal.aborted) {
      await sleep(Math.max(1, waitMs), undefined, { signal: stopped.signal }).catch(() => {});
      if (!stopped.signal.aborted && !fence.closed) waitMs = await beat();
    }
    await connection.close();
  };
  const ended = beatUntilStopped();

  return {
    fence,
    async stop() {
      stopped.abort();
      await ended;
    },
  };
}

async function executeOnce(url: string, timeoutMs: number, text: string, values: unknown[]) {
  const connection = new HeartbeatConnection(url, timeoutMs);
  await connection.execute(text, values);
  await connection.close();
}

/** One connection, reopened after a failure. Every statement on it has a timeout. */
class HeartbeatConnection {
  readonly #config: pg.ClientConfig;
  #client: pg.Client | undefined;

  constructor(url: string, timeoutMs: number) {
    this.#config = {
      connectionString: url,
      application_name: "patchbay-heartbeat",
      connectionTimeoutMillis: 5_000,
      query_timeout: timeoutMs,
      statement_timeout: timeoutMs,
      keepAlive: true,
    };
  }

  /** Returns the number of affected rows. */
  async execute(text: string, values: unknown[]): Promise<number> {
    try {
      const { rowCount } = await (await this.#connected()).query(text, values);
      return rowCount ?? 0;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close() {
    const client = this.#client;
    this.#client = undefined;
    client?.end().catch(() => {});
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client) return this.#client;
    const client = new pg.Client(this.#config);
    client.on("error", () => {
      if (this.#client === client) this.#client = undefined;
    });
    this.#client = client;
    await client.connect();
    return client;
  }
}
