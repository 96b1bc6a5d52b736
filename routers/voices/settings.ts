import { z } from "zod";
import { validationDetails } from "../core/validation-details.ts";
import type { ExternalProvider } from "./definition.ts";

const between = (low: number, high: number) => z.number().min(low).max(high);

/** The settings of each vendor's voices, by the voice provider's names (openapi.json: ultravox.v1.…Voice). */
const settings = {
  elevenlabs: z.strictObject({
    speed: between(0.7, 1.2),
    stability: between(0, 1),
    similarityBoost: between(0, 1),
    style: between(0, 1),
    useSpeakerBoost: z.boolean(),
    optimizeStreamingLatency: z.int().min(0).max(4),
    maxSampleRate: z.int().min(8000).max(48_000),
    enableSsmlParsing: z.boolean(),
    pronunciationDictionaries: z
      .array(z.strictObject({ dictionaryId: z.string().min(1), versionId: z.string().min(1).optional() }))
      .max(3),
  }),
  cartesia: z.strictObject({
    volume: between(0.5, 2),
    speed: between(0.6, 1.5),
    emotion: z.string().max(50),
    pronunciationDictId: z.string().max(100),
  }),
  lmnt: z.strictObject({ speed: between(0.25, 2), conversational: z.boolean() }),
  google: z.strictObject({ speakingRate: between(0.25, 2) }),
  inworld: z.strictObject({
    speakingRate: between(0.5, 1.5),
    temperature: between(0, 2),
    applyTextNormalization: z.boolean(),
  }),
  respeecher: z.strictObject({
    seed: z.int(),
    temperature: z.number().min(0),
    topK: z.int().refine((value) => value === -1 || value > 0, "Use -1, or a number above 0."),
    topP: z.number().gt(0).max(1),
    minP: between(0, 1),
    presencePenalty: between(0, 2),
    repetitionPenalty: between(1, 2),
    frequencyPenalty: between(0, 2),
  }),
  generic: z.strictObject({}),
} as const satisfies Record<ExternalProvider, z.ZodObject>;

type VoiceSource = {
  provider: ExternalProvider;
  voiceId?: string | undefined;
  model?: string | undefined;
  settings: Record<string, unknown>;
  generic?: object | undefined;
};

/** What belongs together: `generic` describes itself, every other company's voice has an id there and settings. */
export function checkSettings(given: VoiceSource, check: z.RefinementCtx): void {
  const { provider } = given;
  const isGeneric = provider === "generic";
  const addIssue = (path: (string | number)[], message: string) => check.addIssue({ code: "custom", path, message });
  if (isGeneric && !given.generic) addIssue(["generic"], "Describe the generic voice here.");
  if (!isGeneric && given.generic)
    addIssue(["generic"], `Only the provider generic has this, not ${provider}. Leave it out.`);
  if (!isGeneric && given.voiceId === undefined) addIssue(["voiceId"], `Give the id of the voice at ${provider}.`);
  if (isGeneric && given.voiceId !== undefined) addIssue(["voiceId"], "A generic voice has no id. Put it in the body.");
  if ((isGeneric || provider === "google") && given.model !== undefined)
    addIssue(["model"], `The provider ${provider} has no model. Leave it out.`);
  const read = settings[provider].partial().safeParse(given.settings);
  for (const { path, message } of validationDetails(read.error?.issues ?? []))
    addIssue(["settings", ...(path === "" ? [] : path.split("."))], message);
}
