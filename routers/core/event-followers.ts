import type { Tx } from "../../db/client.ts";
import type { Notifications } from "../../db/notifications.ts";
import { ApiError } from "./errors.ts";
import type { ListKey } from "./pagination.ts";
import { noRoom, openShares } from "./shares.ts";

type LiveLimits = { perProcess: number; perClient?: number; perPrincipal: number; looksAtOnce: number };

/** How many may follow at once in one process: in all, of one client, and by one key or person. */
export const followerLimits = { perProcess: 500, perClient: 50, perPrincipal: 20, looksAtOnce: 3 };

const what = "streams of events";

/** The place of one who follows the events of a client. */
export type FollowerSlot = {
  /** Ends when the process stops. */
  signal: AbortSignal;
  /** Until something was stated for the client, or so long. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
  /** Runs one look at the database. Only a few run at a time, whoever all is woken: requests want connections too. */
  look<T>(work: () => Promise<T>): Promise<T>;
  leave(): void;
};

/** What a live stream of events needs of its caller. */
export type Follower = {
  enter(): FollowerSlot;
  /** One short read transaction, which checks the API key again. */
  page<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Throws when the caller may no longer read. */
  check(): Promise<void>;
  key: ListKey;
  signal: AbortSignal;
};

export type EventFollowers = ReturnType<typeof openEventFollowers>;

/** Who follows events in this process. */
export function openEventFollowers(notices: Notifications, limits: LiveLimits = followerLimits) {
  const stopping = new AbortController();
  const perClient = limits.perClient ?? Math.max(limits.perPrincipal, Math.floor(limits.perProcess / 10));
  const shares = openShares(what, { ...limits, perClient });
  let looking = 0;
  const line: (() => void)[] = [];

  async function look<T>(work: () => Promise<T>): Promise<T> {
    if (looking >= limits.looksAtOnce) await new Promise<void>((resolve) => line.push(resolve));
    else looking += 1;
    try {
      return await work();
    } finally {
      const next = line.shift();
      if (next) next();
      else looking -= 1;
    }
  }

  return {
    /** Throws Fault `server_overloaded` or `rate_limit_exceeded`. */
    enter(principalId: string, clientId: string): FollowerSlot {
      if (stopping.signal.aborted) throw new ApiError("server_overloaded", noRoom(what), { retryAfterSeconds: 5 });
      const giveUp = shares.take(principalId, clientId);
      const watch = notices.watch(clientId);
      return {
        signal: stopping.signal,
        wait: (ms, signal) => watch.next(ms, signal),
        look,
        leave() {
          watch.close();
          giveUp();
        },
      };
    },

    get taken() {
      return shares.taken;
    },

    /** The process stops: whoever follows is cut off, and comes back elsewhere where he was. */
    end: () => stopping.abort(),
  };
}
