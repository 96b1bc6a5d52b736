import { z } from "zod";
import { idPattern, type Kind } from "../../db/ids.ts";
import { boundedRecord } from "./bounds.ts";

/** One of our ids. A malformed id is invalid input (400); a well-formed one of another client is not found (404). */
export const Id = (kind: Kind, example: string) =>
  z
    .string()
    .regex(idPattern(kind), `Write an id such as ${example}.`)
    .meta({ examples: [example] });

export const examples = {
  client: "client_01m82knxfbfrssk0x3en012rbf",
  user: "user_01m82knxfbfrssk0x3en012rbf",
  apiKey: "key_01m82knxfbfrssk0x3en012rbf",
  agent: "agent_01m82knxfbfrssk0x3en012rbf",
  call: "call_01m82knxfbfrssk0x3en012rbf",
  leg: "leg_01m82knxfbfrssk0x3en012rbf",
  ingress: "ing_01m82knxfbfrssk0x3en012rbf",
  endpoint: "wh_01m82knxfbfrssk0x3en012rbf",
  delivery: "dlv_01m82knxfbfrssk0x3en012rbf",
  event: "evt_01m82knxfbfrssk0x3en012rbf",
  transaction: "ltx_01m82knxfbfrssk0x3en012rbf",
  voice: "voice_01m82knxfbfrssk0x3en012rbf",
  upload: "file_01m82knxfbfrssk0x3en012rbf",
  knowledgeBase: "kb_01m82knxfbfrssk0x3en012rbf",
  knowledgeFile: "kbf_01m82knxfbfrssk0x3en012rbf",
  tool: "tool_01m82knxfbfrssk0x3en012rbf",
  credential: "cred_01m82knxfbfrssk0x3en012rbf",
  registration: "sip_01m82knxfbfrssk0x3en012rbf",
  route: "route_01m82knxfbfrssk0x3en012rbf",
  number: "num_01m82knxfbfrssk0x3en012rbf",
  member: "mem_01m82knxfbfrssk0x3en012rbf",
  invitation: "inv_01m82knxfbfrssk0x3en012rbf",
  workflow: "wf_01m82knxfbfrssk0x3en012rbf",
  price: "price_01m82knxfbfrssk0x3en012rbf",
  replay: "rpl_01m82knxfbfrssk0x3en012rbf",
  instant: "2026-11-22T10:15:30.000Z",
} as const;

const isInCalendar = (text: string) => {
  const year = new Date(text).getUTCFullYear();
  return year >= 1 && year <= 9999;
};

/** A time in an input, with an offset or `Z`. The database has no year 0. */
export const TimestampInput = z.iso
  .datetime({ offset: true, abort: true, error: "Write a time as ISO 8601, such as 2026-11-22T10:15:30Z." })
  .refine(isInCalendar, "Write a time in the years 1 to 9999, in UTC.")
  .meta({ examples: [examples.instant] });

const outOfRange = "Write a number between -9007199254740991 and 9007199254740991, or a string.";

/** Any number of the caller, in the range in which every integer is exact. */
export const FreeNumber = z.number().min(Number.MIN_SAFE_INTEGER, outOfRange).max(Number.MAX_SAFE_INTEGER, outOfRange);

/** ISO 8601, UTC, milliseconds. */
export const Timestamp = z.iso.datetime({ precision: 3 }).meta({ examples: [examples.instant] });

/** A text is in this form already: see `hotRead`. */
export const toIso = (at: Date | string) => (typeof at === "string" ? at : at.toISOString());
export const toIsoOrNull = (at: Date | string | null) => at && toIso(at);

/** Key-value pairs of the integrator. They are stored, returned and filtered by, but never interpreted. */
export const Metadata = boundedRecord(
  z.string().regex(/^[A-Za-z0-9_.-]{1,40}$/, "A key has 1 to 40 letters, digits, `_`, `.` or `-`."),
  z.string().max(500),
  50,
).meta({ description: "Your own key-value pairs. They are returned unchanged.", examples: [{ orderId: "10248" }] });
