import { telnyxHeaders, texmlStatus } from "../telnyx.ts";
import type { SipTermination } from "./numbers.ts";
import { after, type Call, type World } from "./state.ts";

type Leg = { reports: number; over: boolean };
const legs = new WeakMap<Call, Leg>();

type Status = "initiated" | "in-progress" | "completed" | "canceled" | "busy" | "no-answer" | "failed";

/** The hangup cause of Telnyx for an outcome that the voice provider does not see. */
const endings: Partial<Record<SipTermination, [Status, cause: string, sip: string]>> = {
  SIP_TERMINATION_BUSY: ["busy", "user_busy", "486"],
  SIP_TERMINATION_REJECTED: ["busy", "call_rejected", "603"],
  SIP_TERMINATION_INVALID_NUMBER: ["failed", "not_found", "404"],
  SIP_TERMINATION_DESTINATION_UNAVAILABLE: ["no-answer", "no_answer", "480"],
};

/** Dials as Telnyx does. An unanswered call is reported immediately, before the voice provider's timeout. */
export function dial(world: World, call: Call): void {
  if (!addressOf(call)) return;
  report(world, call, "initiated");
  const { behaviour, ringSeconds } = call;
  const ending = behaviour.talk ? undefined : endings[behaviour.termination];
  if (!ending || !Number.isFinite(ringSeconds)) return;
  const [status, HangupCause, SipHangupCause] = ending;
  after(world, ringSeconds, () => report(world, call, status, { HangupCause, SipHangupCause, HangupSource: "callee" }));
}

export const answered = (world: World, call: Call) => report(world, call, "in-progress");

/** The voice provider has hung up. */
export function letGo(world: World, call: Call): void {
  const talked = call.joinedAt === null ? null : Math.round((call.endedAt ?? call.joinedAt) - call.joinedAt);
  if (talked === null) {
    report(world, call, "canceled", {
      HangupCause: "originator_cancel",
      SipHangupCause: "487",
      HangupSource: "caller",
    });
  } else {
    const more = { HangupCause: "normal_clearing", SipHangupCause: "200", CallDuration: String(talked) };
    report(world, call, "completed", { ...more, HangupSource: call.endReason === "hangup" ? "callee" : "caller" });
  }
}

function addressOf({ medium }: Call): string | null {
  const url = medium.telnyx?.outgoing?.additionalParams?.StatusCallback;
  return typeof url === "string" ? url : null;
}

/** Sent once: a test of repeated messages sends them itself. An ended leg sends nothing more. */
function report(world: World, call: Call, status: Status, more: Record<string, string> = {}): void {
  const url = addressOf(call);
  const leg = legs.get(call) ?? { reports: 0, over: false };
  if (!url || !world.telnyx || leg.over) return;
  const { to, from } = call.medium.telnyx!.outgoing!;
  const message = texmlStatus({
    callSid: `v3:${call.id}`,
    status,
    sequence: leg.reports,
    more: { To: to, From: from, ...more },
  });
  legs.set(call, { reports: leg.reports + 1, over: status !== "initiated" && status !== "in-progress" });
  const signal = AbortSignal.any([world.stopped.signal, AbortSignal.timeout(world.webhookTimeoutMs)]);
  const headers = telnyxHeaders(world.telnyx, message);
  fetch(url, { method: "POST", headers, body: message.body, signal })
    .then((response) => response.body?.cancel())
    .catch(() => {}); // an unreachable receiver misses the message; the call ends anyway
}
