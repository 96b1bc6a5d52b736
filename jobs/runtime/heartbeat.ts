import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { Fence } from "./fence.ts";

/** Silent for `fenceAfterMs` by its own clock a pool stops itself; for `deadAfterMs` by the database's, it is buried. */
export type Beating = { everyMs: number; fenceAfterMs: number; deadAfterMs: number };
export const beatingDefaults: Beating = { everyMs: 5_000, fenceAfterMs: 20_000, deadAfterMs: 30_000 };

/** What others may know of a pool while it lives. */
export type PoolFacts = { id: string; kind: string; slots: number };
export type Heartbeat = { fence: Fence; stop(): Promise<void> };

const insertBeat = `insert into public.worker_heartbeats (pool_id, kind, slots, beat_at)
  values ($1, $2, $3, clock_timestamp())`;
/** Who was silent for too long is not raised again, even if nobody has buried him yet. */
const beatAgain = `update public.worker_heartbeats set beat_at = clock_timestamp()
  where pool_id = $1 and beat_at > clock_timestamp() - make_interval(secs => $2)`;

/** Begins to beat, on a connection of its own. The first beat is confirmed when this resolves. */
export async function startHeartbeat(
  { id: poolId, kind, slots }: PoolFacts,
  workerUrl: string,
  beating: Beating,
  log: Logger,
): Promise<Heartbeat> {
  const firstSentAt = performance.now();
  await sayOnce(workerUrl, beating.fenceAfterMs, insertBeat, [poolId, kind, slots]); // nothing runs yet that would wait for it
  const fence = new Fence(beating.fenceAfterMs, firstSentAt);
  const line = new Line(workerUrl, beating.everyMs);
  const stopped = new AbortController();

  const beat = async () => {
    const sentAt = performance.now();
    try {
      const alive = await line.say(beatAgain, [poolId, beating.deadAfterMs / 1000]);
      if (alive === 1) fence.confirm(sentAt);
      else fence.close();
      return beating.everyMs - (performance.now() - sentAt);
    } catch (err) {
      log.warn({ err, pool: poolId }, "heartbeat not confirmed");
      return beating.everyMs / 5;
    }
  };
  const beatOn = async () => {
    let waitMs = beating.everyMs;
    while (!fence.closed && !stopped.signal.aborted) {
      await sleep(Math.max(1, waitMs), undefined, { signal: stopped.signal }).catch(() => {});
      if (!stopped.signal.aborted && !fence.closed) waitMs = await beat();
    }
    await line.hangUp();
  };
  const over = beatOn();

  return {
    fence,
    async stop() {
      stopped.abort();
      await over;
    },
  };
}

async function sayOnce(url: string, boundMs: number, text: string, values: unknown[]) {
  const line = new Line(url, boundMs);
  await line.say(text, values);
  await line.hangUp();
}

/** One connection, made anew when it has failed. Every word on it is bounded in time. */
class Line {
  readonly #config: pg.ClientConfig;
  #client: pg.Client | undefined;

  constructor(url: string, boundMs: number) {
    this.#config = {
      connectionString: url,
      application_name: "patchbay-heartbeat",
      connectionTimeoutMillis: 5_000,
      query_timeout: boundMs,
      statement_timeout: boundMs,
      keepAlive: true,
    };
  }

  /** How many rows it was about. */
  async say(text: string, values: unknown[]): Promise<number> {
    try {
      const { rowCount } = await (await this.#connected()).query(text, values);
      return rowCount ?? 0;
    } catch (error) {
      await this.hangUp();
      throw error;
    }
  }

  async hangUp() {
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
