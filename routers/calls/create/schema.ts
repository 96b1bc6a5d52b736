import { z } from "zod";
import { boundedRecord } from "../../core/bounds.ts";
import { examples, FreeNumber, Id, Metadata } from "../../core/fields.ts";
import { CalleeField } from "../../core/sip-address.ts";

const Address = CalleeField().meta({ redact: "personal", examples: ["+14155550100"] });

const VariableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "Use letters, digits and `_`; start with a letter or `_`.");

const Variables = boundedRecord(
  VariableName,
  z.union([z.string().max(4000), FreeNumber, z.boolean()]),
  100,
  "variables",
).meta({
  description: "Values for the variables that the agent declares or its prompt names.",
  redact: "personal",
  examples: [{ name: "Ada" }],
});

const MaxDurationSeconds = z
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
        description: "Default: the client's default number.",
        redact: "personal",
        examples: ["+14155550199"],
      }),
      carrier: z
        .enum(["sip", "twilio", "telnyx", "plivo"])
        .optional()
        .meta({ description: "Default: the client's default carrier, else `sip`.", examples: ["sip"] }),
    }),
    z.strictObject({ type: z.literal("web") }),
  ])
  .meta({
    description: "`phone`: the number is dialled. `web`: a person joins at `joinUrl`.",
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
    .meta({ description: "A version that was live before. Default: the current version.", examples: [1] }),
  // No example, so that the generated example of a call can be placed as it is.
  voiceId: Id("voice", examples.voice)
    .optional()
    .meta({ description: "The voice of this call, instead of the agent's.", examples: [] }),
  firstSpeaker: z
    .enum(["agent", "user"])
    .optional()
    .meta({ description: "Who speaks first. Default: the agent's setting.", examples: ["agent"] }),
  greeting: z
    .string()
    .min(1)
    .max(2000)
    .optional()
    .meta({
      description: "The first message of the agent. Default: the agent's greeting.",
      redact: "personal",
      examples: ["Good morning, Ada!"],
    }),
  maxDurationSeconds: MaxDurationSeconds.optional().meta({
    description: "The longest conversation. Default: the agent's limit.",
    examples: [600],
  }),
  joinTimeoutSeconds: z
    .int()
    .min(5)
    .max(300)
    .optional()
    .meta({ description: "How long the call may ring. Default: the agent's limit.", examples: [30] }),
  recordingEnabled: z
    .boolean()
    .optional()
    .meta({ description: "Whether to record the call. Default: the agent's setting.", examples: [true] }),
});
export type CreateCall = z.output<typeof CreateCall>;
