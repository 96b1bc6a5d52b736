import { uuidv7obj } from "uuidv7";

/** The prefix of each kind of id. An id is a TypeID: prefix, underscore, then a UUIDv7 as 26 characters of base32. */
export const prefixes = {
  client: "client",
  user: "user",
  membership: "mem",
  apiKey: "key",
  agent: "agent",
  call: "call",
  message: "msg",
  intent: "int",
  event: "evt",
  endpoint: "wh",
  delivery: "dlv",
  attempt: "att",
  ingress: "ing",
  transaction: "ltx",
  grant: "grant",
  audit: "aud",
  request: "req",
  dataKey: "dek",
  gaveUp: "gup",
  setApart: "sap",
  invitation: "inv",
  credential: "cred",
  providerAccount: "pacc",
  upload: "file",
  voice: "voice",
  knowledgeBase: "kb",
  knowledgeFile: "kbf",
  tool: "tool",
  sipRegistration: "sip",
  route: "route",
  number: "num",
  workflow: "wf",
  price: "price",
  replay: "rpl",
  leg: "leg",
} as const;

export type Kind = keyof typeof prefixes;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** A new id. Ids sort by creation time; within a millisecond, by a counter of this process. */
export function newId(kind: Kind): string {
  const { bytes } = uuidv7obj();
  // 128 bits in 26 characters: the first character carries 3 bits, the others 5 each.
  let out = "";
  let bits = 0;
  let held = 2;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    held += 8;
    while (held >= 5) {
      held -= 5;
      out += alphabet[(bits >>> held) & 31];
      bits &= (1 << held) - 1;
    }
  }
  return `${prefixes[kind]}_${out}`;
}

export const idPattern = (kind: Kind) => new RegExp(`^${prefixes[kind]}_[0-7][0-9a-hjkmnp-tv-z]{25}$`);

/** The lowest id that can be created at this time: the boundary of a list by time. */
export function idFloor(kind: Kind, at: Date): string {
  let milliseconds = Math.max(0, Math.min(at.getTime(), 2 ** 48 - 1));
  let time = "";
  for (let place = 0; place < 10; place += 1) {
    time = alphabet[milliseconds % 32] + time;
    milliseconds = Math.floor(milliseconds / 32);
  }
  return `${prefixes[kind]}_${time}${"0".repeat(16)}`;
}
