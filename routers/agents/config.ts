import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { examples, FreeNumber, Id } from "../core/fields.ts";
import { canonicalLanguage, LanguageField, readLanguage } from "../core/languages.ts";
import { CalleeField } from "../core/sip-address.ts";
import { isTemplate, variableName } from "../core/template-text.ts";
import { outputSchemaBytes } from "./output-schema.ts";

/** The config of an agent: everything but its name and metadata. Every version stores all of it. */

const Text = (max: number) => z.string().trim().min(1).max(max);

const toolName = z.string().regex(/^[A-Za-z0-9_-]{1,40}$/, "A name has 1 to 40 letters, digits, `_` or `-`.");

export const Variable = z.strictObject({
  name: z.string().regex(variableName, "A name has letters, digits and `_`, and does not begin with a digit."),
  type: z.enum(["string", "number", "boolean"]).default("string"),
  required: z.boolean().default(true),
  default: z
    .union([z.string().max(4000), FreeNumber, z.boolean()])
    .nullable()
    .default(null)
    .meta({ description: "The value of a call that gives none.", redact: "none" }),
  description: z.string().max(500).nullable().default(null),
});
export type Variable = z.output<typeof Variable>;

const UsedTool = z.strictObject({
  toolId: Id("tool", examples.tool),
  description: Text(1000)
    .nullable()
    .default(null)
    .meta({ description: "Given to the model instead of the tool's own description." }),
  parameterOverrides: jsonObject({ bytes: 8_000, depth: 10 }, z.string().min(1).max(100))
    .default({})
    .meta({ description: "Parameters with a fixed value. The model does not see them." }),
});

const InactivityMessage = z.strictObject({
  afterSeconds: z
    .int()
    .min(1)
    .max(600)
    .meta({ description: "Seconds of silence, counted from the previous message.", examples: [15] }),
  message: Text(500),
  // biome-ignore lint/suspicious/noThenProperty: the field's name in the API; no code awaits a message
  then: z.enum(["nothing", "hang_up_soft", "hang_up"]).default("nothing").meta({
    description: "`hang_up_soft`: ends the call unless the person speaks again.",
  }),
});

const TransferTarget = z.strictObject({
  name: toolName.meta({ description: "The model uses it as the tool `transfer_to_<name>`.", examples: ["sales"] }),
  description: Text(500).meta({
    description: "When to transfer to this target.",
    examples: ["Questions about prices."],
  }),
  to: z
    .string()
    .max(320)
    .meta({ redact: "personal", examples: ["+14155550100"] }),
  warm: z
    .boolean()
    .default(false)
    .meta({ description: "The agent first speaks to the person who answers there. Only in SIP calls." }),
});

const Voicemail = z.strictObject({
  behaviour: z.enum(["hang_up", "leave_message", "ignore"]).meta({
    description: "What the agent does when a machine answers. `ignore`: its prompt does not mention machines.",
    examples: ["hang_up"],
  }),
  message: Text(1000)
    .nullable()
    .default(null)
    .meta({ description: "Spoken word for word. null: the agent chooses the wording." }),
});

const Days = z.int().min(0).max(3650).nullable().default(null);
const Retention = z
  .strictObject({ transcriptDays: Days, recordingDays: Days })
  .meta({ description: "Days that transcripts and recordings of new calls are kept. null: without limit." });

const noVoicemail = { behaviour: "ignore", message: null } as const;
const keepWithoutLimit = { transcriptDays: null, recordingDays: null };

function unique<T>(name: string, of: (item: T) => unknown) {
  return (items: T[], check: z.core.$RefinementCtx<T[]>) => {
    for (const [index, item] of items.entries()) {
      if (items.findIndex((other) => of(other) === of(item)) === index) continue;
      const path = name ? [index, name] : [index];
      check.addIssue({ code: "custom", path, message: "This value is already in the list. Remove one.", input: items });
    }
  };
}

const transferTargets = <T extends z.ZodType<{ name: string }>>(target: T) =>
  z
    .array(target)
    .max(10)
    .superRefine(unique("name", ({ name }) => name.toLowerCase()))
    .meta({ examples: [[]] });

