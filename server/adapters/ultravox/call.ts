import { z } from "zod";
import { callEvents, endReasons, type ProviderCall, type ProviderEvent } from "../../../routers/ports/ultravox.ts";
import { noteUnknownWord, translated } from "../shared/unknown-words.ts";
import { partiesOf } from "./call-parties.ts";
import { Instant, Seconds } from "./values.ts";

/**
 * Calls as Ultravox returns them, after its published OpenAPI document (https://api.ultravox.ai/api/schema/). Objects are
 * loose, because the provider may add fields. A field that we use and that has another type is an error.
 */

const sipReasons = {
  SIP_TERMINATION_NORMAL: "normal",
  SIP_TERMINATION_INVALID_NUMBER: "invalid_number",
  SIP_TERMINATION_TIMEOUT: "timeout",
  SIP_TERMINATION_DESTINATION_UNAVAILABLE: "unavailable",
  SIP_TERMINATION_BUSY: "busy",
  SIP_TERMINATION_CANCELED: "cancelled",
  SIP_TERMINATION_REJECTED: "rejected",
  SIP_TERMINATION_UNKNOWN: "unknown",
} as const satisfies Record<string, ProviderCall["sipReason"]>;

const billings = {
  BILLING_STATUS_PENDING: "pending",
  BILLING_STATUS_UNSPECIFIED: "pending",
  BILLING_STATUS_FREE_CONSOLE: "final",
  BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION: "final",
  BILLING_STATUS_FREE_MINUTES: "final",
  BILLING_STATUS_FREE_SYSTEM_ERROR: "final",
  BILLING_STATUS_FREE_OTHER: "final",
  BILLING_STATUS_BILLED: "final",
  BILLING_STATUS_REFUNDED: "refunded",
} as const satisfies Record<string, ProviderCall["billing"]>;

/** An end reason is stored as received. One that is not in the list is reported. */
const EndReason = z.string().transform((word) => {
  if (word === "") return null;
  if (!(endReasons as readonly string[]).includes(word)) noteUnknownWord("ultravox", "call.endReason", word);
  return word;
});

const maxBillingDelayMs = 3_600_000;

/** No call lasts a day. A longer bill is a mistake, and would take the balance beyond the safe integers. */
const maxBilledSeconds = 86_400;

function isPlausibleBill(durations: readonly (number | null | undefined)[]): boolean {
  if (durations.every((seconds) => (seconds ?? 0) <= maxBilledSeconds)) return true;
  noteUnknownWord("ultravox", "call.billedDuration", "longer_than_a_day");
  return false;
}

/**
 * The provider returns the billed duration only once it has billed, so that decides about an unknown status. An unknown
 * status without a duration counts as pending for an hour, and then as final: credits are not held without end.
 */
function billingOf(status: string, billedDuration: number | null, ended: Date | null): ProviderCall["billing"] {
  const isOver = ended !== null && Date.now() - ended.getTime() > maxBillingDelayMs;
  const otherwise = billedDuration === null && !isOver ? "pending" : "final";
  return translated<ProviderCall["billing"]>(billings, status, otherwise, ["ultravox", "call.billingStatus"]);
}

