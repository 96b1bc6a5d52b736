import { ApiError } from "../routers/core/errors.ts";
import { type LimitClass, limits as ofTheProduct } from "../routers/core/limits.ts";

const tracked = 100_000;

type Limits = Record<LimitClass, { requests: number; windowSeconds: number }>;
type Spent = { headers: Record<string, string>; refusal?: ApiError; giveBack: () => void };

/** Counts requests per principal and class in windows of this process. What a request took can be given back. */
export function limiter(now: () => number = Date.now, limits: Limits = ofTheProduct) {
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
    /** The headers tell what is left, also of nothing. */
    spend(principalId: string, limit: LimitClass): Spent {
      const { requests, windowSeconds } = limits[limit];
      const window = windowOf(`${limit} ${principalId}`, windowSeconds);
      const resetSeconds = Math.max(1, Math.ceil((window.endsAt - now()) / 1000));
      const isFull = window.used >= requests;
      if (!isFull) window.used++;
      const headers = {
        RateLimit: `"${limit}";r=${requests - window.used};t=${resetSeconds}`,
        "RateLimit-Policy": `"${limit}";q=${requests};w=${windowSeconds}`,
      };
      if (isFull) {
        const message = `More than ${requests} requests in ${windowSeconds} seconds.`;
        return {
          headers,
          refusal: new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: resetSeconds }),
          giveBack: () => {},
        };
      }
      return {
        headers,
        giveBack: () => {
          window.used--;
        },
      };
    },
  };
}
