import { setTimeout as sleep } from "node:timers/promises";
import { causeKindOf } from "./set-apart.ts";

type Options<I, O> = {
  /** Processes a batch, all of it or none; returns the results in the order of the items. */
  work: (batch: I[]) => Promise<O[]>;
  /** How long the first item of a batch waits for others. At the limit of concurrent batches it waits for one of them. */
  waitMs: number;
  /** While batches take longer than `waitMs`, the first item waits as long as the last batch took, up to this. */
  maxWaitMs?: number;
  maxItems: number;
  maxBatches: number;
};

type Waiting<I, O> = { item: I; resolve: (result: O) => void; reject: (error: unknown) => void };

/**
 * Batches what many jobs need at the same moment: one round trip and one commit for all of them. An item that the
 * database refuses does not fail the others: the batch is run again in halves, until that item is alone.
 */
export function createBatcher<I, O>(options: Options<I, O>): (item: I) => Promise<O> {
  const { work, waitMs, maxWaitMs = waitMs, maxItems, maxBatches } = options;
  const queue: Waiting<I, O>[] = [];
  let running = 0;
  let isWaiting = false;
  let lastMs = 0;

  async function send() {
    running++;
    isWaiting = true;
    if (queue.length < maxItems) await sleep(Math.min(Math.max(waitMs, lastMs), maxWaitMs));
    isWaiting = false;
    const startedAt = performance.now();
    await runBatch(queue.splice(0, maxItems), work);
    lastMs = performance.now() - startedAt;
    running--;
    if (queue.length > 0 && !isWaiting) void send();
  }

  return (item) =>
    new Promise<O>((resolve, reject) => {
      queue.push({ item, resolve, reject });
      if (!isWaiting && running < maxBatches) void send();
    });
}

async function runBatch<I, O>(batch: Waiting<I, O>[], work: Options<I, O>["work"]): Promise<void> {
  if (batch.length === 0) return;
  try {
    const results = await work(batch.map(({ item }) => item));
    for (const [index, { resolve }] of batch.entries()) resolve(results[index]!);
  } catch (error) {
    if (batch.length === 1 || !isRowError(error)) {
      for (const { reject } of batch) reject(error);
      return;
    }
    const middle = Math.ceil(batch.length / 2);
    await runBatch(batch.slice(0, middle), work);
    await runBatch(batch.slice(middle), work);
  }
}

/** An error that one row causes, and that would fail every batch with it. Other errors would fail each row alone. */
export const isRowError = (error: unknown): boolean => causeKindOf(error) === "row";
