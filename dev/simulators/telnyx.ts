import { generateKeyPairSync, type KeyObject, randomUUID, sign } from "node:crypto";

/** An account at a simulated Telnyx: a key pair, and the messages that it signs. */
export type TelnyxAccount = { publicKey: string; privateKey: KeyObject };

export function telnyxAccount(): TelnyxAccount {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  return { publicKey: raw.toString("base64"), privateKey };
}

export type TelnyxMessage = { contentType: string; body: string };

/** The headers that Telnyx sends with a message. `at` is the claimed send time in seconds. */
export function telnyxHeaders(account: TelnyxAccount, { contentType, body }: TelnyxMessage, at = nowSeconds()) {
  const signature = sign(null, Buffer.from(`${at}|${body}`), account.privateKey);
  return {
    "content-type": contentType,
    "telnyx-timestamp": String(at),
    "telnyx-signature-ed25519": signature.toString("base64"),
  };
}

export const nowSeconds = () => Math.floor(Date.now() / 1000);

type Control = { type: string; callControlId: string; callId?: string | null; at?: Date; id?: string; more?: object };

/** A message of Call Control. `callId` is sent as `client_state`. */
export function callControl({ type, callControlId, callId, at = new Date(), id = randomUUID(), more }: Control) {
  const payload = {
    call_control_id: callControlId,
    call_leg_id: `leg-${callControlId}`,
    call_session_id: `session-${callControlId}`,
    connection_id: "1684641123236054244",
    ...(callId ? { client_state: Buffer.from(callId).toString("base64") } : {}),
    ...more,
  };
  const data = { record_type: "event", event_type: type, id, occurred_at: at.toISOString(), payload };
  return { contentType: "application/json", body: JSON.stringify({ data, meta: { attempt: 1 } }) };
}

type Texml = { callSid: string; status: string; sequence: number; at?: Date; more?: Record<string, string> };

/** A status callback of TeXML, as Telnyx sends it: a form. */
export function texmlStatus({ callSid, status, sequence, at = new Date(), more }: Texml): TelnyxMessage {
  const fields = {
    AccountSid: "f5586561-8ff0-4291-a51b-c7dfe4139ff9",
    CallSid: callSid,
    CallSidLegacy: callSid,
    CallStatus: status,
    CallbackSource: "call-progress-events",
    ConnectionId: "1684641123236054244",
    SequenceNumber: String(sequence),
    Timestamp: at.toISOString(),
    ...more,
  };
  return { contentType: "application/x-www-form-urlencoded", body: new URLSearchParams(fields).toString() };
}
