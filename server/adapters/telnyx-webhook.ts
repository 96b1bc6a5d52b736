import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { z } from "zod";
import { idPattern } from "../../db/ids.ts";
import { isStorable, storable } from "../../db/text.ts";
import type { CarrierEvent, LegCause, LegReport, Telnyx } from "../../routers/ports/carriers.ts";
import { translated } from "./shared/unknown-words.ts";
import { parsed } from "./ultravox/http-client.ts";
import { instant } from "./ultravox/schema.ts";

/** Whose key it is: `pacc_…`, the carrier of an account at the voice provider, or `cred_…`, a client's own credential. */
export type TelnyxKey = { accountId: string; keyId: string; publicKey: KeyObject };

export type TelnyxVerdict =
  | { verdict: "valid"; accountId: string; keyId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

/** What stands before the 32 bytes of an Ed25519 public key in SPKI (RFC 8410). */
const spki = Buffer.from("302a300506032b6570032100", "hex");

/** A public key as Telnyx' portal shows it: 32 bytes in base64. null when it is none. */
export function publicKeyFrom(base64: string): KeyObject | null {
  const raw = Buffer.from(base64.trim(), "base64");
  if (raw.length !== 32) return null;
  return createPublicKey({ key: Buffer.concat([spki, raw]), format: "der", type: "spki" });
}

/** Checks `Telnyx-Signature-Ed25519`: base64, over the timestamp's text, a bar and the body's bytes. */
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
  if (!signer) return { verdict: "forged", reason: "The signature matches no public key that we know." };
  const timestampSeconds = Number(timestampHeader);
  if (Math.abs(now.getTime() / 1000 - timestampSeconds) > toleranceSeconds) {
    return { verdict: "stale", reason: `Signed more than ${toleranceSeconds} seconds away from now.` };
  }
  return { verdict: "valid", accountId: signer.accountId, keyId: signer.keyId, timestampSeconds };
}

/**
 * Both forms: Call Control (JSON, an envelope with an id) and TeXML (a form, or the same as JSON; the leg's id and a
 * number in order make it one).
 */
export const telnyx: Telnyx = {
  readEvent(rawBody) {
    const isJson = /^\s*\{/.test(rawBody.subarray(0, 100).toString("latin1"));
    const body = isJson ? parsed(rawBody) : Object.fromEntries(new URLSearchParams(rawBody.toString("utf8")));
    const control = Control.safeParse(body);
    return control.success ? ofControl(control.data.data) : ofTexml(Texml.parse(body), rawBody);
  },
};

/** What names a message or a leg is whole; the rest is kept as well as it can be. */
const Name = z.string().min(1).max(300).refine(isStorable);
const optional = z
  .string()
  .max(300)
  .nullish()
  .transform((text) => (text ? storable(text) : null));
/** A clock that is wrong by years is none. */
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

function ofControl({ event_type: type, id, occurred_at: occurredAt, payload: told }: Control): CarrierEvent {
  const status = Object.hasOwn(statuses, type) ? statuses[type] : undefined;
  // What TeXML calls the leg is this id too, so that both forms speak of one leg.
  const carrierLegId = told.call_control_id ?? told.call_leg_id;
  if (status === undefined || !carrierLegId) return { type, key: id, leg: null };
  const ended = status === "ended";
  const cause = causeOf(told.hangup_cause, told.sip_hangup_cause, "failed");
  return {
    type,
    key: id,
    leg: {
      carrierLegId,
      carrierSessionId: told.call_session_id,
      callId: callIn(told.client_state),
      direction: directionOf(told.direction),
      from: told.from,
      to: told.to,
      status,
      occurredAt,
      startedAt: told.start_time ?? (status === "initiated" ? occurredAt : null),
      answeredAt: status === "answered" ? occurredAt : null,
      endedAt: ended ? (told.end_time ?? occurredAt) : null,
      end: ended
        ? {
            cause,
            hangupCause: told.hangup_cause,
            hangupSource: told.hangup_source,
            sipHangupCause: told.sip_hangup_cause,
            durationSeconds: null,
          }
        : null,
      cost:
        type === "call.cost" && told.total_cost !== null
          ? { amount: told.total_cost, currency: told.cost_parts?.find(({ currency }) => currency)?.currency ?? null }
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

function ofTexml(told: Texml, rawBody: Buffer): CarrierEvent {
  const { CallSid: carrierLegId, CallStatus: reported, CallbackSource: source } = told;
  const isCost = source === "call-cost-events";
  const type = `texml.${isCost ? source : (reported ?? source ?? "callback")}`;
  const number = told.SequenceNumber ?? createHash("sha256").update(rawBody).digest("hex");
  const key = `${carrierLegId}:${number}:${type}`;
  const isProgress = source === null || source === "call-progress-events";
  if (!isCost && !(isProgress && reported !== null)) return { type, key, leg: null };
  // What it says of the leg is taken, whatever it calls the status that the leg is in.
  const unknown = { status: null, cause: "failed" } as const;
  const known = isCost
    ? null
    : translated<TexmlStatus>(texmlStatuses, reported ?? "", unknown, ["telnyx", "CallStatus"]);
  const status = known?.status ?? null;
  const occurredAt = told.OccurredAt ?? told.Timestamp;
  const ended = status === "ended";
  const amount = isCost ? Decimal.safeParse(told[`CallCost[${carrierLegId}]`] ?? told.CallCost).data : null;
  return {
    type,
    key,
    leg: {
      carrierLegId,
      carrierSessionId: told.CallSessionId,
      callId: null,
      direction: null,
      from: told.From,
      to: told.To,
      status,
      occurredAt,
      startedAt: told.StartTime ?? told.CallInitiatedAt ?? (status === "initiated" ? occurredAt : null),
      answeredAt: told.AnsweredTime ?? (status === "answered" ? occurredAt : null),
      endedAt: ended ? (told.EndTime ?? occurredAt) : null,
      end: ended
        ? {
            cause: causeOf(told.HangupCause, told.SipHangupCause, known?.cause ?? "failed"),
            hangupCause: told.HangupCause,
            hangupSource: told.HangupSource,
            sipHangupCause: told.SipHangupCause,
            durationSeconds: told.CallDuration,
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

/** Answers of SIP (RFC 3261, RFC 8197, RFC 8688) where Telnyx has no word for the end. */
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

/** Telnyx' own word first. Where it has none, or one that says nothing or that we do not know, the answer of SIP. */
function causeOf(hangupCause: string | null, sip: string | null, otherwise: LegCause): LegCause {
  const untold = hangupCause === null || hangupCause === "unspecified";
  const told = untold ? null : translated<LegCause | null>(causes, hangupCause, null, ["telnyx", "hangup_cause"]);
  return told ?? sipCauses[sip ?? ""] ?? otherwise;
}

/** `client_state` is what we gave, in base64: the id of a call. */
function callIn(clientState: string | null): string | null {
  const text = Buffer.from(clientState ?? "", "base64").toString("utf8");
  return idPattern("call").test(text) ? text : null;
}
