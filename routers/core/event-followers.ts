import type { Tx } from "../../db/client.ts";
import type { Notifications } from "../../db/notifications.ts";
import { ApiError } from "./errors.ts";
import type { ListKey } from "./pagination.ts";
import { noRoom, openShares } from "./shares.ts";

type LiveLimits = { perProcess: number; perClient?: number; perPrincipal: number; concurrentReads: number };

/** The maximum number of concurrent followers per process, per client, and per API key or person. */
export const followerLimits = { perProcess: 500, perClient: 50, perPrincipal: 20, concurrentReads: 3 };

const what = "streams of events";

/** One follower of the events of a client. */
export type FollowerSlot = {
  /** Aborts when the process stops. */
  signal: AbortSignal;
  /** Resolves after an event of the client, or after the time. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
  /** Runs one read of the database. Few run concurrently, however many followers wake up: requests need connections too. */
  look<T>(work: () => Promise<T>): Promise<T>;
  leave(): void;
};

/** What a live stream of events needs from its caller. */
export type Follower = {
  enter(): FollowerSlot;
  /** Runs one short read transaction, which checks the API key again. */
  page<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Throws once the caller has lost access. */
  check(): Promise<void>;
  key: ListKey;
  signal: AbortSignal;
};

export type EventFollowers = ReturnType<typeof openEventFollowers>;

/** The followers of events in this process. */
export function openEventFollowers(notices: Notifications, limits: LiveLimits = followerLimits) {
  const stopping = new AbortController();
  const perClient = limits.perClient ?? Math.max(limits.perPrincipal, Math.floor(limits.perProcess / 10));
  const shares = openShares(what, { ...limits, perClient });
  let reading = 0;
  const queue: (() => void)[] = [];

  async function look<T>(work: () => Promise<T>): Promise<T> {
    if (reading >= limits.concurrentReads) await new Promise<void>((resolve) => queue.push(resolve));
    else reading += 1;
    try {
      return await work();
    } finally {
      const next = queue.shift();
      if (next) next();
      else reading -= 1;
    }
  }

  return {
    /** Throws ApiError `server_overloaded` or `rate_limit_exceeded`. */
    enter(principalId: string, clientId: string): FollowerSlot {
      if (stopping.signal.aborted) throw new ApiError("server_overloaded", noRoom(what), { retryAfterSeconds: 5 });
      const releaseShare = shares.take(principalId, clientId);
      const watch = notices.watch(clientId);
      return {
        signal: stopping.signal,
        wait: (ms, signal) => watch.next(ms, signal),
        look,
        leave() {
          watch.close();
          releaseShare();
        },
      };
    },

    get taken() {
      return shares.taken;
    },

    /** For a stop of the process: disconnects all followers, which resume at another process. */
    end: () => stopping.abort(),
  };
}
