import { ApiError } from "../routers/core/errors.ts";
import { clientFactor, type LimitClass, limits as productLimits } from "../routers/core/limits.ts";

const maxWindows = 100_000;

type Limits = Record<LimitClass, { requests: number; windowSeconds: number }>;
type Spent = { headers: Record<string, string>; refusal?: ApiError; giveBack: () => void };
type Window = { policy: string; requests: number; used: number; endsAt: number };

/**
 * Counts requests in windows of this process: per principal and class, and per client and class. A request counts in both
 * or in neither, and can be uncounted. `now` is monotonic: a change of the system clock must not stretch a window.
 */
export function limiter(now: () => number = () => performance.now(), limits: Limits = productLimits) {
  const windows = new Map<string, Window>();

  function windowOf(policy: string, id: string, requests: number, seconds: number): Window {
    const name = `${policy} ${id}`;
    const found = windows.get(name);
    if (found && found.endsAt > now()) return found;
    if (windows.size >= maxWindows) windows.delete(windows.keys().next().value!);
    const fresh = { policy, requests, used: 0, endsAt: now() + seconds * 1000 };
    windows.delete(name);
    windows.set(name, fresh);
    return fresh;
  }

  function count(principalId: string, limit: LimitClass, clientId: string | undefined, by: 0 | 1): Spent {
    const { requests, windowSeconds } = limits[limit];
    const counted = [windowOf(limit, principalId, requests, windowSeconds)];
    if (clientId) counted.push(windowOf(`${limit}_client`, clientId, requests * clientFactor, windowSeconds));
    const isFull = counted.some((window) => window.used >= window.requests);
    if (!isFull) for (const window of counted) window.used += by;
    const tighter = counted.reduce((one, other) => (left(other) < left(one) ? other : one));
    const resetSeconds = Math.max(1, Math.ceil((tighter.endsAt - now()) / 1000));
    const headers = {
      RateLimit: `"${tighter.policy}";r=${left(tighter)};t=${resetSeconds}`,
      "RateLimit-Policy": `"${tighter.policy}";q=${tighter.requests};w=${windowSeconds}`,
    };
    if (isFull) {
      const whose = tighter === counted[0] ? "" : " by all keys and members of this client";
      const message = `More than ${tighter.requests} requests in ${windowSeconds} seconds${whose}. Wait for Retry-After.`;
      const refusal = new ApiError("rate_limit_exceeded", message, { retryAfterSeconds: resetSeconds });
      return { headers, refusal, giveBack: () => {} };
    }
    return {
      headers,
      giveBack: () => {
        for (const window of counted) window.used -= by;
      },
    };
  }

  return {
    /** The headers describe the window with fewer requests left. */
    spend: (principalId: string, limit: LimitClass, clientId?: string): Spent => count(principalId, limit, clientId, 1),
    /** As `spend`, without counting: whether the next request would be refused. */
    peek: (principalId: string, limit: LimitClass, clientId?: string): Spent => count(principalId, limit, clientId, 0),
  };
}

/** The product's limits for an installation that allows a multiple of them. */
export function multipliedLimits(factor: number): Limits {
  const entries = Object.entries(productLimits).map(([name, limit]) => [
    name,
    { ...limit, requests: limit.requests * factor },
  ]);
  return Object.fromEntries(entries) as Limits;
}

const left = ({ requests, used }: Window) => requests - used;
