import { beforeEach, expect, test, vi } from "vitest";
import type { Turn } from "../../routers/core/turn.ts";
import { addressOwner, type GateLimits, RequestGate } from "../../server/request-gate.ts";

const limits: GateLimits = {
  ...{ alone: 8, besideOthers: { least: 2, most: 4 }, busyAbove: 0.6, sampleMs: 50, maxPauseMs: 100 },
  ...{ waitingPerOwner: 5, waitingInAll: 8, maxWaitMs: 5_000, activeMs: 1_000 },
};
let gate: RequestGate;
let utilization: number;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  utilization = 1;
  gate = new RequestGate(limits, undefined, () => utilization);
});

/** Requests of one owner, and the turns that they have so far. */
function flood(owner: string, requests: number) {
  const turns: Turn[] = [];
  const refused: unknown[] = [];
  for (let n = 0; n < requests; n++) {
    try {
      Promise.resolve(gate.enter(owner)).then(
        (turn) => void turns.push(turn),
        (error) => void refused.push(error.errorCode),
      );
    } catch (error) {
      refused.push((error as { errorCode: string }).errorCode);
    }
  }
  return { turns, refused };
}
const settle = () => vi.advanceTimersByTimeAsync(0);

test("a client that is alone may use the whole process", async () => {
  const { turns } = flood("one", 10);
  await settle();
  expect(turns).toHaveLength(8);
  turns[0]!.end();
  await settle();
  expect(turns).toHaveLength(9);
});

test("a client beside a flood starts without waiting, and the flood gets few turns", async () => {
  const noisy = flood("noisy", 10);
  await settle();
  expect(gate.enter("quiet")).not.toBeInstanceOf(Promise);
  for (const turn of noisy.turns.slice(0, 7)) turn.end();
  await settle();
  expect(noisy.turns).toHaveLength(9); // eight from before, of which one runs, and one more
});

test("beside others, a client gets more turns while the process has time, and few again once it has none", async () => {
  gate.enter("quiet");
  const noisy = flood("noisy", 7);
  await settle();
  expect(noisy.turns).toHaveLength(2);
  const endOne = async (n: number) => {
    await vi.advanceTimersByTimeAsync(60);
    noisy.turns[n]!.end();
    await settle();
    return noisy.turns.length - (n + 1);
  };
  utilization = 0.2;
  expect([await endOne(0), await endOne(1)], "running").toEqual([3, 4]);
  utilization = 0.9;
  expect([await endOne(2), await endOne(3)], "running").toEqual([3, 2]);
});

test("a flood beside others in a busy process pauses after each turn for as long as that took, at most 100 ms", async () => {
  gate.enter("quiet");
  const noisy = flood("noisy", 5);
  await vi.advanceTimersByTimeAsync(60);
  for (const turn of noisy.turns.slice(0, 2)) turn.end();
  await vi.advanceTimersByTimeAsync(59);
  expect(noisy.turns).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(2);
  expect(noisy.turns).toHaveLength(4);
  await vi.advanceTimersByTimeAsync(1_000);
  for (const turn of noisy.turns.slice(2, 4)) turn.end();
  await vi.advanceTimersByTimeAsync(101);
  expect(noisy.turns).toHaveLength(5);
});

test("a request that comes in a pause is served after it, although no turn is running", async () => {
  gate.enter("quiet");
  const { turns } = flood("noisy", 2);
  const gone = new AbortController();
  Promise.resolve(gate.enter("noisy", gone.signal)).catch(() => {});
  await vi.advanceTimersByTimeAsync(60);
  turns[0]!.end();
  await vi.advanceTimersByTimeAsync(40);
  turns[1]!.end(); // pauses until 200 ms, longer than the pause after the first
  gone.abort(new Error("gone"));
  await vi.advanceTimersByTimeAsync(60);
  const late = flood("noisy", 1);
  await vi.advanceTimersByTimeAsync(100);
  expect(late.turns).toHaveLength(1);
});

test("a client is alone again once the others have been inactive for a second", async () => {
  const quiet = gate.enter("quiet") as Turn;
  quiet.end();
  const noisy = flood("noisy", 6);
  await vi.advanceTimersByTimeAsync(1_300);
  noisy.turns[0]!.end();
  await settle();
  expect(noisy.turns).toHaveLength(6);
});

test("too many waiting requests of one client are refused, and others still find a place", async () => {
  const { refused } = flood("noisy", 20);
  await settle();
  expect(refused).toHaveLength(7);
  expect(new Set(refused)).toEqual(new Set(["rate_limit_exceeded"]));
  expect(gate.enter("quiet")).not.toBeInstanceOf(Promise);
});

test("the queue is bounded in all", async () => {
  for (const owner of ["one", "two"]) flood(owner, 10);
  const { refused } = flood("three", 10);
  await settle();
  expect(refused).toContain("server_overloaded");
});

test("a request that waits too long is refused with Retry-After", async () => {
  flood("noisy", 8);
  const late = Promise.resolve(gate.enter("noisy")).catch((error) => error);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await late).toMatchObject({ errorCode: "rate_limit_exceeded", retryAfterSeconds: 1 });
});

test("a caller that leaves the queue takes no turn", async () => {
  const { turns } = flood("noisy", 8);
  const gone = new AbortController();
  const left = Promise.resolve(gate.enter("noisy", gone.signal)).catch((error) => error);
  const { turns: next } = flood("noisy", 1);
  await settle();
  gone.abort(new Error("gone"));
  expect(await left).toMatchObject({ message: "gone" });
  turns[0]!.end();
  await settle();
  expect(next).toHaveLength(1);
});

test("a request that waits for a provider lets others of its client work", async () => {
  gate.enter("quiet");
  const { turns } = flood("noisy", 3);
  await settle();
  const resume = turns[0]!.pause();
  await settle();
  expect(turns).toHaveLength(3);
  resume();
  resume();
  turns[0]!.end();
  turns[0]!.end();
  turns[1]!.end();
  const { turns: more } = flood("noisy", 2);
  await settle();
  expect(more).toHaveLength(1);
});

test("unverified credentials of an address limit each other, and no client", async () => {
  const { turns } = flood(addressOwner("192.0.2.1"), 4);
  const { turns: alone } = flood("one", 8);
  await settle();
  expect(turns).toHaveLength(2);
  expect(alone).toHaveLength(8);
});
