import { ApiError } from "./errors.ts";

export type ShareLimits = { perProcess: number; perClient: number; perPrincipal: number };
export type Shares = ReturnType<typeof openShares>;

/** Responses that are streamed at once: exports and sound files. */
export const streamLimits = { perProcess: 200, perClient: 20, perPrincipal: 10 } as const satisfies ShareLimits;

/**
 * Counts what is open at once in this process: in all, per client, and per key or person. A client has many keys, so the
 * limit per key alone would let one client take everything. `what` is named in the message of a refusal.
 */
export function openShares(what: string, limits: ShareLimits) {
  const open = new Map<string, number>();
  const count = (id: string, by: 1 | -1) => {
    const now = (open.get(id) ?? 0) + by;
    if (now > 0) open.set(id, now);
    else open.delete(id);
  };
  let taken = 0;

  function refuseBeyond(id: string, most: number, whose: string) {
    if ((open.get(id) ?? 0) < most) return;
    const message = `At most ${most} ${what} at once${whose}. Close one first.`;
    throw new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: 60 });
  }

  return {
    /** Returns what ends it, once. Throws Fault `server_overloaded` or `rate_limit_exceeded`. */
    take(principalId: string, clientId: string): () => void {
      if (taken >= limits.perProcess) throw new ApiError("server_overloaded", noRoom(what), { retryAfterSeconds: 5 });
      refuseBeyond(principalId, limits.perPrincipal, "");
      refuseBeyond(clientId, limits.perClient, " for all keys and members of this client");
      const ids = [principalId, clientId];
      for (const id of ids) count(id, 1);
      taken += 1;
      let isOpen = true;
      return () => {
        if (!isOpen) return;
        isOpen = false;
        taken -= 1;
        for (const id of ids) count(id, -1);
      };
    },

    get taken() {
      return taken;
    },
  };
}

export const noRoom = (what: string) => `This server has no room for more ${what}. Try again in a moment.`;
