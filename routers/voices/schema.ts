import { z } from "zod";
import { boundedRecord, jsonObject } from "../core/bounds.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { LanguageField } from "../core/languages.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { objectionsToHeaders, objectionToProviderUrl } from "../ports/addresses.ts";
import { PresignedUpload, PresignFiles } from "../uploads/schema.ts";
import { externalProviders } from "./definition.ts";
import { checkSettings } from "./settings.ts";

const voiceId = Id("voice", examples.voice);
const statuses = ["pending", "training", "active", "failed", "deleted"] as const;
const providers = ["ultravox", ...externalProviders] as const;

const Language = LanguageField().meta({ description: "BCP 47, of the sample's speaker.", examples: ["en-GB"] });

const fields = {
  name: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .meta({ description: "For people.", examples: ["Ada"] }),
  description: z
    .string()
    .trim()
    .max(240)
    .nullable()
    .meta({ examples: ["Calm and friendly"] }),
  language: Language,
  metadata: Metadata,
};

const fileIds = z
  .array(Id("upload", examples.upload))
  .min(1)
  .max(5)
  .refine((ids) => new Set(ids).size === ids.length, "Name each file once.")
  .meta({
    description: "From `POST /voices/files/presign`. Several must be of one format; 30 to 60 seconds are best.",
    examples: [[examples.upload]],
  });

const vendor = {
  voiceId: z
    .string()
    .min(1)
    .max(200)
    .meta({ description: "Of the voice, at that company.", examples: ["21m00Tcm4TlvDq8ikWAM"] }),
  model: z
    .string()
    .min(1)
    .max(100)
    .meta({ examples: ["eleven_turbo_v2_5"] }),
  settings: jsonObject({ bytes: 8_000, depth: 8 }).meta({
    description: "How it speaks, by the names of that company; see the guide.",
    examples: [{ speed: 1.1 }],
  }),
};

const genericFields = {
  url: z
    .string()
    .max(2048)
    .meta({ description: "Requested by POST, once per sentence.", examples: ["https://tts.example.com/speak"] }),
  body: jsonObject({ bytes: 10_000, depth: 32 })
    .refine((body) => JSON.stringify(body).includes("{text}"), "Some field of the body must hold `{text}`.")
    .meta({ description: "`{text}` stands for what is to be said.", examples: [{ text: "{text}" }] }),
  responseSampleRate: z
    .int()
    .min(8000)
    .max(48_000)
    .optional()
    .meta({ description: "In Hz.", examples: [24_000] }),
  responseWordsPerMinute: z
    .int()
    .min(50)
    .max(400)
    .optional()
    .meta({ examples: [150] }),
  responseMimeType: z
    .string()
    .max(100)
    .regex(/^[A-Za-z0-9!#$&^_.+-]+\/[A-Za-z0-9!#$&^_.+-]+$/, "Write a media type such as audio/l16.")
    .optional()
    .meta({ description: "Where the API's own header is wrong; `audio/l16` is raw sound.", examples: ["audio/l16"] }),
  jsonAudioFieldPath: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "Of a JSON answer: where the sound stands.", examples: ["audio.data"] }),
  jsonByteEncoding: z
    .enum(["base64", "hex"])
    .optional()
    .meta({ examples: ["base64"] }),
};

/** The provider sends a JSON document: what it is, and how long, is for the provider to say. */
const setByProvider = (lower: string, name: string) =>
  lower === "content-type" || lower === "user-agent" ? `The header ${name} is set by the voice provider.` : null;

const Generic = z.strictObject({
  ...genericFields,
  url: genericFields.url.superRefine((url, check) => {
    const message = objectionToProviderUrl(url);
    if (message) check.addIssue({ code: "custom", message, input: url });
  }),
  headers: boundedRecord(
    z.string().max(100, { abort: true }),
    z.string().max(2000, { error: "A value has at most 2000 characters.", abort: true }),
    20,
    "headers",
  )
    .superRefine((headers, check) => {
      for (const { name, message } of objectionsToHeaders(headers, setByProvider)) {
        check.addIssue({ code: "custom", path: name === null ? [] : [name], message, input: headers });
      }
    })
    .default({})
    .meta({
      description: "Keys belong here, in at most 20 headers: they are kept sealed and never shown.",
      redact: "secret",
      examples: [{ Authorization: "Bearer your-key" }],
    }),
});

