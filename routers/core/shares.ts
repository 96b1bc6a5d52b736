import { ApiError } from "./errors.ts";

export type ShareLimits = { perProcess: number; perClient: number; perPrincipal: number };
export type Shares = ReturnType<typeof openShares>;

/** The maximum number of concurrent streamed responses: exports and audio files. */
export const streamLimits = { perProcess: 200, perClient: 20, perPrincipal: 10 } as const satisfies ShareLimits;

/**
 * Limits what is open concurrently in this process: in total, per client, and per API key or person. A client can have many
 * keys, so a limit per key only would let one client take everything. `what` is named in the error message.
 */
export function openShares(what: string, limits: ShareLimits) {
  const open = new Map<string, number>();
  const count = (id: string, by: 1 | -1) => {
    const total = (open.get(id) ?? 0) + by;
    if (total > 0) open.set(id, total);
    else open.delete(id);
  };
  let taken = 0;

  function refuseBeyond(id: string, most: number, whose: string) {
    if ((open.get(id) ?? 0) < most) return;
    const message = `Limit reached: ${most} concurrent ${what}${whose}. Close one first.`;
    throw new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: 60 });
  }

  return {
    /** Returns the function that releases the share. Throws ApiError `server_overloaded` or `rate_limit_exceeded`. */
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

export const noRoom = (what: string) => `The server has reached its limit of ${what}. Retry in a moment.`;
