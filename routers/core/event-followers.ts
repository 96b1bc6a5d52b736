import type { Tx } from "../../db/client.ts";
import type { Notifications } from "../../db/notifications.ts";
import { ApiError } from "./errors.ts";
import type { ListKey } from "./pagination.ts";

/** How many may follow at once, in one process, and how many of them by one key or person. */
export const followerLimits = { perProcess: 500, perPrincipal: 20, looksAtOnce: 3 };

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
export function openEventFollowers(notices: Notifications, limits = followerLimits) {
  const stopping = new AbortController();
  const byPrincipal = new Map<string, number>();
  let taken = 0;
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
      const own = byPrincipal.get(principalId) ?? 0;
      if (stopping.signal.aborted || taken >= limits.perProcess) {
        const message = "This server has no place for another stream of events. Try again in a moment.";
        throw new ApiError("server_overloaded", message, { retryAfterSeconds: 5 });
      }
      if (own >= limits.perPrincipal) {
        const message = `At most ${limits.perPrincipal} streams of events at once. Close one first.`;
        throw new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: 60 });
      }
      const watch = notices.watch(clientId);
      byPrincipal.set(principalId, own + 1);
      taken += 1;
      let here = true;
      return {
        signal: stopping.signal,
        wait: (ms, signal) => watch.next(ms, signal),
        look,
        leave() {
          if (!here) return;
          here = false;
          watch.close();
          taken -= 1;
          const left = byPrincipal.get(principalId)! - 1;
          if (left > 0) byPrincipal.set(principalId, left);
          else byPrincipal.delete(principalId);
        },
      };
    },

    get taken() {
      return taken;
    },

    /** The process stops: whoever follows is cut off, and comes back elsewhere where he was. */
    end: () => stopping.abort(),
  };
}
