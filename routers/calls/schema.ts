import { z } from "zod";
import { boundedRecord } from "../core/bounds.ts";
import { examples, FreeNumber, Id, Metadata, Timestamp, TimestampInput } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { CalleeField } from "../core/sip-address.ts";
import { legCauses } from "../ports/carriers.ts";
import { wordsOf } from "./list/search-terms.ts";

export const statuses = ["queued", "ringing", "active", "ended", "failed", "unknown"] as const;
export const outcomes = [
  "completed",
  "no_answer",
  "busy",
  "rejected",
  "voicemail",
  "invalid_number",
  "failed",
  "cancelled",
] as const;

const Address = CalleeField().meta({ redact: "personal", examples: ["+14155550100"] });

const VariableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "Names are letters, digits and `_`.");

const Variables = boundedRecord(
  VariableName,
  z.union([z.string().max(4000), FreeNumber, z.boolean()]),
  100,
  "variables",
).meta({
  description: "Values for the variables that the agent declares, or that its prompt names.",
  redact: "personal",
  examples: [{ name: "Ada" }],
});

const MaxDuration = z
  .int()
  .min(10)
  .max(14_400)
  .meta({ examples: [600] });

const Medium = z
  .discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("phone"),
      to: Address.meta({ redact: "personal", examples: ["+14155550100"] }),
      from: Address.optional().meta({
        description: "The client's own default, if left out.",
        redact: "personal",
        examples: ["+14155550199"],
      }),
      carrier: z
        .enum(["sip", "twilio", "telnyx", "plivo"])
        .optional()
        .meta({ description: "The client's own default, else `sip`.", examples: ["sip"] }),
    }),
    z.strictObject({ type: z.literal("web") }),
  ])
  .meta({
    description: "`phone`: the number is dialled. `web`: somebody joins by `joinUrl`.",
    examples: [{ type: "phone", to: "+14155550100", from: "+14155550199", carrier: "sip" }],
  });

export const CreateCall = z.strictObject({
  agentId: Id("agent", examples.agent),
  medium: Medium,
  variables: Variables.default({}),
  metadata: Metadata.meta({ redact: "personal" }).default({}),
  agentVersion: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .meta({ description: "A version that was live once; the present one, if left out.", examples: [1] }),
  // Without an example, so that the example of a call is one that can be placed.
  voiceId: Id("voice", examples.voice)
    .optional()
    .meta({ description: "Instead of the agent's own, for this call.", examples: [] }),
  firstSpeaker: z
    .enum(["agent", "user"])
    .optional()
    .meta({ description: "The agent's own setting, if left out.", examples: ["agent"] }),
  greeting: z
    .string()
    .min(1)
    .max(2000)
    .optional()
    .meta({ description: "The agent's own, if left out.", redact: "personal", examples: ["Good morning, Ada!"] }),
  maxDurationSeconds: MaxDuration.optional().meta({
    description: "The agent's own limit, if left out.",
    examples: [600],
  }),
  joinTimeoutSeconds: z
    .int()
    .min(5)
    .max(300)
    .optional()
    .meta({ description: "How long it may ring; the agent's own limit, if left out.", examples: [30] }),
  recordingEnabled: z
    .boolean()
    .optional()
    .meta({ description: "The agent's own setting, if left out.", examples: [true] }),
});
export type CreateCall = z.output<typeof CreateCall>;

export const CallId = z.strictObject({ id: Id("call", examples.call) });

export const HangUp = z.strictObject({
  id: Id("call", examples.call),
  whenJoined: z
    .boolean()
    .default(false)
    .meta({
      description: "While it rings, a call cannot be ended: with this, it is as soon as somebody answers.",
      examples: [true],
    }),
});
export type HangUp = z.output<typeof HangUp>;

const Text = z.string().max(320);
const Seconds = z
  .int()
  .min(0)
  .max(86_400)
  .meta({ examples: [60] });

