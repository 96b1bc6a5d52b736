import fc from "fast-check";
import { expect, test } from "vitest";
import { billable, billMicros, costLines, holdMicros, type Price } from "../../routers/billing/price.ts";
import { finalOutcome, type Outcome, provisionalOutcome, reached } from "../../routers/calls/lifecycle/outcome.ts";
import { after, type CallMove, type CallStatus } from "../../routers/calls/lifecycle/transitions.ts";
import type { ProviderCall, ProviderMessage } from "../../routers/ports/ultravox.ts";

const anyPrice: fc.Arbitrary<Price> = fc.record({
  id: fc.constant("price_x"),
  callMicrosPerMinute: fc.integer({ min: 0, max: 100_000_000 }),
  telephoneMicrosPerMinute: fc.integer({ min: 0, max: 100_000_000 }),
  roundingSeconds: fc.constantFrom(1, 6, 60),
  voiceCloneMicros: fc.constant(0),
});
const limits = fc.record({
  joinTimeoutSeconds: fc.integer({ min: 5, max: 300 }),
  maxDurationSeconds: fc.integer({ min: 10, max: 14_400 }),
});
const book: Price = {
  id: "price_1",
  callMicrosPerMinute: 9_000_000,
  telephoneMicrosPerMinute: 1_500_000,
  roundingSeconds: 6,
  voiceCloneMicros: 0,
};

test("a call within its limits never costs more than its hold", () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(anyPrice, limits, share, share, fc.boolean(), (price, limit, ringShare, talkShare, telephone) => {
      const ring = ringShare * limit.joinTimeoutSeconds;
      const talk = talkShare * limit.maxDurationSeconds;
      const rounded = (seconds: number) => Math.ceil(seconds / price.roundingSeconds) * price.roundingSeconds;
      const bill = { billedSeconds: rounded(talk), sipBilledSeconds: telephone ? rounded(ring + talk) : 0 };
      const held = holdMicros(price, { ...limit, telephone, transfers: false });
      expect(billMicros(price, bill)).toBeLessThanOrEqual(held);
    }),
    { numRuns: 2000 },
  );
});

test("an agent that may transfer holds the line twice", () => {
  fc.assert(
    fc.property(anyPrice, limits, (price, limit) => {
      const hold = (telephone: boolean, transfers: boolean) => holdMicros(price, { ...limit, telephone, transfers });
      const line = hold(true, false) - hold(false, false);
      expect(hold(true, true) - hold(true, false)).toBe(line);
      expect(hold(false, true), "a web call has no second leg").toBe(hold(false, false));
    }),
  );
});

test("seconds are rounded up to the rounding unit, by less than one unit", () => {
  expect([0, 1, 6, 7, 36.01, 42].map((seconds) => billable(seconds, book))).toEqual([0, 6, 6, 12, 42, 42]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 20_000 }), anyPrice, (seconds, price) => {
      const rounded = billable(seconds, price);
      expect(rounded % price.roundingSeconds).toBe(0);
      expect(rounded - seconds).toBeGreaterThanOrEqual(0);
      expect(rounded - seconds).toBeLessThan(price.roundingSeconds);
      expect(billable(rounded, price)).toBe(rounded);
    }),
  );
});

test("a service that was not used has no cost line", () => {
  const kinds = (billedSeconds: number, sipBilledSeconds: number) =>
    costLines(book, { billedSeconds, sipBilledSeconds }).map(({ kind }) => kind);
  expect(kinds(0, 0)).toEqual([]);
  expect(kinds(1, 0)).toEqual(["conversation"]);
  expect(kinds(0, 1)).toEqual(["telephone"]);
  expect(kinds(1, 1)).toEqual(["conversation", "telephone"]);
});

test("a bill is a whole number, zero for no usage, and grows with usage", () => {
  expect(billMicros(book, { billedSeconds: 42, sipBilledSeconds: 48 })).toBe(6_300_000 + 1_200_000);
  const seconds = fc.integer({ min: 0, max: 20_000 });
  fc.assert(
    fc.property(anyPrice, seconds, seconds, seconds, (price, talk, line, more) => {
      const bill = (billedSeconds: number, sipBilledSeconds: number) =>
        billMicros(price, { billedSeconds, sipBilledSeconds });
      expect(Number.isSafeInteger(bill(talk, line))).toBe(true);
      expect(bill(0, 0)).toBe(0);
      expect(bill(talk + more, line)).toBeGreaterThanOrEqual(bill(talk, line));
      expect(bill(talk, line + more)).toBeGreaterThanOrEqual(bill(talk, line));
      expect(bill(talk, 0) + bill(0, line), "conversation and line add up").toBe(bill(talk, line));
    }),
  );
});

const statuses = ["queued", "ringing", "active", "ended", "failed", "unknown"] as const satisfies CallStatus[];
const moves = ["accept", "markUnknown", "join", "end", "fail"] as const satisfies CallMove[];

