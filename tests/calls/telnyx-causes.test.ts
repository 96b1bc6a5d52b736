import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { callControl, type TelnyxMessage, texmlStatus } from "../../dev/simulators/telnyx.ts";
import { merge } from "../../routers/calls/lifecycle/legs.ts";
import { refinedOutcome } from "../../routers/calls/lifecycle/outcome.ts";
import type { LegReport } from "../../routers/ports/carriers.ts";
import { telnyx } from "../../server/adapters/telnyx-webhook.ts";

const read = ({ body }: TelnyxMessage) => telnyx.readEvent(Buffer.from(body));
const leg = (message: TelnyxMessage) => read(message).leg!;
const at = (second: number) => new Date(Date.UTC(2026, 10, 24, 10, 0, second));
const hangup = (more: object) => callControl({ type: "call.hangup", callControlId: "v3:a", at: at(9), more });

describe("the mapping of Telnyx webhooks", () => {
  test.each([
    ["normal_clearing", "200", "normal"],
    ["user_busy", "486", "busy"],
    ["call_rejected", "603", "rejected"],
    ["no_answer", "480", "no_answer"],
    ["timeout", undefined, "no_answer"],
    ["not_found", "404", "invalid_number"],
    ["originator_cancel", "487", "cancelled"],
    ["time_limit", "200", "normal"],
    ["unspecified", "486", "busy"],
    ["unspecified", "604", "invalid_number"],
    ["unspecified", "503", "failed"],
    ["unspecified", "unspecified", "failed"],
    ["a_new_cause", undefined, "failed"],
  ])("%s with SIP %s: %s", (hangup_cause, sip_hangup_cause, cause) => {
    expect(leg(hangup({ hangup_cause, sip_hangup_cause, hangup_source: "callee" }))).toMatchObject({
      status: "ended",
      endedAt: at(9),
      end: { cause, hangupCause: hangup_cause, hangupSource: "callee", sipHangupCause: sip_hangup_cause ?? null },
    });
  });

  test.each([
    ["initiated", "initiated", null],
    ["ringing", "initiated", null],
    ["in-progress", "answered", null],
    ["answered", "answered", null],
    ["completed", "ended", "normal"],
    ["busy", "ended", "busy"],
    ["no-answer", "ended", "no_answer"],
    ["canceled", "ended", "cancelled"],
    ["failed", "ended", "failed"],
  ])("TeXML's status %s: %s, %s", (reported, status, cause) => {
    const report = leg(texmlStatus({ callSid: "v3:a", status: reported, sequence: 1, at: at(3) }));
    expect(report).toMatchObject({ carrierLegId: "v3:a", status, occurredAt: at(3) });
    expect(report.end?.cause ?? null).toBe(cause);
  });

  test("form and JSON bodies give the same report, also with RFC 2822 times", () => {
    const more = { HangupCause: "user_busy", SipHangupCause: "486", EndTime: "Tue, 24 Nov 2026 10:00:07 +0000" };
    const form = texmlStatus({ callSid: "v3:a", status: "busy", sequence: 2, at: at(8), more });
    const json = { ...form, body: JSON.stringify(Object.fromEntries(new URLSearchParams(form.body))) };
    expect(read(json)).toEqual(read(form));
    expect(leg(form)).toMatchObject({ endedAt: at(7), end: { cause: "busy", sipHangupCause: "486" } });
  });

  test("a callback is identified by leg, sequence number and type; a repetition has the same key", () => {
    const busy = texmlStatus({ callSid: "v3:a", status: "busy", sequence: 0, at: at(8) });
    expect(read(busy).key).toBe("v3:a:0:texml.busy");
    expect(read(busy).key).not.toBe(read(texmlStatus({ callSid: "v3:a", status: "initiated", sequence: 0 })).key);
  });

  test("the cost is an exact decimal in both forms; an invalid cost is null", () => {
    const cost = (more: object) => leg(callControl({ type: "call.cost", callControlId: "v3:a", more })).cost;
    const parts = [{ call_part: "sip-trunking", cost: "0.0050", currency: "USD", rate: "0.0050" }];
    expect(cost({ total_cost: "0.0050", status: "success", cost_parts: parts })).toEqual({
      amount: "0.0050",
      currency: "USD",
    });
    expect(cost({ total_cost: null, status: "error", cost_parts: null })).toBeNull();
    expect(cost({ total_cost: "much" })).toBeNull();
    const texml = texmlStatus({
      callSid: "v3:a",
      status: "completed",
      sequence: 4,
      more: { CallbackSource: "call-cost-events", "CallCost[v3:a]": "0.0180" },
    });
    expect(leg(texml)).toMatchObject({ status: null, end: null, cost: { amount: "0.0180", currency: null } });
  });

  test("`client_state` is read only if it is one of our call ids", () => {
    const id = newId("call");
    expect(leg(callControl({ type: "call.initiated", callControlId: "v3:a", callId: id })).callId).toBe(id);
    const other = callControl({ type: "call.initiated", callControlId: "v3:a", callId: "call_1'; drop table calls" });
    expect(leg(other).callId).toBeNull();
  });

  test("text that cannot be stored is cleaned and stored", () => {
    const report = leg(hangup({ hangup_cause: "user_busy\0", hangup_source: "half \ud83d", sip_hangup_cause: "486" }));
    expect(report.end).toMatchObject({ hangupCause: "user_busy\ufffd", hangupSource: "half \ufffd", cause: "busy" });
  });

  test("a message without a leg is ignored, and one that is not from Telnyx is refused", () => {
    expect(read(callControl({ type: "call.dtmf.received", callControlId: "v3:a" })).leg).toBeNull();
    expect(read(callControl({ type: "message.received", callControlId: "v3:a" })).leg).toBeNull();
    for (const body of [
      "",
      "{}",
      "[]",
      "not json",
      '{"data":{}}',
      "a=b",
      "\0",
      '{"CallSid":"\\u0000"}',
      '{"CallSid":"\\ud800"}',
    ]) {
      expect(() => telnyx.readEvent(Buffer.from(body)), body).toThrow();
    }
  });
});