const Clone = z.strictObject({ type: z.literal("clone"), fileIds });
const External = z
  .strictObject({
    type: z.literal("external"),
    provider: z.enum(externalProviders).meta({ examples: ["elevenlabs"] }),
    voiceId: vendor.voiceId.optional(),
    model: vendor.model.optional(),
    settings: vendor.settings.default({}),
    generic: Generic.optional(),
  })
  .superRefine(checkSettings);

export const CreateVoice = z.strictObject({
  name: fields.name,
  description: fields.description.default(null),
  language: fields.language.default("en"),
  metadata: fields.metadata.default({}),
  source: z.discriminatedUnion("type", [Clone, External]).meta({
    description: "`clone`: from your own samples, for credits. `external`: another company's voice, by its id there.",
    examples: [{ type: "clone", fileIds: [examples.upload] }],
  }),
});
export type CreateVoice = z.output<typeof CreateVoice>;

export const UpdateVoice = z.strictObject({ id: voiceId, ...z.object(fields).partial().shape });
export type UpdateVoice = z.output<typeof UpdateVoice>;

export const VoiceId = z.strictObject({ id: voiceId });

export const RemoveVoice = z.strictObject({
  id: voiceId,
  force: z
    .boolean()
    .default(false)
    .meta({ description: "Also when agents speak with it.", examples: [false] }),
});
export type RemoveVoice = z.output<typeof RemoveVoice>;

export const ListVoices = z.strictObject({
  ...PageInput,
  status: z
    .enum(["pending", "training", "active", "failed"])
    .optional()
    .meta({ description: "Those that stand thus at present.", examples: ["active"] }),
  kind: z
    .enum(["clone", "external"])
    .optional()
    .meta({ description: "Made from samples, or another company's.", examples: ["clone"] }),
  provider: z
    .enum(providers)
    .optional()
    .meta({ description: "Whose voices they are; `ultravox` for clones.", examples: ["elevenlabs"] }),
  language: Language.optional().meta({ description: "Exactly this one.", examples: ["en"] }),
  search: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .optional()
    .meta({ description: "A part of the name; capitals do not matter.", examples: ["ada"] }),
});
export type ListVoices = z.output<typeof ListVoices>;

export const Voice = z
  .object({
    id: voiceId,
    ...fields,
    language: z.string().meta({ description: fields.language.description, examples: ["en-GB"] }),
    kind: z.enum(["clone", "external"]).meta({ examples: ["clone"] }),
    provider: z.enum(providers).meta({ description: "`ultravox` for a clone.", examples: ["ultravox"] }),
    source: z.discriminatedUnion("type", [
      z.object({ type: z.literal("clone"), fileIds: z.array(z.string()).meta({ examples: [[examples.upload]] }) }),
      z.object({
        type: z.literal("external"),
        voiceId: vendor.voiceId.nullable(),
        model: vendor.model.nullable(),
        settings: vendor.settings,
        generic: z.object({ ...genericFields, responseMimeType: z.string().optional() }).nullable(),
      }),
    ]),
    status: z.enum(statuses).meta({ description: "Calls can use it once it is `active`.", examples: ["active"] }),
    statusReason: z
      .string()
      .nullable()
      .meta({ description: "Why it failed.", examples: [null] }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Voice" });
export type Voice = z.output<typeof Voice>;
export const VoicePage = pageOf(Voice);

export const PresignSamples = z.strictObject({ files: PresignFiles("voice_sample") });
export const PresignedSamples = z.object({ files: z.array(PresignedUpload) });

export const UpdateVoiceStatus = z.strictObject({
  id: voiceId,
  status: z.enum(["training", "active", "failed"]).meta({ examples: ["active"] }),
  providerVoiceId: z
    .string()
    .min(1)
    .max(100)
    .optional()
    .meta({
      description: "Of `active`: its id at the voice provider.",
      examples: ["3cb21a4e-7c40-4e2b-9c10-2f0d7a3b1c55"],
    }),
  reason: z
    .string()
    .min(1)
    .max(1000)
    .optional()
    .meta({ description: "Of `failed`: why, for people.", examples: ["The sample holds several speakers."] }),
});
export type UpdateVoiceStatus = z.output<typeof UpdateVoiceStatus>;
