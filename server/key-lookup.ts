import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseBusy } from "../db/client.ts";

type Answer<T> = { promise: Promise<T | null>; resolve: (found: T | null) => void; reject: (error: unknown) => void };

const most = 25;
const pauseMs = 50;
const maxWaiting = 2_000;

/**
 * Looks up API keys by their hashes: one statement at a time, for several that wait, and with a pause while more wait. A
 * flood of made-up keys therefore uses one connection and 500 refusals a second. Beyond the bound it throws DatabaseBusy immediately.
 */
export function batchedLookup<T>(find: (hashes: string[]) => Promise<Map<string, T>>) {
  const waiting = new Map<string, Answer<T>>();
  let isRunning = false;

  async function run() {
    isRunning = true;
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, most);
      for (const [hash] of batch) waiting.delete(hash);
      try {
        const found = await find(batch.map(([hash]) => hash));
        for (const [hash, { resolve }] of batch) resolve(found.get(hash) ?? null);
      } catch (error) {
        for (const [, { reject }] of batch) reject(error);
      }
      if (waiting.size > 0) await sleep(pauseMs);
    }
    isRunning = false;
  }

  return (hash: string): Promise<T | null> => {
    const known = waiting.get(hash);
    if (known) return known.promise;
    if (waiting.size >= maxWaiting) throw new DatabaseBusy(`${waiting.size} API keys wait to be looked up.`);
    const answer = Promise.withResolvers<T | null>();
    waiting.set(hash, answer);
    if (!isRunning) void run();
    return answer.promise;
  };
}
