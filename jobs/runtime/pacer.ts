import { setTimeout as sleep } from "node:timers/promises";

const mostKept = 10_000;

/**
 * Keeps what is asked for one key so far apart as its rate says. The queue hands out what was due in the last moments all
 * at once, and it must not go out in a heap.
 */
export function createPacer(): (key: string, perSecond: number, signal: AbortSignal) => Promise<void> {
  const nextAt = new Map<string, number>();
  return async (key, perSecond, signal) => {
    const now = performance.now();
    if (nextAt.size >= mostKept) for (const [each, at] of nextAt) if (at <= now) nextAt.delete(each);
    const turn = Math.max(now, nextAt.get(key) ?? 0);
    nextAt.set(key, turn + 1000 / perSecond);
    if (turn > now) await sleep(turn - now, undefined, { signal });
  };
}
