import type { MediumInput } from "./requests.ts";

type KnownEndReason = "unjoined" | "hangup" | "agent_hangup" | "timeout" | "connection_error" | "system_error";
/** The admin API may end a call with any reason. */
export type EndReason = KnownEndReason | (string & {});
export type SipTermination = `SIP_TERMINATION_${
  | "NORMAL"
  | "INVALID_NUMBER"
  | "TIMEOUT"
  | "DESTINATION_UNAVAILABLE"
  | "BUSY"
  | "CANCELED"
  | "REJECTED"
  | "UNKNOWN"}`;

export interface Behaviour {
  what: string;
  /** Simulated seconds between dialling and the answer or the network's refusal. */
  ring: readonly [number, number];
  /** Simulated seconds of conversation. Absent: the call is not answered. */
  talk?: readonly [number, number];
  endReason: EndReason;
  /** The SIP end reason. Other media give none: there an unanswered call ends at its joinTimeout. */
  termination: SipTermination;
  /** Stays in this state until the admin API changes it. */
  hold?: "ringing" | "talking";
  /** Who answers, which decides the conversation. */
  speaks?: "person" | "machine";
  /** The create returns 400 and makes no call. */
  refused?: boolean;
  /** Real seconds, whatever the speed, between the acceptance of the call and the response to the create. */
  answersAfterSeconds?: number;
}

const never = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] as const;
const ringing = [3, 8] as const;
const usual = { ring: ringing, endReason: "agent_hangup", termination: "SIP_TERMINATION_NORMAL" } as const;

/** The last four digits of the dialled number decide what happens. */
export const NUMBERS = {
  "0000": {
    ...usual,
    what: "answers, talks about 40 s, the agent hangs up; the default for numbers not listed",
    talk: [36, 44],
  },
  "0001": { what: "busy", ring: [1, 3], endReason: "unjoined", termination: "SIP_TERMINATION_BUSY" },
  "0002": { what: "no answer", ring: never, endReason: "unjoined", termination: "SIP_TERMINATION_TIMEOUT" },
  "0003": {
    ...usual,
    what: "voicemail: the agent calls leaveVoicemail and hangs up",
    talk: [14, 20],
    speaks: "machine",
  },
  "0004": {
    what: "no such number",
    ring: [1, 2],
    endReason: "unjoined",
    termination: "SIP_TERMINATION_INVALID_NUMBER",
  },
  "0005": { ...usual, what: "the connection is lost during the call", talk: [10, 20], endReason: "connection_error" },
  "0006": { ...usual, what: "rejected by the provider: the create returns 400", refused: true },
  "0007": { ...usual, what: "the create responds after 3 real seconds", talk: [36, 44], answersAfterSeconds: 3 },
  "0008": { ...usual, what: "talks until maxDuration ends the call", talk: never, endReason: "timeout" },
  "0009": { ...usual, what: "answers and hangs up immediately: zero duration", talk: [0, 0], endReason: "hangup" },
  "0010": { ...usual, what: "answers, talks about 40 s, the callee hangs up", talk: [36, 44], endReason: "hangup" },
  "0011": { ...usual, what: "the provider fails during the call", talk: [10, 20], endReason: "system_error" },
  "0012": { what: "declined", ring: [2, 6], endReason: "unjoined", termination: "SIP_TERMINATION_REJECTED" },
  "0013": {
    what: "switched off or out of reach",
    ring: [2, 6],
    endReason: "unjoined",
    termination: "SIP_TERMINATION_DESTINATION_UNAVAILABLE",
  },
  "0014": {
    ...usual,
    what: "rings until the admin API moves it on, whatever its joinTimeout",
    talk: [36, 44],
    hold: "ringing",
  },
  "0015": {
    ...usual,
    what: "answers and talks until the admin API ends it, whatever its maxDuration",
    talk: never,
    hold: "talking",
  },
} as const satisfies Record<string, Behaviour>;

export type Ending = keyof typeof NUMBERS;

/** A client that opens the joinUrl. */
const client: Behaviour = { ...NUMBERS["0010"], what: "a client joins after a moment", ring: [1, 2] };

export function isEnding(text: string): text is Ending {
  return Object.hasOwn(NUMBERS, text);
}

export function behaviourFor(medium: MediumInput): Behaviour {
  const dialled = dialledNumber(medium);
  if (dialled === undefined) return client;
  const ending = dialled.replace(/\D/g, "").slice(-4);
  return NUMBERS[isEnding(ending) ? ending : "0000"];
}

export function dialledNumber({ sip, twilio, telnyx, plivo }: MediumInput): string | undefined {
  const to = (sip ?? twilio ?? telnyx ?? plivo)?.outgoing?.to;
  // A SIP URI has the number before its "@". Plivo accepts several numbers, joined by "<".
  return to?.split("@")[0]?.split("<")[0];
}
