import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

type Options = {
  url: string;
  /** What is listened to; each notice names a topic. */
  channel: string;
  /** How long to wait before the connection is made again: at first, and at most. */
  againMs?: { first: number; most: number };
  /** Hears why a connection was lost or could not be made. */
  onLoss?: (reason: string) => void;
};

/** One who waits for notices of one topic. */
export type Watch = {
  /** Comes back when there was a notice since the last time, after so long, or when the signal says so; never throws. */
  next(withinMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
};

export type Notifications = ReturnType<typeof openNotifications>;

const probeEveryMs = 30_000;
const probeWithinMs = 10_000;

/**
 * Hears the database's NOTIFY on one connection for the whole process, however many wait. The connection is made when the
 * first one begins to wait, and made again when it is lost; then everybody is woken, since what was said meanwhile was
 * not heard. A notice is a hint to look, and no more: whoever waits looks from time to time anyway.
 */
export function openNotifications({
  url,
  channel,
  againMs = { first: 200, most: 10_000 },
  onLoss = () => {},
}: Options) {
  const waiting = new Map<string, Set<() => void>>();
  const closing = new AbortController();
  let listening: Promise<void> | undefined;

  const wake = (topic: string) => {
    for (const each of waiting.get(topic) ?? []) each();
  };
  const wakeAll = () => {
    for (const topic of waiting.keys()) wake(topic);
  };

  async function listen() {
    let waitMs = againMs.first;
    while (!closing.signal.aborted) {
      const reason = await listenOnce(() => {
        waitMs = againMs.first;
        wakeAll();
      });
      if (closing.signal.aborted) return;
      onLoss(reason);
      await sleep(waitMs * (0.5 + Math.random() / 2), undefined, { signal: closing.signal }).catch(() => {});
      waitMs = Math.min(waitMs * 2, againMs.most);
    }
  }

  /** Until the connection is lost; says why. */
  async function listenOnce(onReady: () => void): Promise<string> {
    const client = new pg.Client({
      connectionString: url,
      application_name: "patchbay-notices",
      keepAlive: true,
      connectionTimeoutMillis: 10_000,
      query_timeout: probeWithinMs,
    });
    const lost = Promise.withResolvers<string>();
    client.on("error", ({ message }) => lost.resolve(message));
    client.on("end", () => lost.resolve("The connection was closed."));
    client.on("notification", ({ payload }) => wake(payload ?? ""));
    closing.signal.addEventListener("abort", () => lost.resolve("closing"), { once: true });
    // A line that is dead without a word would be waited on for ever.
    const probe = setInterval(() => {
      client.query("select 1").catch(({ message }: Error) => lost.resolve(message));
    }, probeEveryMs);
    try {
      await client.connect();
      await client.query(`listen ${pg.escapeIdentifier(channel)}`);
      onReady();
      return await lost.promise;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      clearInterval(probe);
      client.end().catch(() => {}); // it may be gone already
    }
  }

  return {
    watch(topic: string): Watch {
      if (closing.signal.aborted) throw new Error("The notices are closed.");
      listening ??= listen();
      let woken = false;
      let ring: (() => void) | undefined;
      const each = () => {
        woken = true;
        ring?.();
      };
      const others = waiting.get(topic) ?? new Set();
      waiting.set(topic, others.add(each));
      return {
        async next(withinMs, signal) {
          if (!woken && !signal.aborted) {
            const { promise, resolve } = Promise.withResolvers<void>();
            const timer = setTimeout(resolve, withinMs);
            ring = resolve;
            signal.addEventListener("abort", ring, { once: true });
            await promise;
            signal.removeEventListener("abort", ring);
            clearTimeout(timer);
            ring = undefined;
          }
          woken = false;
        },
        close() {
          others.delete(each);
          if (others.size === 0) waiting.delete(topic);
        },
      };
    },

    async close() {
      closing.abort();
      wakeAll();
      await listening;
    },
  };
}
