import { setTimeout as sleep } from "node:timers/promises";
import { faultOf } from "./set-apart.ts";

type Options<I, O> = {
  /** Does a batch together, all of it or none; answers in the order asked. */
  work: (batch: I[]) => Promise<O[]>;
  /** How long the first of a batch waits for others. While all the batches that may be under way are, it waits for one of them. */
  waitMs: number;
  /** While batches take longer than `waitMs`, it waits as long as the last one took, but no longer than this. */
  longestWaitMs?: number;
  most: number;
  atOnce: number;
};

type Waiting<I, O> = { item: I; resolve: (answer: O) => void; reject: (error: unknown) => void };

/**
 * Brings together what many jobs ask in the same moment: one round trip and one commit for all of them. One that the
 * database cannot bear does not take its neighbours with it: the batch is done again in halves until it stands alone.
 */
export function createBatcher<I, O>(options: Options<I, O>): (item: I) => Promise<O> {
  const { work, waitMs, longestWaitMs = waitMs, most, atOnce } = options;
  const line: Waiting<I, O>[] = [];
  let underWay = 0;
  let isWaiting = false;
  let tookMs = 0;

  async function send() {
    underWay++;
    isWaiting = true;
    if (line.length < most) await sleep(Math.min(Math.max(waitMs, tookMs), longestWaitMs));
    isWaiting = false;
    const began = performance.now();
    await settle(line.splice(0, most), work);
    tookMs = performance.now() - began;
    underWay--;
    if (line.length > 0 && !isWaiting) void send();
  }

  return (item) =>
    new Promise<O>((resolve, reject) => {
      line.push({ item, resolve, reject });
      if (!isWaiting && underWay < atOnce) void send();
    });
}

async function settle<I, O>(batch: Waiting<I, O>[], work: Options<I, O>["work"]): Promise<void> {
  if (batch.length === 0) return;
  try {
    const answers = await work(batch.map(({ item }) => item));
    for (const [place, { resolve }] of batch.entries()) resolve(answers[place]!);
  } catch (error) {
    if (batch.length === 1 || !isOfTheData(error)) {
      for (const { reject } of batch) reject(error);
      return;
    }
    const middle = Math.ceil(batch.length / 2);
    await settle(batch.slice(0, middle), work);
    await settle(batch.slice(middle), work);
  }
}

/** What one row can do, and would do to each of its neighbours. All else would meet each of them alone. */
export const isOfTheData = (error: unknown): boolean => faultOf(error) === "row";