/** Every field of a version. The defaults also apply to older versions that lack a field. */
export const configFields = {
  systemPrompt: z
    .string()
    .min(1)
    .max(50_000)
    .meta({
      description: "May contain `{{variables}}`, which are filled in per call.",
      redact: "none",
      examples: ["You answer for Ada's bakery. You speak with {{name}}. Be brief."],
    }),
  model: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({ description: "null: the provider's default model.", examples: [null] }),
  voice: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({
      description:
        "The name of a voice of the provider. Do not combine it with `voiceId`. With neither, the provider's default voice speaks.",
      examples: ["Mark"],
    }),
  voiceId: Id("voice", examples.voice)
    .nullable()
    .meta({ description: "One of your own voices. Do not combine it with `voice`.", examples: [null] }),
  languageHint: z
    .string()
    .nullable()
    .meta({
      description:
        "The language spoken at first: BCP 47, or a `{{variable}}` with such a tag. null: the first of `languages`.",
      examples: ["en-GB"],
    }),
  languages: z.array(z.string().meta({ examples: ["en-GB"] })).meta({
    description:
      "BCP 47. The only languages that the agent speaks; it follows the person's choice. Empty: no restriction.",
    examples: [["en-GB", "de"]],
  }),
  temperature: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .meta({ examples: [0.3] }),
  firstSpeaker: z
    .enum(["agent", "user"])
    .meta({ description: "Who speaks first once the call is answered.", examples: ["agent"] }),
  greeting: z
    .string()
    .min(1)
    .max(2000)
    .nullable()
    .meta({ description: "The first sentence of the agent.", examples: ["Ada's bakery, good morning!"] }),
  recordingEnabled: z.boolean().meta({ examples: [true] }),
  maxDurationSeconds: z
    .int()
    .min(10)
    .max(14_400)
    .meta({ description: "The longest that a call may last.", examples: [600] }),
  joinTimeoutSeconds: z
    .int()
    .min(5)
    .max(300)
    .meta({ description: "The longest that a call may ring.", examples: [30] }),
  knowledgeBaseIds: z
    .array(Id("knowledgeBase", examples.knowledgeBase))
    .max(10)
    .superRefine(unique("", (id) => id))
    .meta({ description: "The knowledge bases that the agent can search.", examples: [[]] }),
  tools: z
    .array(UsedTool)
    .max(30)
    .superRefine(unique("toolId", ({ toolId }) => toolId))
    .meta({ examples: [[]] }),
  variables: z
    .array(Variable)
    .max(100)
    .superRefine(unique("name", ({ name }) => name))
    .meta({
      description:
        "The variables that a call can or must give. If you declare any, declare every `{{variable}}` in use. If you declare none, each one in use is a required string.",
      examples: [[]],
    }),
  inactivityMessages: z
    .array(InactivityMessage)
    .max(10)
    // biome-ignore lint/suspicious/noThenProperty: the field's name in the API; no code awaits a message
    .meta({ examples: [[{ afterSeconds: 20, message: "Are you still there?", then: "nothing" }]] }),
  timeExceededMessage: Text(1000)
    .nullable()
    .meta({ description: "Spoken when the call is about to reach its longest duration.", examples: [null] }),
  voicemail: Voicemail.meta({ examples: [noVoicemail] }),
  transferTargets: transferTargets(TransferTarget),
  hangUpEnabled: z.boolean().meta({ description: "Whether the agent can end the call.", examples: [true] }),
  retention: Retention.meta({ examples: [keepWithoutLimit] }),
  outputSchema: z
    .record(z.string().max(200), z.unknown())
    .meta({ json: { bytes: outputSchemaBytes, depth: 32 } })
    .nullable()
    .meta({
      description:
        "A JSON Schema (2020-12) of the object that is extracted from every call. `x-source` in a property names the source of its value.",
      examples: [{ type: "object", properties: { booked: { type: "boolean" } } }],
    }),
};

const addIssue = (message: string | undefined, text: string, check: z.core.$RefinementCtx) => {
  if (message !== undefined) check.addIssue({ code: "custom", message, input: text });
};

/** A language tag in its canonical form, or a text whose variables make one per call. */
const LanguageHint = z
  .string()
  .max(200, { abort: true, error: "Use at most 200 characters." })
  .superRefine((text, check) => addIssue(isTemplate(text) ? undefined : readLanguage(text).objection, text, check))
  .transform((text) => (isTemplate(text) ? text : canonicalLanguage(text)));

/**
 * The fields with stricter checks on input than on stored values. A value that was stored before a rule existed is still
 * shown and still used in calls.
 */
export const inputFields = {
  languageHint: LanguageHint.nullable().meta({
    description: configFields.languageHint.description,
    examples: ["en-GB"],
  }),
  languages: z
    .array(LanguageField())
    .max(10)
    .superRefine(unique("", (language) => language))
    .meta({ description: configFields.languages.description, examples: [["en-GB", "de"]] }),
  transferTargets: transferTargets(
    TransferTarget.extend({ to: CalleeField().meta({ redact: "personal", examples: ["+14155550100"] }) }),
  ),
};

/**
 * Our voices have our ids as their names at the provider, in an account that several clients may share. By its name, any
 * client could use another client's voice. `voiceId` is looked up among the client's own rows.
 */
export const namesOurVoice = (voice: string | null): boolean => voice !== null && /voice_[0-9a-z]{26}/i.test(voice);

export const AgentConfig = z.object({
  systemPrompt: configFields.systemPrompt,
  model: configFields.model.default(null),
  voice: configFields.voice.default(null),
  voiceId: configFields.voiceId.default(null),
  languageHint: configFields.languageHint.default(null),
  languages: configFields.languages.default([]),
  temperature: configFields.temperature.default(null),
  firstSpeaker: configFields.firstSpeaker.default("agent"),
  greeting: configFields.greeting.default(null),
  recordingEnabled: configFields.recordingEnabled.default(true),
  maxDurationSeconds: configFields.maxDurationSeconds.default(600),
  joinTimeoutSeconds: configFields.joinTimeoutSeconds.default(30),
  knowledgeBaseIds: configFields.knowledgeBaseIds.default([]),
  tools: configFields.tools.default([]),
  variables: configFields.variables.default([]),
  inactivityMessages: configFields.inactivityMessages.default([]),
  timeExceededMessage: configFields.timeExceededMessage.default(null),
  voicemail: configFields.voicemail.default(noVoicemail),
  transferTargets: configFields.transferTargets.default([]),
  hangUpEnabled: configFields.hangUpEnabled.default(false),
  retention: configFields.retention.default(keepWithoutLimit),
  outputSchema: configFields.outputSchema.default(null),
});
export type AgentConfig = z.output<typeof AgentConfig>;