describe("a leg", () => {
  const sid = "v3:one";
  const receivedAt = at(59);
  const reports: LegReport[] = [
    leg(texmlStatus({ callSid: sid, status: "initiated", sequence: 0, at: at(1), more: { To: "+14155550100" } })),
    leg(texmlStatus({ callSid: sid, status: "in-progress", sequence: 1, at: at(5) })),
    leg(texmlStatus({ callSid: sid, status: "completed", sequence: 2, at: at(31), more: { CallDuration: "25" } })),
    ...[
      { type: "call.initiated", at: at(1), more: { direction: "outgoing", from: "+14155550199" } },
      { type: "call.answered", at: at(4) },
      { type: "call.bridged", at: at(6) },
      { type: "call.hangup", at: at(30), more: { hangup_cause: "normal_clearing", sip_hangup_cause: "200" } },
      { type: "call.cost", at: at(40), more: { total_cost: "0.01", cost_parts: [{ currency: "USD" }] } },
      { type: "call.cost", at: at(50), more: { total_cost: "0.0100", cost_parts: [{ currency: "USD" }] } },
    ].map((message) => leg(callControl({ callControlId: sid, ...message }))),
  ];

  test("is the same for every order and repetition of its reports", () => {
    const five = [1, 2, 3, 4, 5].flatMap(() => reports);
    fc.assert(
      fc.property(fc.shuffledSubarray(five, { minLength: five.length }), (someReports) => {
        const made = someReports.reduce<ReturnType<typeof merge> | null>(
          (known, report) => merge(known, report, receivedAt),
          null,
        );
        expect(made).toMatchObject({
          carrierLegId: sid,
          status: "ended",
          direction: "outgoing",
          from: "+14155550199",
          to: "+14155550100",
          startedAt: at(1),
          answeredAt: at(4),
          endedAt: at(30),
          cause: "normal",
          hangupCause: "normal_clearing",
          sipHangupCause: "200",
          durationSeconds: 25,
          carrierCost: "0.0100",
          carrierCurrency: "USD",
        });
      }),
    );
  });

  test("never moves back, whatever the order of its reports", () => {
    const ranks = ["initiated", "answered", "ended"];
    fc.assert(
      fc.property(fc.shuffledSubarray(reports), (someReports) => {
        let known: ReturnType<typeof merge> | null = null;
        for (const report of someReports) {
          const next = merge(known, report, receivedAt);
          expect(ranks.indexOf(next.status)).toBeGreaterThanOrEqual(known ? ranks.indexOf(known.status) : 0);
          known = next;
        }
      }),
    );
  });
});

test("a carrier refines only an outcome that the voice provider does not know", () => {
  expect(refinedOutcome("no_answer", "busy")).toBe("busy");
  expect(refinedOutcome("no_answer", "invalid_number")).toBe("invalid_number");
  // The voice provider cancels an unanswered call: the carrier reports that as a cancellation.
  expect(refinedOutcome("no_answer", "cancelled")).toBe("no_answer");
  expect(refinedOutcome("no_answer", "normal")).toBe("no_answer");
  expect(refinedOutcome("no_answer", null)).toBe("no_answer");
  expect(refinedOutcome("completed", "busy")).toBe("completed");
  expect(refinedOutcome("failed", "busy")).toBe("failed");
});

test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])("an event type of %s changes no leg", (type) => {
  expect(read(callControl({ type, callControlId: "v3:x", callId: "call_x" }))).toMatchObject({
    leg: null,
  });
});
