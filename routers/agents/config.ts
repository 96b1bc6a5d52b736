import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { examples, FreeNumber, Id } from "../core/fields.ts";
import { canonicalLanguage, LanguageField, readLanguage } from "../core/languages.ts";
import { CalleeField } from "../core/sip-address.ts";
import { isTemplate, variableName } from "../core/template-text.ts";
import { outputSchemaBytes } from "./output-schema.ts";

/** What an agent is, besides its name: kept whole in every version. */

const Text = (max: number) => z.string().trim().min(1).max(max);

const toolName = z.string().regex(/^[A-Za-z0-9_-]{1,40}$/, "A name has 1 to 40 letters, digits, `_` or `-`.");

export const Variable = z.strictObject({
  name: z.string().regex(variableName, "A name has letters, digits and `_`, and begins with no digit."),
  type: z.enum(["string", "number", "boolean"]).default("string"),
  required: z.boolean().default(true),
  default: z
    .union([z.string().max(4000), FreeNumber, z.boolean()])
    .nullable()
    .default(null)
    .meta({ description: "What a call has that gives none.", redact: "none" }),
  description: z.string().max(500).nullable().default(null),
});
export type Variable = z.output<typeof Variable>;

const UsedTool = z.strictObject({
  toolId: Id("tool", examples.tool),
  description: Text(1000)
    .nullable()
    .default(null)
    .meta({ description: "Told to the model instead of the tool's own." }),
  parameterOverrides: jsonObject({ bytes: 8_000, depth: 10 }, z.string().min(1).max(100))
    .default({})
    .meta({ description: "Parameters with a fixed value: the model does not see them." }),
});

const InactivityMessage = z.strictObject({
  afterSeconds: z
    .int()
    .min(1)
    .max(600)
    .meta({ description: "Of silence, counted from the message before.", examples: [15] }),
  message: Text(500),
  // biome-ignore lint/suspicious/noThenProperty: the word on the wire; nobody awaits a message
  then: z.enum(["nothing", "hang_up_soft", "hang_up"]).default("nothing").meta({
    description: "`hang_up_soft`: unless the person speaks after all.",
  }),
});

const TransferTarget = z.strictObject({
  name: toolName.meta({ description: "The model knows it as `transfer_to_<name>`.", examples: ["sales"] }),
  description: Text(500).meta({ description: "When to transfer there.", examples: ["Questions about prices."] }),
  to: z
    .string()
    .max(320)
    .meta({ redact: "personal", examples: ["+14155550100"] }),
  warm: z
    .boolean()
    .default(false)
    .meta({ description: "The agent speaks to the person there first. Only in calls by SIP." }),
});

const Voicemail = z.strictObject({
  behaviour: z.enum(["hang_up", "leave_message", "ignore"]).meta({
    description: "What the agent does when a machine answers. `ignore`: it is told nothing about it.",
    examples: ["hang_up"],
  }),
  message: Text(1000)
    .nullable()
    .default(null)
    .meta({ description: "Said word for word; null: the agent finds its own." }),
});

const Days = z.int().min(0).max(3650).nullable().default(null);
const Retention = z
  .strictObject({ transcriptDays: Days, recordingDays: Days })
  .meta({ description: "How long what a call leaves behind is kept; null: for ever. For calls from now on." });

const noVoicemail = { behaviour: "ignore", message: null } as const;
const forEver = { transcriptDays: null, recordingDays: null };

function unique<T>(name: string, of: (item: T) => unknown) {
  return (items: T[], check: z.core.$RefinementCtx<T[]>) => {
    for (const [index, item] of items.entries()) {
      if (items.findIndex((other) => of(other) === of(item)) === index) continue;
      const path = name ? [index, name] : [index];
      check.addIssue({ code: "custom", path, message: "This is in the list already.", input: items });
    }
  };
}

const transferTargets = <T extends z.ZodType<{ name: string }>>(target: T) =>
  z
    .array(target)
    .max(10)
    .superRefine(unique("name", ({ name }) => name.toLowerCase()))
    .meta({ examples: [[]] });

