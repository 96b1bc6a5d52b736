import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";
import { serve } from "./child.ts";
import { sendAsFastAsPossible, sendAtPace, spreadOf } from "./connections.ts";

export type Load = {
  port: number;
  /** Complete requests, sent in turn. `%n%` becomes a unique value, across runs too. */
  requests: string[];
  connections: number;
  seconds: number;
  /** It ends early after this many. */
  count?: number;
  /** At a constant rate instead of as fast as possible. */
  perSecond?: number;
  /** Every response must match: others are counted as wrong. */
  expect: { status: number; leastBytes: number };
};

export type Loaded = {
  requests: number;
  seconds: number;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  slowestMs: number;
  /** 503 responses: the server was too busy and did nothing. Not counted as requests. */
  refused: number;
  /** Responses with another status or a body that is too short, by kind. */
  wrong: Record<string, number>;
  /** Replayed responses of an earlier request: no work was done. */
  replayed: number;
};

/** Idempotency keys must be unique across rounds and processes. */
const unique = randomUUID().slice(0, 13);
let serial = 0;

async function run(load: Load): Promise<Loaded> {
  const { requests, connections, port, seconds, count = Number.POSITIVE_INFINITY, perSecond, expect } = load;
  const latencies: number[] = [];
  const wrong: Record<string, number> = {};
  let replayed = 0;
  let refused = 0;
  const sending = {
    ...{ port, connections },
    request(n: number) {
      const text = requests[n % requests.length]!;
      return text.includes("%n%") ? text.replaceAll("%n%", `${unique}-${++serial}`) : text;
    },
    seen(_n: number, { head, length, ms }: { head: string; length: number; ms: number }) {
      const status = head.slice(9, 12);
      if (status === "503") {
        refused += 1;
        return;
      }
      latencies.push(ms);
      const isRight = status === String(expect.status) && length >= expect.leastBytes;
      if (!isRight) wrong[`${status}, ${length} bytes`] = (wrong[`${status}, ${length} bytes`] ?? 0) + 1;
      if (/\r\nidempotency-replayed:/i.test(head)) replayed += 1;
    },
  };
  const began = performance.now();
  if (perSecond === undefined) await sendAsFastAsPossible(sending, { seconds, count });
  else await sendAtPace(sending, { perSecond, count: Math.min(count, Math.ceil(perSecond * seconds)) });
  const took = (performance.now() - began) / 1000;
  return { requests: latencies.length, seconds: took, ...spreadOf(latencies), wrong, replayed, refused };
}

serve({ run });
