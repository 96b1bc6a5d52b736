import { setTimeout as sleep } from "node:timers/promises";

export type BatcherOptions<I, O> = {
  /** Processes a batch, all of it or none; returns the results in the order of the items. */
  work: (batch: I[]) => Promise<O[]>;
  /** Whether an error may be caused by one item alone: then the batch is run again in halves, until that item is alone. */
  isItemError: (error: unknown) => boolean;
  /** How long the first item of a batch waits for others; 0: not at all. At the limit of batches it waits for one of them. */
  waitMs: number;
  /** While batches take longer than `waitMs`, the first item waits as long as the last batch took, up to this. */
  maxWaitMs?: number;
  /** An item that comes after a pause of this length is processed immediately. Default: every first item waits. */
  idleMs?: number;
  maxItems: number;
  maxBatches: number;
  /** A batch has at least one item, however large. */
  maxBytes?: number;
  bytesOf?: (item: I) => number;
};

type Waiting<I, O> = { item: I; resolve: (result: O) => void; reject: (error: unknown) => void };

/**
 * Batches what many callers need at the same moment: one round trip and one commit for all of them. An item that the
 * database refuses does not fail the others.
 */
export function createBatcher<I, O>(options: BatcherOptions<I, O>): (item: I) => Promise<O> {
  const { waitMs, maxWaitMs = waitMs, idleMs, maxItems, maxBatches } = options;
  const queue: Waiting<I, O>[] = [];
  let running = 0;
  let isWaiting = false;
  let lastMs = 0;
  let lastAt = Number.NEGATIVE_INFINITY;

  async function send() {
    running++;
    isWaiting = true;
    const isBusy = idleMs === undefined || performance.now() - lastAt < idleMs;
    lastAt = performance.now();
    if (isBusy && waitMs > 0 && queue.length < maxItems) await sleep(Math.min(Math.max(waitMs, lastMs), maxWaitMs));
    isWaiting = false;
    const startedAt = performance.now();
    await runBatch(queue.splice(0, nextSize(queue, options)), options);
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

function nextSize<I, O>(queue: readonly Waiting<I, O>[], options: BatcherOptions<I, O>): number {
  const { maxItems, maxBytes = Number.POSITIVE_INFINITY, bytesOf = () => 0 } = options;
  let bytes = 0;
  let count = 0;
  for (; count < Math.min(queue.length, maxItems); count++) {
    bytes += bytesOf(queue[count]!.item);
    if (count > 0 && bytes > maxBytes) break;
  }
  return count;
}

async function runBatch<I, O>(batch: Waiting<I, O>[], options: BatcherOptions<I, O>): Promise<void> {
  if (batch.length === 0) return;
  try {
    const results = await options.work(batch.map(({ item }) => item));
    for (const [index, { resolve }] of batch.entries()) resolve(results[index]!);
  } catch (error) {
    if (batch.length === 1 || !options.isItemError(error)) {
      for (const { reject } of batch) reject(error);
      return;
    }
    const middle = Math.ceil(batch.length / 2);
    await runBatch(batch.slice(0, middle), options);
    await runBatch(batch.slice(middle), options);
  }
}
