import { activeCalls } from "./call-lifecycle.ts";
import { Refusal } from "./requests.ts";
import type { Account, World } from "./state.ts";

/** Checks both limits of an account: creates in the last second, and calls that have not ended. */
export function checkLimits(world: World, account: Account): void {
  const now = Date.now();
  const recent = (world.recentCreates.get(account.id) ?? []).filter((at) => at > now - 1000);
  world.recentCreates.set(account.id, recent);
  if (account.createPerSecond !== undefined && recent.length >= account.createPerSecond) {
    const wait = Math.ceil(((recent[0] ?? now) + 1000 - now) / 1000);
    throw new Refusal(429, "Too many calls are being created.", { "Retry-After": String(Math.max(1, wait)) });
  }
  const cap = account.concurrency ?? Number.POSITIVE_INFINITY;
  if (activeCalls(world, account.id) >= cap) {
    throw new Refusal(429, "Too many calls are active.", { "Retry-After": String(Math.ceil(30 / world.speed)) });
  }
  if (account.createPerSecond !== undefined) recent.push(now);
}