test("exactly eight of the thirty moves are allowed", () => {
  const allowed = statuses.flatMap((status) =>
    moves.flatMap((move) => {
      const next = after(status, move);
      return next ? [`${status} ${move} ${next}`] : [];
    }),
  );
  expect(allowed.toSorted()).toEqual([
    "active end ended",
    "queued accept ringing",
    "queued fail failed",
    "queued markUnknown unknown",
    "ringing end ended",
    "ringing join active",
    "unknown accept ringing",
    "unknown fail failed",
  ]);
});

test("a call never moves back, and a final status stays, whatever the order of moves", () => {
  const rank: Record<CallStatus, number> = { queued: 0, unknown: 1, ringing: 2, active: 3, ended: 4, failed: 4 };
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...moves), { maxLength: 30 }), (tries) => {
      let status: CallStatus = "queued";
      let accepted = false;
      for (const move of tries) {
        const next = after(status, move);
        if (next === null) continue;
        expect(rank[next]).toBeGreaterThan(rank[status]);
        if (move === "accept") accepted = true;
        if (next === "failed") expect(accepted, "an accepted call ends; it does not fail").toBe(false);
        if (next === "ended") expect(accepted).toBe(true);
        status = next;
      }
    }),
  );
});

const instant = new Date("2026-01-01T00:00:00Z");
const endReasons = ["unjoined", "hangup", "agent_hangup", "timeout", "connection_error", "system_error"] as const;
const sipReasons = [
  "normal",
  "invalid_number",
  "timeout",
  "unavailable",
  "busy",
  "cancelled",
  "rejected",
  "unknown",
  null,
] as const;
const anyCall: fc.Arbitrary<ProviderCall> = fc.record({
  providerCallId: fc.constant("upstream"),
  callId: fc.constant("call_x"),
  createdAt: fc.constant(instant),
  joinedAt: fc.constantFrom(instant, null),
  endedAt: fc.constant(instant),
  endReason: fc.constantFrom(...endReasons, null),
  billedSeconds: fc.constant(0),
  billing: fc.constant("final" as const),
  sipBilledSeconds: fc.constant(0),
  sipReason: fc.constantFrom(...sipReasons),
  joinUrl: fc.constant(null),
  summary: fc.constant(null),
  shortSummary: fc.constant(null),
  providerAgentId: fc.constant(null),
  recordingEnabled: fc.boolean(),
  medium: fc.constantFrom("web", "sip" as const),
  isInbound: fc.boolean(),
  fromRaw: fc.constant(null),
  toRaw: fc.constant(null),
});
const message = (role: ProviderMessage["role"], toolName: string | null): ProviderMessage => {
  return { role, toolName, text: "", startSeconds: null, endSeconds: null };
};
const anyMessage = fc
  .tuple(
    fc.constantFrom("user", "agent", "tool_call", "tool_result" as const),
    fc.constantFrom("leaveVoicemail", "other", null),
  )
  .map(([role, tool]) => message(role, tool));

test("an unanswered call was not reached, and a broken call is not completed", () => {
  fc.assert(
    fc.property(anyCall, fc.array(anyMessage), (call, messages) => {
      const provisional = provisionalOutcome(call);
      const final = finalOutcome(provisional, messages);
      const isBroken = call.endReason === "connection_error" || call.endReason === "system_error";
      expect(provisional, "only the messages show a voicemail").not.toBe("voicemail");
      expect(provisional === "completed").toBe(call.joinedAt !== null && !isBroken);
      expect(reached(final)).toBe(reached(provisional));
      if (final !== provisional) expect([provisional, final]).toEqual(["completed", "voicemail"]);
    }),
    { numRuns: 1000 },
  );
});

test("a voicemail is a tool call of the agent, not a tool result", () => {
  const leave = message("tool_call", "leaveVoicemail");
  expect(finalOutcome("completed", [message("agent", null), leave])).toBe("voicemail");
  expect(finalOutcome("completed", [message("tool_result", "leaveVoicemail")])).toBe("completed");
  expect(finalOutcome("completed", [])).toBe("completed");
  const others: Outcome[] = ["no_answer", "busy", "rejected", "invalid_number", "failed", "cancelled"];
  for (const outcome of others) expect(finalOutcome(outcome, [leave])).toBe(outcome);
});

test.for([
  ["busy", "busy"],
  ["rejected", "rejected"],
  ["invalid_number", "invalid_number"],
  ["timeout", "no_answer"],
  ["unavailable", "no_answer"],
  ["cancelled", "cancelled"],
  ["normal", "no_answer"],
  ["unknown", "failed"],
  [null, "no_answer"],
] as const)("an unanswered call with SIP reason %s is %s", ([sipReason, outcome]) => {
  fc.assert(
    fc.property(anyCall, (call) => {
      expect(provisionalOutcome({ ...call, joinedAt: null, endReason: "unjoined", sipReason })).toBe(outcome);
    }),
  );
});
