import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { pageOf } from "../core/pagination.ts";

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
export const CallId = z.strictObject({ id: Id("call", examples.call) });

export const HangUp = z.strictObject({
  id: Id("call", examples.call),
  whenJoined: z
    .boolean()
    .default(false)
    .meta({
      description: "A ringing call cannot be ended. `true` ends it as soon as it is answered.",
      examples: [true],
    }),
});
export type HangUp = z.output<typeof HangUp>;
const CostLine = z
  .object({
    kind: z.enum(["conversation", "telephone"]).meta({ examples: ["conversation"] }),
    seconds: z.int().meta({ description: "The billed seconds, rounded up.", examples: [42] }),
    microsPerMinute: z.int().meta({ examples: [9000000] }),
    amountMicros: z.int().meta({ examples: [6300000] }),
    priceId: Id("price", examples.price).meta({ description: "The price that was valid when the credits were held." }),
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
          "The called number or SIP address. null for an inbound call if the voice provider does not report it and several numbers lead to the agent.",
        examples: ["+14155550100"],
      }),
    from: z
      .string()
      .nullable()
      .meta({ description: "The caller: a number in E.164, or a SIP address.", examples: ["+14155550199"] }),
    fromStatus: z
      .enum(["known", "withheld", "unreadable"])
      .nullable()
      .meta({
        description:
          "Inbound calls only. `withheld`: the caller hides the number. `unreadable`: `fromRaw` has no valid number. null: the carrier sent no caller.",
        examples: [null],
      }),
    fromRaw: z
      .string()
      .nullable()
      .meta({ description: "Inbound calls only: the caller exactly as the carrier sent it.", examples: [null] }),
    toRaw: z
      .string()
      .nullable()
      .meta({
        description: "Inbound calls only: the called address exactly as the carrier sent it.",
        examples: [null],
      }),
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
          "`unjoined`, `hangup` (by the person), `agent_hangup`, `timeout`, `connection_error`, `system_error`, or `other`: a reason that this API does not know yet.",
        examples: ["hangup"],
      }),
    providerEndReason: z
      .string()
      .nullable()
      .meta({ description: "The end reason exactly as the voice provider sent it.", examples: ["hangup"] }),
    variables: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    metadata: z.record(z.string(), z.string()),
    maxDurationSeconds: z.int().meta({ examples: [600] }),
    joinTimeoutSeconds: z.int().meta({ examples: [30] }),
    recordingEnabled: z.boolean(),
    joinUrl: z.string().nullable().meta({ description: "The URL at which a person joins a web call." }),
    heldMicros: z
      .int()
      .nullable()
      .meta({ description: "Credits held until the call is billed.", examples: [112350000] }),
    costMicros: z
      .int()
      .nullable()
      .meta({ description: "In millionths of a credit. null until billed.", examples: [null] }),
    costLines: z.array(CostLine).meta({ description: "The parts of `costMicros`. Empty until billed." }),
    billedSeconds: z.int().nullable(),
    durationSeconds: z
      .int()
      .nullable()
      .meta({ description: "From answer to end. null until the call has ended.", examples: [37] }),
    summary: z.string().nullable(),
    transcriptStatus: z.enum(["pending", "ready", "missing", "erased"]).meta({ examples: ["ready"] }),
    recordingStatus: z.enum(["none", "pending", "ready", "missing", "erased"]).meta({ examples: ["ready"] }),
    output: z
      .record(z.string(), z.unknown())
      .nullable()
      .meta({ description: "The data extracted by the agent's output schema." }),
    outputStatus: z.enum(["none", "ready", "invalid"]).meta({ examples: ["none"] }),
    outputProblems: z.array(z.object({ path: z.string().meta({ examples: ["date"] }), message: z.string() })).meta({
      description: "Why the output is `invalid`: fields that are missing, or were removed because they are not valid.",
      examples: [[]],
    }),
    createdAt: Timestamp,
    joinedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    erasedAt: Timestamp.nullable().meta({
      description: "When the content of the call was erased, here and at the voice provider.",
    }),
  })
  .meta({ id: "Call" });
export type Call = z.output<typeof Call>;
export const CallPage = pageOf(Call);
export const Transcript = z
  .object({
    callId: Id("call", examples.call),
    status: z.enum(["pending", "ready", "missing", "erased"]).meta({
      description: "`missing`: no words were spoken, or the voice provider has not sent the transcript.",
      examples: ["ready"],
    }),
    text: z.string().meta({
      description: "The conversation as one text, one line per turn.",
      examples: ["agent: Hello!\nuser: Hi."],
    }),
    messages: z.array(
      z.object({
        index: z.int(),
        role: z.enum(["user", "agent", "tool_call", "tool_result", "other"]).meta({
          description: "`other`: a role of the voice provider that this API does not know yet.",
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
