import { setTimeout as sleep } from "node:timers/promises";

const maxKeys = 10_000;

/**
 * Spaces the requests of one key as its rate demands. The queue returns all jobs that became due in the last moments
 * together, and their requests must not be sent in one burst. Returns false when the signal aborted first.
 */
export function createPacer(): (key: string, perSecond: number, signal: AbortSignal) => Promise<boolean> {
  const nextAt = new Map<string, number>();
  return async (key, perSecond, signal) => {
    const now = performance.now();
    if (nextAt.size >= maxKeys) for (const [each, at] of nextAt) if (at <= now) nextAt.delete(each);
    const sendAt = Math.max(now, nextAt.get(key) ?? 0);
    nextAt.set(key, sendAt + 1000 / perSecond);
    if (sendAt <= now) return true;
    return await sleep(sendAt - now, true, { signal }).catch(() => false);
  };
}