/** Every field of a version. Defaults also stand for what versions of earlier days do not have. */
export const configFields = {
  systemPrompt: z
    .string()
    .min(1)
    .max(50_000)
    .meta({
      description: "May hold `{{variables}}`, filled per call.",
      redact: "none",
      examples: ["You answer for Ada's bakery. You speak with {{name}}. Be brief."],
    }),
  model: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({ description: "null: the provider's own choice.", examples: [null] }),
  voice: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({
      description:
        "A voice of the provider, by its name. Not together with `voiceId`, which is for your own; with neither, its default.",
      examples: ["Mark"],
    }),
  voiceId: Id("voice", examples.voice)
    .nullable()
    .meta({ description: "A voice of your own. Not together with `voice`.", examples: [null] }),
  languageHint: z
    .string()
    .nullable()
    .meta({
      description:
        "BCP 47, or a `{{variable}}` that holds one. What is spoken at first; null: the first of `languages`.",
      examples: ["en-GB"],
    }),
  languages: z.array(z.string().meta({ examples: ["en-GB"] })).meta({
    description: "BCP 47. The only ones that the agent speaks; it follows the person. Empty: whatever comes.",
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
    .meta({ description: "What the agent opens with.", examples: ["Ada's bakery, good morning!"] }),
  recordingEnabled: z.boolean().meta({ examples: [true] }),
  maxDurationSeconds: z
    .int()
    .min(10)
    .max(14_400)
    .meta({ description: "A call ends at this length at the latest.", examples: [600] }),
  joinTimeoutSeconds: z
    .int()
    .min(5)
    .max(300)
    .meta({ description: "How long it may ring.", examples: [30] }),
  knowledgeBaseIds: z
    .array(Id("knowledgeBase", examples.knowledgeBase))
    .max(10)
    .superRefine(unique("", (id) => id))
    .meta({ description: "What the agent may look things up in.", examples: [[]] }),
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
        "What a call may, or must, be given. If there are any, every `{{variable}}` that is used must be among them; if there are none, every one that is used is a required text.",
      examples: [[]],
    }),
  inactivityMessages: z
    .array(InactivityMessage)
    .max(10)
    // biome-ignore lint/suspicious/noThenProperty: the word on the wire; nobody awaits a message
    .meta({ examples: [[{ afterSeconds: 20, message: "Are you still there?", then: "nothing" }]] }),
  timeExceededMessage: Text(1000)
    .nullable()
    .meta({ description: "Said when the call is about to end for its length.", examples: [null] }),
  voicemail: Voicemail.meta({ examples: [noVoicemail] }),
  transferTargets: transferTargets(TransferTarget),
  hangUpEnabled: z.boolean().meta({ description: "May the agent end the call by itself?", examples: [true] }),
  retention: Retention.meta({ examples: [forEver] }),
  outputSchema: z
    .record(z.string().max(200), z.unknown())
    .meta({ json: { bytes: outputSchemaBytes, depth: 32 } })
    .nullable()
    .meta({
      description:
        "A JSON Schema (2020-12) of the object that is drawn from every call. `x-source` in a property says where it comes from.",
      examples: [{ type: "object", properties: { booked: { type: "boolean" } } }],
    }),
};

const refuse = (message: string | undefined, text: string, check: z.core.$RefinementCtx) => {
  if (message !== undefined) check.addIssue({ code: "custom", message, input: text });
};

/** A language, in its canonical form, or a text whose variables make one in each call. */
const LanguageHint = z
  .string()
  .max(200, { abort: true, error: "At most 200 characters." })
  .superRefine((text, check) => refuse(isTemplate(text) ? undefined : readLanguage(text).objection, text, check))
  .transform((text) => (isTemplate(text) ? text : canonicalLanguage(text)));

/**
 * The fields that are looked at more closely when they are given than when they are read again: what was stored before a
 * rule came is still shown, and still answers calls.
 */
export const givenFields = {
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
 * The voices of all clients that share an account at the provider bear our ids there as their names: by its name one would
 * be anybody's. Our own are named by `voiceId`, which is looked up within the client's wall.
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
  retention: configFields.retention.default(forEver),
  outputSchema: configFields.outputSchema.default(null),
});
export type AgentConfig = z.output<typeof AgentConfig>;
