import type { MediumInput } from "./requests.ts";

type KnownEndReason = "unjoined" | "hangup" | "agent_hangup" | "timeout" | "connection_error" | "system_error";
/** By hand a call may end with any word. */
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
  /** Simulated seconds between the dial and the answer, or the network's refusal. */
  ring: readonly [number, number];
  /** Simulated seconds of conversation; without it nobody answers. */
  talk?: readonly [number, number];
  endReason: EndReason;
  /** What SIP says of the end. Other media do not tell: there an unanswered call dies at its joinTimeout. */
  termination: SipTermination;
  /** Stays in this state until the admin door moves it on. */
  hold?: "ringing" | "talking";
  /** Who is at the other end, and so what is said. */
  speaks?: "person" | "machine";
  /** The create answers 400 and there is no call. */
  refused?: boolean;
  /** Real seconds, whatever the speed, between the acceptance of the call and the answer to the create. */
  answersAfterSeconds?: number;
}

const never = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] as const;
const ringing = [3, 8] as const;
const usual = { ring: ringing, endReason: "agent_hangup", termination: "SIP_TERMINATION_NORMAL" } as const;

/** What happens is chosen by the last four digits of the number that is dialled. */
export const NUMBERS = {
  "0000": {
    ...usual,
    what: "answers, talks about 40 s, the agent hangs up; so does every number not listed",
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
  "0005": { ...usual, what: "drops in mid-call", talk: [10, 20], endReason: "connection_error" },
  "0006": { ...usual, what: "rejected by the provider: the create answers 400", refused: true },
  "0007": { ...usual, what: "the create answers only after 3 real seconds", talk: [36, 44], answersAfterSeconds: 3 },
  "0008": { ...usual, what: "talks until maxDuration ends the call", talk: never, endReason: "timeout" },
  "0009": { ...usual, what: "answers and hangs up at once: zero duration", talk: [0, 0], endReason: "hangup" },
  "0010": { ...usual, what: "answers, talks about 40 s, the callee hangs up", talk: [36, 44], endReason: "hangup" },
  "0011": { ...usual, what: "the provider fails in mid-call", talk: [10, 20], endReason: "system_error" },
  "0012": { what: "declined", ring: [2, 6], endReason: "unjoined", termination: "SIP_TERMINATION_REJECTED" },
  "0013": {
    what: "switched off or out of reach",
    ring: [2, 6],
    endReason: "unjoined",
    termination: "SIP_TERMINATION_DESTINATION_UNAVAILABLE",
  },
  "0014": { ...usual, what: "rings until told, joinTimeout or not", talk: [36, 44], hold: "ringing" },
  "0015": { ...usual, what: "answers and talks until told, maxDuration or not", talk: never, hold: "talking" },
} as const satisfies Record<string, Behaviour>;

export type Ending = keyof typeof NUMBERS;

/** A client that opens the joinUrl itself. */
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
  // A SIP URI has the number before its "@"; plivo may name several numbers, joined by "<".
  return to?.split("@")[0]?.split("<")[0];
}
