import { expect, test } from "vitest";
import { type BatcherOptions, createBatcher } from "../../routers/core/batcher.ts";

/** A batcher of numbers that records its batches. A batch runs until the test lets it end. */
function open(options: Partial<BatcherOptions<number, number>> = {}) {
  const batches: number[][] = [];
  const ends: (() => void)[] = [];
  const add = createBatcher<number, number>({
    ...{ waitMs: 0, maxItems: 3, maxBatches: 1, isItemError: () => false },
    work: async (batch) => {
      batches.push(batch);
      await new Promise<void>((resolve) => ends.push(resolve));
      return batch.map((item) => item * 10);
    },
    ...options,
  });
  return { add, batches, end: () => ends.shift()?.() };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test("what arrives during a batch is the next batch, even a single item", async () => {
  const { add, batches, end } = open();
  const first = add(1);
  await turn();
  const second = add(2);
  await turn();
  expect(batches).toEqual([[1]]);
  end();
  expect(await first).toBe(10);
  await turn();
  expect(batches).toEqual([[1], [2]]);
  end();
  expect(await second).toBe(20);
});

test("a batch has at most maxItems, and every item gets its own result", async () => {
  const { add, batches, end } = open();
  const results = [1, 2, 3, 4, 5].map(add);
  for (let n = 0; n < 3; n++) {
    await turn();
    end();
    await turn();
  }
  expect(await Promise.all(results)).toEqual([10, 20, 30, 40, 50]);
  expect(batches.map(({ length }) => length).every((length) => length <= 3)).toBe(true);
  expect(batches.flat()).toEqual([1, 2, 3, 4, 5]);
});

test("a batch has at most maxBytes, but at least one item", async () => {
  const { add, batches, end } = open({ maxBytes: 10, bytesOf: (item) => item });
  const results = [50, 4, 6, 1].map(add);
  for (let n = 0; n < 4; n++) {
    await turn();
    end();
    await turn();
  }
  await Promise.all(results);
  expect(batches).toEqual([[50], [4, 6], [1]]);
});

test("no more batches run at a time than maxBatches", async () => {
  const { add, batches, end } = open({ maxBatches: 2, maxItems: 1 });
  const results = [1, 2, 3].map(add);
  await turn();
  expect(batches).toEqual([[1], [2]]);
  end();
  await turn();
  expect(batches).toEqual([[1], [2], [3]]);
  end();
  end();
  await Promise.all(results);
});

test("an item that fails alone does not fail the others in its batch", async () => {
  const isItemError = (error: unknown) => error instanceof RangeError;
  const divide = createBatcher<number, number>({
    ...{ waitMs: 1, maxItems: 9, maxBatches: 1, isItemError },
    work: async (batch) => {
      if (batch.includes(0)) throw new RangeError("zero");
      return batch.map((item) => 12 / item);
    },
  });
  const results = await Promise.allSettled([1, 2, 0, 4].map(divide));
  expect(results.map((result) => (result.status === "fulfilled" ? result.value : "failed"))).toEqual([
    12,
    6,
    "failed",
    3,
  ]);
});

test("any other error fails the whole batch, which is not repeated", async () => {
  let runs = 0;
  const add = createBatcher<number, number>({
    ...{ waitMs: 1, maxItems: 9, maxBatches: 1, isItemError: () => false },
    work: async () => {
      runs++;
      throw new Error("unavailable");
    },
  });
  const results = await Promise.allSettled([1, 2, 3].map(add));
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  expect(runs).toBe(1);
});