/** What a list of calls may be narrowed to. All that is given must hold. */
const filters = {
  status: z
    .enum(statuses)
    .optional()
    .meta({ description: "Those that stand thus at present.", examples: ["ended"] }),
  outcome: z
    .enum(outcomes)
    .optional()
    .meta({ description: "Those that went thus; provisional until `outcomeFinal`.", examples: ["completed"] }),
  agentId: Id("agent", examples.agent)
    .optional()
    .meta({ description: "Those of this agent, also of one that was deleted since." }),
  direction: z
    .enum(["outbound", "inbound", "web"])
    .optional()
    .meta({ description: "Who began it; `web`: somebody joined by `joinUrl`.", examples: ["outbound"] }),
  number: Text.optional().meta({ description: "Either end of the line; E.164.", examples: ["+14155550100"] }),
  to: Text.optional().meta({
    description: "Whom it was to reach: a number, or a SIP address.",
    examples: ["+14155550100"],
  }),
  from: Text.optional().meta({ description: "Who showed as calling.", examples: ["+14155550199"] }),
  createdAfter: TimestampInput.optional().meta({
    description: "At this moment or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({ description: "Before this moment.", examples: [examples.instant] }),
  minDurationSeconds: Seconds.optional().meta({
    description: "From answer to end; calls that have not ended have none.",
    examples: [30],
  }),
  maxDurationSeconds: Seconds.optional().meta({
    description: "This long at most, from answer to end.",
    examples: [600],
  }),
  hasRecording: z
    .boolean()
    .optional()
    .meta({ description: "A recording that can be downloaded.", examples: [true] }),
  metadata: boundedRecord(z.string().max(40), z.string().max(500), 5)
    .optional()
    .meta({ description: "All of these pairs: written `metadata=key:value`, and repeated." }),
  search: z
    .string()
    .max(200)
    .refine((text) => wordsOf(text).length > 0, "Give at least one word of two characters or more.")
    .refine((text) => wordsOf(text).length <= 8, "At most 8 words.")
    .optional()
    .meta({
      description: "Words of the transcript, whole ones; all must occur, in any order.",
      examples: ["refund thursday"],
    }),
};

export const ListCalls = z.strictObject({ ...PageInput, ...filters });
export type ListCalls = z.output<typeof ListCalls>;
export const ExportCalls = z.strictObject(filters);
export type CallFilters = z.output<typeof ExportCalls>;

const CostLine = z
  .object({
    kind: z.enum(["conversation", "telephone"]).meta({ examples: ["conversation"] }),
    seconds: z.int().meta({ description: "As billed, rounded up.", examples: [42] }),
    microsPerMinute: z.int().meta({ examples: [9000000] }),
    amountMicros: z.int().meta({ examples: [6300000] }),
    priceId: Id("price", examples.price).meta({ description: "The price in force when the credits were held." }),
  })
  .meta({ id: "CostLine" });

export const Call = z
  .object({
    id: Id("call", examples.call),
    agentId: Id("agent", examples.agent),
    agentVersion: z.int().meta({ examples: [1] }),
    direction: z.enum(["outbound", "inbound", "web"]).meta({ examples: ["outbound"] }),
    carrier: z.enum(["web", "sip", "twilio", "telnyx", "plivo"]).meta({ examples: ["sip"] }),
    to: z
      .string()
      .nullable()
      .meta({
        description:
          "What was called. Of a call that came in null where the voice provider does not say, and several numbers lead to the agent.",
        examples: ["+14155550100"],
      }),
    from: z
      .string()
      .nullable()
      .meta({ description: "Who called: E.164, or a SIP address.", examples: ["+14155550199"] }),
    fromState: z
      .enum(["known", "withheld", "unreadable"])
      .nullable()
      .meta({
        description:
          "Of a call that came in. `withheld`: the caller hides the number. `unreadable`: no number can be made of `fromRaw`. null: the line said nothing.",
        examples: [null],
      }),
    fromRaw: z
      .string()
      .nullable()
      .meta({ description: "Of a call that came in: the caller exactly as the line gave it.", examples: [null] }),
    toRaw: z
      .string()
      .nullable()
      .meta({ description: "Of a call that came in: what was called, exactly as the line gave it.", examples: [null] }),
    status: z.enum(statuses).meta({ examples: ["ringing"] }),
    outcome: z
      .enum(outcomes)
      .nullable()
      .meta({ description: "Provisional until `outcomeFinal`.", examples: [null] }),
    outcomeFinal: z.boolean(),
    failureReason: z.string().nullable(),
    endReason: z
      .string()
      .nullable()
      .meta({
        description:
          "`unjoined`, `hangup` (the person), `agent_hangup`, `timeout`, `connection_error`, `system_error`, or `other`: one that came up since.",
        examples: ["hangup"],
      }),
    providerEndReason: z
      .string()
      .nullable()
      .meta({ description: "The voice provider's own word for it, as received.", examples: ["hangup"] }),
    variables: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    metadata: z.record(z.string(), z.string()),
    maxDurationSeconds: z.int().meta({ examples: [600] }),
    joinTimeoutSeconds: z.int().meta({ examples: [30] }),
    recordingEnabled: z.boolean(),
    joinUrl: z.string().nullable().meta({ description: "Where somebody joins a web call." }),
    heldMicros: z
      .int()
      .nullable()
      .meta({ description: "Credits set aside while the call is not billed.", examples: [112350000] }),
    costMicros: z
      .int()
      .nullable()
      .meta({ description: "Millionths of a credit; null until billed.", examples: [null] }),
    costLines: z.array(CostLine).meta({ description: "What `costMicros` is the sum of; empty until billed." }),
    billedSeconds: z.int().nullable(),
    durationSeconds: z
      .int()
      .nullable()
      .meta({ description: "From answer to end; null until it has ended.", examples: [37] }),
    summary: z.string().nullable(),
    transcriptStatus: z.enum(["pending", "ready", "missing", "erased"]).meta({ examples: ["ready"] }),
    recordingStatus: z.enum(["none", "pending", "ready", "missing", "erased"]).meta({ examples: ["ready"] }),
    output: z
      .record(z.string(), z.unknown())
      .nullable()
      .meta({ description: "What the agent's output schema made of the conversation." }),
    outputStatus: z.enum(["none", "ready", "invalid"]).meta({ examples: ["none"] }),
    outputProblems: z.array(z.object({ path: z.string().meta({ examples: ["date"] }), message: z.string() })).meta({
      description: "Why it is `invalid`: what was left out of the output, or is missing from it.",
      examples: [[]],
    }),
    createdAt: Timestamp,
    joinedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    erasedAt: Timestamp.nullable().meta({ description: "What was said is gone, here and at the voice provider." }),
  })
  .meta({ id: "Call" });
export type Call = z.output<typeof Call>;
export const CallPage = pageOf(Call);

export const ListLegs = z.strictObject({ ...PageInput, id: Id("call", examples.call) });
export type ListLegs = z.output<typeof ListLegs>;

const Told = (example: string) =>
  z
    .string()
    .nullable()
    .meta({ examples: [example] });

export const CallLeg = z
  .object({
    id: Id("leg", examples.leg),
    callId: Id("call", examples.call),
    carrier: z.enum(["telnyx"]).meta({ examples: ["telnyx"] }),
    carrierLegId: z.string().meta({ description: "The carrier's own name of it.", examples: ["v3:9X2vxPDFY2RH"] }),
    carrierSessionId: Told("428c31b6-abf3-3bc1-b7f4-5013ef9657c1").meta({
      description: "What the legs of one conversation share.",
    }),
    direction: z
      .enum(["incoming", "outgoing"])
      .nullable()
      .meta({ examples: ["outgoing"] }),
    from: Told("+14155550199"),
    to: Told("+14155550100"),
    status: z.enum(["initiated", "answered", "ended"]).meta({ examples: ["ended"] }),
    cause: z
      .enum(legCauses)
      .nullable()
      .meta({ description: "Why it ended; the carrier's own words stand beside it.", examples: ["busy"] }),
    hangupCause: Told("user_busy"),
    hangupSource: Told("callee"),
    sipHangupCause: Told("486"),
    startedAt: Timestamp.nullable(),
    answeredAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    durationSeconds: z
      .int()
      .nullable()
      .meta({ description: "From answer to end; null until it has ended.", examples: [0] }),
    carrierCost: z
      .object({
        amount: z.string().meta({ description: "An exact decimal.", examples: ["0.0050"] }),
        currency: Told("USD"),
      })
      .nullable()
      .meta({ description: "What your own carrier account is charged for it; null where the platform's was used." }),
  })
  .meta({ id: "CallLeg" });
export type CallLeg = z.output<typeof CallLeg>;
export const LegPage = pageOf(CallLeg);

export const Transcript = z
  .object({
    callId: Id("call", examples.call),
    status: z.enum(["pending", "ready", "missing", "erased"]).meta({
      description: "`missing`: nothing was said, or the voice provider has not given it.",
      examples: ["ready"],
    }),
    text: z
      .string()
      .meta({ description: "The conversation as one text, a line a turn.", examples: ["agent: Hello!\nuser: Hi."] }),
    messages: z.array(
      z.object({
        index: z.int(),
        role: z.enum(["user", "agent", "tool_call", "tool_result", "other"]).meta({
          description: "`other`: a role of the voice provider's that came up since.",
          examples: ["user"],
        }),
        text: z.string(),
        toolName: z.string().nullable(),
        startSeconds: z.number().nullable(),
        endSeconds: z.number().nullable(),
      }),
    ),
  })
  .meta({ id: "Transcript" });
export type Transcript = z.output<typeof Transcript>;
