import { z } from "zod";
import { boundedRecord, jsonObject } from "../core/bounds.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { LanguageField } from "../core/languages.ts";
import { createdFilter, metadataFilter, searchFilter } from "../core/list-filters.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { objectionsToHeaders, objectionToProviderUrl } from "../ports/addresses.ts";
import { PresignedUpload, PresignFiles } from "../uploads/schema.ts";
import { externalProviders } from "./definition.ts";
import { checkSettings } from "./settings.ts";

const voiceId = Id("voice", examples.voice);
const statuses = ["pending", "training", "active", "failed", "deleted"] as const;
const providers = ["ultravox", ...externalProviders] as const;

const Language = LanguageField().meta({
  description: "The language of the sample's speaker, as a BCP 47 tag.",
  examples: ["en-GB"],
});

const fields = {
  name: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .meta({ description: "A label for people.", examples: ["Ada"] }),
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
  .refine((ids) => new Set(ids).size === ids.length, "Give each file only once.")
  .meta({
    description:
      "Ids from `POST /voices/files/presign`. Several files must have one format. 30 to 60 seconds work best.",
    examples: [[examples.upload]],
  });

const vendor = {
  voiceId: z
    .string()
    .min(1)
    .max(200)
    .meta({ description: "The id of the voice at the vendor.", examples: ["21m00Tcm4TlvDq8ikWAM"] }),
  model: z
    .string()
    .min(1)
    .max(100)
    .meta({ examples: ["eleven_turbo_v2_5"] }),
  settings: jsonObject({ bytes: 8_000, depth: 8 }).meta({
    description: "Settings of the voice, by the vendor's names. See the guide.",
    examples: [{ speed: 1.1 }],
  }),
};

const genericFields = {
  url: z
    .string()
    .max(2048)
    .meta({
      description: "The URL that receives one POST request per sentence.",
      examples: ["https://tts.example.com/speak"],
    }),
  body: jsonObject({ bytes: 10_000, depth: 32 })
    .refine((body) => JSON.stringify(body).includes("{text}"), "Put `{text}` in a field of the body.")
    .meta({ description: "`{text}` is replaced by the text to speak.", examples: [{ text: "{text}" }] }),
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
    .meta({
      description: "Set it if the API's own header is wrong. `audio/l16` is raw audio.",
      examples: ["audio/l16"],
    }),
  jsonAudioFieldPath: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "The path of the audio in a JSON response.", examples: ["audio.data"] }),
  jsonByteEncoding: z
    .enum(["base64", "hex"])
    .optional()
    .meta({ examples: ["base64"] }),
};

/** The provider sends a JSON document and sets these headers itself. */
const setByProvider = (lower: string, name: string) =>
  lower === "content-type" || lower === "user-agent"
    ? `The voice provider sets the header ${name}. Leave it out.`
    : null;

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
      description: "Put keys here, in at most 20 headers. They are stored encrypted and never shown.",
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
    description: "`clone`: from your own samples, for credits. `external`: a voice of another vendor, by its id there.",
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
    .meta({
      description: "Delete it although agents use it. They then speak with the provider's default voice.",
      examples: [false],
    }),
});
export type RemoveVoice = z.output<typeof RemoveVoice>;

export const ListVoices = z.strictObject({
  ...PageInput,
  status: z
    .enum(["pending", "training", "active", "failed"])
    .optional()
    .meta({ description: "Only those with this status.", examples: ["active"] }),
  kind: z
    .enum(["clone", "external"])
    .optional()
    .meta({ description: "Only clones, or only voices of another vendor.", examples: ["clone"] }),
  provider: z
    .enum(providers)
    .optional()
    .meta({ description: "Only voices of this vendor. `ultravox` for clones.", examples: ["elevenlabs"] }),
  language: Language.optional().meta({ description: "Only this language tag.", examples: ["en"] }),
  ...searchFilter,
  ...createdFilter,
  ...metadataFilter,
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
      description: "The id at the voice provider. Required for `active`.",
      examples: ["3cb21a4e-7c40-4e2b-9c10-2f0d7a3b1c55"],
    }),
  reason: z
    .string()
    .min(1)
    .max(1000)
    .optional()
    .meta({
      description: "Why it failed, for people. Only for `failed`.",
      examples: ["The sample holds several speakers."],
    }),
});
export type UpdateVoiceStatus = z.output<typeof UpdateVoiceStatus>;
