import type { IncomingMessage } from "node:http";
import { ApiError } from "../../routers/core/errors.ts";

/** Bytes of request bodies that are in memory at the same time, in this process. */
export type RoomLimits = { perProcess: number; perOwner: number };

const bodyRoom = { perProcess: 256_000_000, perOwner: 32_000_000 } as const satisfies RoomLimits;

/**
 * Counts the bytes of bodies from their arrival until the response is over, in all and per owner: the client of an API key,
 * or a person. Unfinished bodies cost their sender nothing, so one client could fill the memory with them.
 */
export function openBodyRoom(ownerOf: (req: IncomingMessage) => string, limits: RoomLimits = bodyRoom) {
  const held = new Map<string, number>();
  const seen = new WeakMap<IncomingMessage, { bytes: number }>();
  let total = 0;

  function add(owner: string, bytes: number) {
    const now = (held.get(owner) ?? 0) + bytes;
    if (now > 0) held.set(owner, now);
    else held.delete(owner);
    total += bytes;
  }

  /** Throws ApiError `server_overloaded` or `rate_limit_exceeded`. `onOver` registers what is called when the response is over. */
  return function take(req: IncomingMessage, bytes: number, onOver: (release: () => void) => void) {
    const owner = ownerOf(req);
    if (total + bytes > limits.perProcess) throw new ApiError("server_overloaded", undefined, { retryAfterSeconds: 5 });
    if ((held.get(owner) ?? 0) + bytes > limits.perOwner) {
      const message = `The bodies of your requests under way hold more than ${limits.perOwner} bytes. Send fewer at the same time.`;
      throw new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: 5 });
    }
    add(owner, bytes);
    const known = seen.get(req);
    if (known) {
      known.bytes += bytes;
      return;
    }
    const own = { bytes };
    seen.set(req, own);
    onOver(() => {
      add(owner, -own.bytes);
      own.bytes = 0;
    });
  };
}
