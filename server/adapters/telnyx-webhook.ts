import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { z } from "zod";
import { idPattern } from "../../db/ids.ts";
import { isStorable, storable } from "../../db/text.ts";
import type { CarrierEvent, LegCause, LegReport, Telnyx } from "../../routers/ports/carriers.ts";
import { parsedOrUndefined } from "./shared/json.ts";
import { translated } from "./shared/unknown-words.ts";
import { instant } from "./ultravox/values.ts";

/** `accountId`: `pacc_…`, the carrier of an account at the voice provider, or `cred_…`, a client's own credential. */
export type TelnyxKey = { accountId: string; keyId: string; publicKey: KeyObject };

export type TelnyxVerdict =
  | { verdict: "valid"; accountId: string; keyId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

/** The SPKI prefix of the 32 bytes of an Ed25519 public key (RFC 8410). */
const spki = Buffer.from("302a300506032b6570032100", "hex");

/** Reads a public key as the Telnyx portal shows it: 32 bytes in base64. Returns null if it is invalid. */
export function publicKeyFrom(base64: string): KeyObject | null {
  const raw = Buffer.from(base64.trim(), "base64");
  if (raw.length !== 32) return null;
  return createPublicKey({ key: Buffer.concat([spki, raw]), format: "der", type: "spki" });
}

/** Checks `Telnyx-Signature-Ed25519`: base64, over the timestamp header, a `|` and the body. */
export function verifyTelnyxSignature(input: {
  rawBody: Buffer;
  timestampHeader: string | undefined;
  signatureHeader: string | undefined;
  keys: readonly TelnyxKey[];
  toleranceSeconds: number;
  now: Date;
}): TelnyxVerdict {
  const { rawBody, timestampHeader, signatureHeader, keys, toleranceSeconds, now } = input;
  if (!timestampHeader || !/^\d{1,12}$/.test(timestampHeader)) {
    return { verdict: "forged", reason: "The header Telnyx-Timestamp is missing." };
  }
  const signature = Buffer.from(signatureHeader ?? "", "base64");
  if (signature.length !== 64) return { verdict: "forged", reason: "The header Telnyx-Signature-Ed25519 is missing." };
  const signed = Buffer.concat([Buffer.from(`${timestampHeader}|`), rawBody]);
  const signer = keys.find(({ publicKey }) => verify(null, signed, publicKey, signature));
  if (!signer) return { verdict: "forged", reason: "The signature matches no known public key." };
  const timestampSeconds = Number(timestampHeader);
  if (Math.abs(now.getTime() / 1000 - timestampSeconds) > toleranceSeconds) {
    return { verdict: "stale", reason: `Signed more than ${toleranceSeconds} seconds away from now.` };
  }
  return { verdict: "valid", accountId: signer.accountId, keyId: signer.keyId, timestampSeconds };
}

/**
 * Reads both formats: Call Control (JSON, an envelope with an id) and TeXML (a form, or the same as JSON; the leg's id and
 * a sequence number identify the event).
 */
export const telnyx: Telnyx = {
  readEvent(rawBody) {
    const isJson = /^\s*\{/.test(rawBody.subarray(0, 100).toString("latin1"));
    const body = isJson
      ? parsedOrUndefined(rawBody)
      : Object.fromEntries(new URLSearchParams(rawBody.toString("utf8")));
    const control = Control.safeParse(body);
    return control.success ? ofControl(control.data.data) : ofTexml(Texml.parse(body), rawBody);
  },
};

/** Ids must be complete; other texts are made storable. */
const Name = z.string().min(1).max(300).refine(isStorable);
const optional = z
  .string()
  .max(300)
  .nullish()
  .transform((text) => (text ? storable(text) : null));
/** A time that is off by years is ignored. */
const When = z
  .string()
  .nullish()
  .transform((text) => {
    if (!text) return null;
    const at = instant(text) ?? new Date(text); // TeXML has RFC 2822 too
    const year = at.getUTCFullYear();
    return year >= 2000 && year < 2200 ? at : null;
  });
const Decimal = z
  .union([z.string().max(40), z.number()])
  .nullish()
  .transform((value) => (/^\d{1,12}(\.\d{1,18})?$/.test(String(value ?? "")) ? String(value) : null));
const Whole = z
  .union([z.string().max(12), z.number()])
  .nullish()
  .transform((value) => (/^\d{1,8}$/.test(String(value ?? "")) ? Number(value) : null));

const Control = z.object({
  data: z.object({
    event_type: Name,
    id: Name,
    occurred_at: When,
    payload: z
      .object({
        call_control_id: optional,
        call_leg_id: optional,
        call_session_id: optional,
        client_state: optional.catch(null),
        direction: optional.catch(null),
        from: optional,
        to: optional,
        start_time: When,
        end_time: When,
        hangup_cause: optional,
        hangup_source: optional,
        sip_hangup_cause: optional,
        total_cost: Decimal,
        cost_parts: z
          .array(z.object({ currency: optional }))
          .nullish()
          .catch(null),
      })
      .default({} as never),
  }),
});
type Control = z.output<typeof Control>["data"];

const statuses: Record<string, LegReport["status"]> = {
  "call.initiated": "initiated",
  "call.answered": "answered",
  "call.bridged": "answered",
  "call.hangup": "ended",
  "call.cost": null,
};

function ofControl({ event_type: type, id, occurred_at: occurredAt, payload }: Control): CarrierEvent {
  const status = Object.hasOwn(statuses, type) ? statuses[type] : undefined;
  // TeXML calls the leg by this id too, so both formats name the same leg.
  const carrierLegId = payload.call_control_id ?? payload.call_leg_id;
  if (status === undefined || !carrierLegId) return { type, key: id, leg: null };
  const ended = status === "ended";
  const cause = causeOf(payload.hangup_cause, payload.sip_hangup_cause, "failed");
  return {
    type,
    key: id,
    leg: {
      carrierLegId,
      carrierSessionId: payload.call_session_id,
      callId: callIn(payload.client_state),
      direction: directionOf(payload.direction),
      from: payload.from,
      to: payload.to,
      status,
      occurredAt,
      startedAt: payload.start_time ?? (status === "initiated" ? occurredAt : null),
      answeredAt: status === "answered" ? occurredAt : null,
      endedAt: ended ? (payload.end_time ?? occurredAt) : null,
      end: ended
        ? {
            cause,
            hangupCause: payload.hangup_cause,
            hangupSource: payload.hangup_source,
            sipHangupCause: payload.sip_hangup_cause,
            durationSeconds: null,
          }
        : null,
      cost:
        type === "call.cost" && payload.total_cost !== null
          ? {
              amount: payload.total_cost,
              currency: payload.cost_parts?.find(({ currency }) => currency)?.currency ?? null,
            }
          : null,
    },
  };
}

const directions = { incoming: "incoming", outgoing: "outgoing" } as const;
const directionOf = (word: string | null) =>
  word === null ? null : translated<LegReport["direction"]>(directions, word, null, ["telnyx", "direction"]);

const Texml = z.looseObject({
  CallSid: Name,
  CallStatus: optional,
  CallbackSource: optional,
  CallSessionId: optional,
  SequenceNumber: z
    .union([z.string().regex(/^\d{1,9}$/), z.int()])
    .nullish()
    .catch(null),
  Timestamp: When,
  OccurredAt: When,
  CallInitiatedAt: When,
  StartTime: When,
  AnsweredTime: When,
  EndTime: When,
  From: optional,
  To: optional,
  HangupCause: optional,
  HangupSource: optional,
  SipHangupCause: optional,
  CallDuration: Whole,
});
type Texml = z.output<typeof Texml>;

type TexmlStatus = { status: LegReport["status"]; cause: LegCause };
const texmlStatuses: Record<string, TexmlStatus> = {
  queued: { status: "initiated", cause: "normal" },
  initiated: { status: "initiated", cause: "normal" },
  ringing: { status: "initiated", cause: "normal" },
  answered: { status: "answered", cause: "normal" },
  "in-progress": { status: "answered", cause: "normal" },
  completed: { status: "ended", cause: "normal" },
  busy: { status: "ended", cause: "busy" },
  "no-answer": { status: "ended", cause: "no_answer" },
  canceled: { status: "ended", cause: "cancelled" },
  failed: { status: "ended", cause: "failed" },
};

function ofTexml(fields: Texml, rawBody: Buffer): CarrierEvent {
  const { CallSid: carrierLegId, CallStatus: reported, CallbackSource: source } = fields;
  const isCost = source === "call-cost-events";
  const type = `texml.${isCost ? source : (reported ?? source ?? "callback")}`;
  const number = fields.SequenceNumber ?? createHash("sha256").update(rawBody).digest("hex");
  const key = `${carrierLegId}:${number}:${type}`;
  const isProgress = source === null || source === "call-progress-events";
  if (!isCost && !(isProgress && reported !== null)) return { type, key, leg: null };
  // The other fields of the leg are used even if its status is unknown.
  const unknown = { status: null, cause: "failed" } as const;
  const known = isCost
    ? null
    : translated<TexmlStatus>(texmlStatuses, reported ?? "", unknown, ["telnyx", "CallStatus"]);
  const status = known?.status ?? null;
  const occurredAt = fields.OccurredAt ?? fields.Timestamp;
  const ended = status === "ended";
  const amount = isCost ? Decimal.safeParse(fields[`CallCost[${carrierLegId}]`] ?? fields.CallCost).data : null;
  return {
    type,
    key,
    leg: {
      carrierLegId,
      carrierSessionId: fields.CallSessionId,
      callId: null,
      direction: null,
      from: fields.From,
      to: fields.To,
      status,
      occurredAt,
      startedAt: fields.StartTime ?? fields.CallInitiatedAt ?? (status === "initiated" ? occurredAt : null),
      answeredAt: fields.AnsweredTime ?? (status === "answered" ? occurredAt : null),
      endedAt: ended ? (fields.EndTime ?? occurredAt) : null,
      end: ended
        ? {
            cause: causeOf(fields.HangupCause, fields.SipHangupCause, known?.cause ?? "failed"),
            hangupCause: fields.HangupCause,
            hangupSource: fields.HangupSource,
            sipHangupCause: fields.SipHangupCause,
            durationSeconds: fields.CallDuration,
          }
        : null,
      cost: amount ? { amount, currency: null } : null,
    },
  };
}

const causes: Record<string, LegCause> = {
  normal_clearing: "normal",
  time_limit: "normal",
  user_busy: "busy",
  call_rejected: "rejected",
  no_answer: "no_answer",
  timeout: "no_answer",
  not_found: "invalid_number",
  originator_cancel: "cancelled",
};

/** SIP response codes (RFC 3261, RFC 8197, RFC 8688), used where Telnyx gives no cause. */
const sipCauses: Record<string, LegCause> = {
  "200": "normal",
  "403": "rejected",
  "404": "invalid_number",
  "408": "no_answer",
  "410": "invalid_number",
  "480": "no_answer",
  "484": "invalid_number",
  "486": "busy",
  "487": "cancelled",
  "600": "busy",
  "603": "rejected",
  "604": "invalid_number",
  "607": "rejected",
  "608": "rejected",
};

/** Telnyx's own cause first. If it is missing, unspecified or unknown, the SIP response code decides. */
function causeOf(hangupCause: string | null, sip: string | null, otherwise: LegCause): LegCause {
  const isMissing = hangupCause === null || hangupCause === "unspecified";
  const known = isMissing ? null : translated<LegCause | null>(causes, hangupCause, null, ["telnyx", "hangup_cause"]);
  return known ?? sipCauses[sip ?? ""] ?? otherwise;
}

/** `client_state` is the value that we sent, in base64: the id of a call. */
function callIn(clientState: string | null): string | null {
  const text = Buffer.from(clientState ?? "", "base64").toString("utf8");
  return idPattern("call").test(text) ? text : null;
}
