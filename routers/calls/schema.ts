import { isPossiblePhoneNumber } from "libphonenumber-js";
import { z } from "zod";
import { PageInput, pageOf } from "../page.ts";
import { examples, Id, Instant, Metadata } from "../words.ts";

const Phone = z
  .string()
  .regex(/^\+[1-9][0-9]{6,14}$/, "Write the number in E.164: a plus sign, country code and number, digits only.")
  .refine((text) => isPossiblePhoneNumber(text), "No such number can exist: check the country code and the length.")
  .meta({ redact: "personal", examples: ["+14155550100"] });

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

const Variables = z
  .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "Names are letters, digits and `_`."), z.string().max(4000))
  .meta({
    description: "Values for the `{{variables}}` of the agent's prompt.",
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
      to: Phone,
      from: Phone,
      carrier: z.enum(["sip", "twilio", "telnyx", "plivo"]).default("sip"),
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
  metadata: Metadata.default({}),
  maxDurationSeconds: MaxDuration.optional().meta({
    description: "The agent's own limit, if left out.",
    examples: [600],
  }),
});
export type CreateCall = z.output<typeof CreateCall>;

export const CallId = z.strictObject({ id: Id("call", examples.call) });

export const ListCalls = z.strictObject({
  ...PageInput,
  status: z
    .enum(statuses)
    .optional()
    .meta({ examples: ["ended"] }),
  outcome: z
    .enum(outcomes)
    .optional()
    .meta({ examples: ["completed"] }),
  agentId: Id("agent", examples.agent).optional(),
});
export type ListCalls = z.output<typeof ListCalls>;

export const Call = z
  .object({
    id: Id("call", examples.call),
    agentId: Id("agent", examples.agent),
    agentVersion: z.int().meta({ examples: [1] }),
    direction: z.enum(["outbound", "web"]),
    carrier: z.enum(["web", "sip", "twilio", "telnyx", "plivo"]).meta({ examples: ["sip"] }),
    to: z
      .string()
      .nullable()
      .meta({ examples: ["+14155550100"] }),
    from: z
      .string()
      .nullable()
      .meta({ examples: ["+14155550199"] }),
    status: z.enum(statuses).meta({ examples: ["ringing"] }),
    outcome: z
      .enum(outcomes)
      .nullable()
      .meta({ description: "Provisional until `outcomeFinal`.", examples: [null] }),
    outcomeFinal: z.boolean(),
    failureReason: z.string().nullable(),
    endReason: z.string().nullable(),
    variables: z.record(z.string(), z.string()),
    metadata: z.record(z.string(), z.string()),
    maxDurationSeconds: z.int().meta({ examples: [600] }),
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
    billedSeconds: z.int().nullable(),
    summary: z.string().nullable(),
    createdAt: Instant,
    joinedAt: Instant.nullable(),
    endedAt: Instant.nullable(),
  })
  .meta({ id: "Call" });
export type Call = z.output<typeof Call>;
export const CallPage = pageOf(Call);

export const Transcript = z
  .object({
    callId: Id("call", examples.call),
    text: z
      .string()
      .meta({ description: "The conversation as one text, a line a turn.", examples: ["agent: Hello!\nuser: Hi."] }),
    messages: z.array(
      z.object({
        index: z.int(),
        role: z.enum(["user", "agent", "tool_call", "tool_result"]),
        text: z.string(),
        toolName: z.string().nullable(),
        startSeconds: z.number().nullable(),
        endSeconds: z.number().nullable(),
      }),
    ),
  })
  .meta({ id: "Transcript" });
export type Transcript = z.output<typeof Transcript>;
