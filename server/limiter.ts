import { Fault } from "../routers/fault.ts";
import { type LimitClass, limits } from "../routers/limits.ts";

const tracked = 100_000;

/** Counts requests per principal and class in windows of this process. What a request took can be given back. */
export function limiter(now: () => number = Date.now) {
  const windows = new Map<string, { used: number; endsAt: number }>();

  function windowOf(name: string, seconds: number) {
    const found = windows.get(name);
    if (found && found.endsAt > now()) return found;
    if (windows.size >= tracked) windows.delete(windows.keys().next().value!);
    const fresh = { used: 0, endsAt: now() + seconds * 1000 };
    windows.delete(name);
    windows.set(name, fresh);
    return fresh;
  }

  return {
    /** Throws `limit_exceeded`. The headers tell what is left. */
    spend(principalId: string, limit: LimitClass): { headers: Record<string, string>; giveBack: () => void } {
      const { requests, windowSeconds } = limits[limit];
      const window = windowOf(`${limit} ${principalId}`, windowSeconds);
      const resetSeconds = Math.max(1, Math.ceil((window.endsAt - now()) / 1000));
      if (window.used >= requests) {
        throw new Fault("limit_exceeded", `More than ${requests} requests in ${windowSeconds} seconds.`, { retryAfterSeconds: resetSeconds });
      }
      window.used++;
      return {
        headers: {
          RateLimit: `"${limit}";r=${requests - window.used};t=${resetSeconds}`,
          "RateLimit-Policy": `"${limit}";q=${requests};w=${windowSeconds}`,
        },
        giveBack: () => {
          window.used--;
        },
      };
    },
  };
}

export type Limiter = ReturnType<typeof limiter>;