export const Call = z
  .looseObject({
    callId: z.string().min(1),
    created: Instant,
    joined: Instant.nullable(),
    ended: Instant.nullable(),
    endReason: EndReason.nullable(),
    billingStatus: z.string(),
    billedDuration: Seconds.nullable(),
    sipDetails: z.looseObject({ billedDuration: Seconds.nullish(), terminationReason: z.string().nullish() }).nullish(),
    metadata: z.looseObject({ callId: z.string().optional() }).nullish(),
    agent: z.looseObject({ agentId: z.string() }).nullish(),
    medium: z.looseObject({}).nullish(),
    requestContext: z.unknown().optional(),
    recordingEnabled: z.boolean().nullish(),
    joinUrl: z.string().nullish(),
    summary: z.string().nullish(),
    shortSummary: z.string().nullish(),
  })
  .transform((call): ProviderCall => {
    const isPlausible = isPlausibleBill([call.billedDuration, call.sipDetails?.billedDuration]);
    const billing = isPlausible ? billingOf(call.billingStatus, call.billedDuration, call.ended) : "pending";
    const sipReason = call.sipDetails?.terminationReason ?? null;
    return {
      providerCallId: call.callId,
      callId: call.metadata?.callId ?? null,
      createdAt: call.created,
      joinedAt: call.joined,
      endedAt: call.ended,
      endReason: call.endReason,
      billedSeconds: billing === "pending" ? null : wholeSeconds(call.billedDuration ?? 0),
      billing,
      sipBilledSeconds: isPlausible ? wholeSeconds(call.sipDetails?.billedDuration ?? null) : null,
      sipReason:
        sipReason === null
          ? null
          : translated<ProviderCall["sipReason"]>(sipReasons, sipReason, "unknown", ["ultravox", "call.sipReason"]),
      joinUrl: call.joinUrl ?? null,
      summary: call.summary ?? null,
      shortSummary: call.shortSummary ?? null,
      providerAgentId: call.agent?.agentId ?? null,
      recordingEnabled: call.recordingEnabled ?? false,
      ...mediumOf(call.medium ?? {}),
      ...partiesOf(call.metadata ?? {}, call.requestContext),
    };
  });

const carriers = ["sip", "twilio", "telnyx", "plivo"] as const;
/** Media that are no telephone, or not ours (openapi: ultravox.v1.CallMedium). */
const otherMedia: readonly string[] = ["webRtc", "serverWebSocket", "webSocket", "exotel"];

/** A telephone call that we did not dial is inbound (openapi: `outgoing` is set where the provider dials). */
function mediumOf(medium: Record<string, unknown>): Pick<ProviderCall, "medium" | "isInbound"> {
  const carrier = carriers.find((name) => medium[name] !== undefined && medium[name] !== null);
  if (!carrier) {
    const unknown = Object.keys(medium).find((name) => medium[name] != null && !otherMedia.includes(name));
    if (unknown) noteUnknownWord("ultravox", "call.medium", unknown);
    return { medium: "web", isInbound: false };
  }
  const details = medium[carrier];
  const dialled = typeof details === "object" && details !== null && "outgoing" in details && details.outgoing != null;
  return { medium: carrier, isInbound: !dialled };
}

/** A started second counts. Ultravox itself bills in steps of six (docs.ultravox.ai, pricing): today nothing is rounded. */
function wholeSeconds<S extends number | null>(seconds: S): S | number {
  return seconds === null ? seconds : Math.max(0, Math.ceil(seconds));
}

const EventBody = z.looseObject({ event: z.string().regex(/^[\w.-]{1,100}$/), call: Call });

/**
 * Reads a webhook's body; throws ZodError if it is none. An unknown event carries the call too, like the others.
 * `call.billed` makes the bill final, even if its status is unknown.
 */
export function readEvent(body: unknown): ProviderEvent {
  const { event: name, call } = EventBody.parse(body);
  const event = callEvents.find((known) => known === name);
  if (!event) {
    noteUnknownWord("ultravox", "event", name);
    return { event: "other", name, call };
  }
  const isSettled = event !== "call.billed" || call.billing !== "pending" || isKnownStatus(body);
  if (isSettled || !hasPlausibleBill(body)) return { event, call };
  return { event, call: { ...call, billing: "final", billedSeconds: call.billedSeconds ?? 0 } };
}

/** `body` has passed EventBody. */
function hasPlausibleBill(body: unknown): boolean {
  const { billedDuration, sipDetails } = (body as { call: z.input<typeof Call> }).call;
  const seconds = [billedDuration, sipDetails?.billedDuration].map((text) => Seconds.nullish().parse(text));
  return isPlausibleBill(seconds);
}

/** `body` has passed EventBody. */
const isKnownStatus = (body: unknown) =>
  Object.hasOwn(billings, (body as { call: { billingStatus: string } }).call.billingStatus);
