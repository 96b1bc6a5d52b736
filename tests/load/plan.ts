import { hash } from "node:crypto";

/** The behaviour of a receiver. `stuck` never responds until it is released. */
export type Manner = "healthy" | "failing" | "slow" | "hanging" | "stuck";

/** What a receiver does with one request. Only `ok` accepts the event. */
export type Answer =
  | { kind: "ok"; afterMs: number }
  | { kind: "status"; status: 500 | 503 }
  | { kind: "reset" }
  | { kind: "hang" };

/** Six of ten receivers are healthy; the first eight of a round include one of each kind. */
const round: readonly Manner[] = [
  ...(["healthy", "failing", "healthy", "slow", "healthy"] as const),
  ...(["hanging", "healthy", "failing", "healthy", "healthy"] as const),
];
/** After this many refusals it accepts: well before the last attempt and before the endpoint is disabled. */
const refusalsAtMost = 4;
const hangsAtMost = 2;

/** A deterministic number from 0 to 1 for the given words. */
export function chance(...words: readonly (string | number)[]): number {
  return hash("sha256", words.join("/"), "buffer").readUIntBE(0, 6) / 2 ** 48;
}

export const between = (low: number, high: number, share: number) => low + (high - low) * share;

/** The behaviours of the receivers, in an order chosen by the seed. */
export function mannersOf(count: number, seed: number): Manner[] {
  return Array.from({ length: count }, (_, place) => ({ place, manner: round[place % round.length]! }))
    .toSorted((a, b) => chance(seed, "order", a.place) - chance(seed, "order", b.place))
    .map(({ manner }) => manner);
}

type Request = {
  seed: number;
  manner: Manner;
  endpoint: number;
  /** The event's number, and the index of this arrival: 0 is the first. */
  event: number;
  arrival: number;
};

export function answerTo({ seed, manner, endpoint, event, arrival }: Request): Answer {
  const draw = (what: string) => chance(seed, what, endpoint, event, arrival);
  const ok: Answer = { kind: "ok", afterMs: 0 };
  if (manner === "stuck") return { kind: "hang" };
  if (manner === "slow") return { kind: "ok", afterMs: between(200, 3_000, draw("slow")) };
  if (manner === "hanging") return arrival < hangsAtMost && draw("hang") < 0.04 ? { kind: "hang" } : ok;
  if (manner === "healthy" || arrival >= refusalsAtMost) return ok;
  if (draw("fail") >= between(0.3, 0.6, chance(seed, "share", endpoint))) return ok;
  const how = draw("how");
  if (how < 0.25) return { kind: "reset" };
  return { kind: "status", status: how < 0.6 ? 500 : 503 };
}
