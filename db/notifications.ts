import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { everyTopic } from "./notifier.ts";

type Options = {
  url: string;
  /** The NOTIFY channel. The payload of each notification is a topic, or `everyTopic`. */
  channel: string;
  /** The pause before a reconnect: at first, and at most. */
  againMs?: { first: number; most: number };
  /** Called with the reason when the connection is lost or cannot be opened. */
  onLoss?: (reason: string) => void;
};

/** A subscription to the notifications of one topic. */
export type Watch = {
  /** Resolves after a notification since the last call, after the time, or when the signal aborts; never rejects. */
  next(withinMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
};

export type Notifications = ReturnType<typeof openNotifications>;

const probeEveryMs = 30_000;
const probeWithinMs = 10_000;

/**
 * Listens to NOTIFY on one connection for the whole process. The first watcher opens it. After a loss it is opened again and
 * wakes all watchers, because notifications in between are lost. A notification is only a hint to read the database:
 * watchers must also read it from time to time.
 */
export function openNotifications({
  url,
  channel,
  againMs = { first: 200, most: 10_000 },
  onLoss = () => {},
}: Options) {
  const topics = openTopics();
  const closing = new AbortController();
  let listening: Promise<void> | undefined;

  const onTopic = (topic: string) => (topic === everyTopic ? topics.wakeAll() : topics.wake(topic));

  async function listen() {
    let waitMs = againMs.first;
    while (!closing.signal.aborted) {
      const onReady = () => {
        waitMs = againMs.first;
        topics.wakeAll();
      };
      const reason = await listenOnce({ url, channel, signal: closing.signal, onReady, onTopic });
      if (closing.signal.aborted) return;
      onLoss(reason);
      await sleep(waitMs * (0.5 + Math.random() / 2), undefined, { signal: closing.signal }).catch(() => {});
      waitMs = Math.min(waitMs * 2, againMs.most);
    }
  }

  return {
    watch(topic: string): Watch {
      if (closing.signal.aborted) throw new Error("The notifications are closed.");
      listening ??= listen();
      return topics.watch(topic);
    },

    async close() {
      closing.abort();
      topics.wakeAll();
      await listening;
    },
  };
}

/** The watchers of each topic. */
function openTopics() {
  const watchers = new Map<string, Set<() => void>>();

  const wake = (topic: string) => {
    for (const wakeOne of watchers.get(topic) ?? []) wakeOne();
  };

  function add(topic: string, wakeOne: () => void) {
    const ofTopic = watchers.get(topic) ?? new Set();
    watchers.set(topic, ofTopic.add(wakeOne));
    return () => {
      ofTopic.delete(wakeOne);
      if (ofTopic.size === 0) watchers.delete(topic);
    };
  }

  function watch(topic: string): Watch {
    let woken = false;
    let stopWaiting: (() => void) | undefined;
    const close = add(topic, () => {
      woken = true;
      stopWaiting?.();
    });
    return {
      async next(withinMs, signal) {
        if (!woken && !signal.aborted) {
          const { promise, resolve } = Promise.withResolvers<void>();
          const timer = setTimeout(resolve, withinMs);
          stopWaiting = resolve;
          signal.addEventListener("abort", stopWaiting, { once: true });
          await promise;
          signal.removeEventListener("abort", stopWaiting);
          clearTimeout(timer);
          stopWaiting = undefined;
        }
        woken = false;
      },
      close,
    };
  }

  return {
    wake,
    wakeAll: () => {
      for (const topic of watchers.keys()) wake(topic);
    },
    watch,
  };
}

type Listening = {
  url: string;
  channel: string;
  signal: AbortSignal;
  onReady: () => void;
  onTopic: (topic: string) => void;
};

/** Listens until the connection is lost or the signal aborts. Returns the reason. */
async function listenOnce({ url, channel, signal, onReady, onTopic }: Listening): Promise<string> {
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
  client.on("notification", ({ payload }) => onTopic(payload ?? ""));
  signal.addEventListener("abort", () => lost.resolve("closing"), { once: true });
  // A connection can die without an error. Without the probe this would wait without end.
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
    client.end().catch(() => {}); // it may already be closed
  }
}
