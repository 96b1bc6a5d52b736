import type { Notices } from "../db/notices.ts";
import { Fault } from "./fault.ts";

/** How many may follow at once, in one process, and how many of them by one key or person. */
export const liveLimits = { perProcess: 500, perPrincipal: 20, looksAtOnce: 3 };

/** The place of one who follows the events of a client. */
export type Place = {
  /** Ends when the process stops. */
  signal: AbortSignal;
  /** Until something was stated for the client, or so long. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
  /** Runs one look at the database. Only a few run at a time, whoever all is woken: requests want connections too. */
  look<T>(work: () => Promise<T>): Promise<T>;
  leave(): void;
};

export type Live = ReturnType<typeof openLive>;

/** Who follows events in this process. */
export function openLive(notices: Notices, limits = liveLimits) {
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
    /** Throws Fault `overloaded` or `limit_exceeded`. */
    enter(principalId: string, clientId: string): Place {
      const own = byPrincipal.get(principalId) ?? 0;
      if (stopping.signal.aborted || taken >= limits.perProcess) {
        const message = "This server has no place for another stream of events. Try again in a moment.";
        throw new Fault("overloaded", message, { retryAfterSeconds: 5 });
      }
      if (own >= limits.perPrincipal) {
        const message = `At most ${limits.perPrincipal} streams of events at once. Close one first.`;
        throw new Fault("limit_exceeded", message, { retryAfterSeconds: 60 });
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
