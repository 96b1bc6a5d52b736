import { z } from "zod";
import type { ExternalProvider } from "./definition.ts";

const of = (low: number, high: number) => z.number().min(low).max(high);

/** What may be set of each company's voices, as the voice provider names it (openapi.json: ultravox.v1.…Voice). */
const settings = {
  elevenlabs: z.strictObject({
    speed: of(0.7, 1.2),
    stability: of(0, 1),
    similarityBoost: of(0, 1),
    style: of(0, 1),
    useSpeakerBoost: z.boolean(),
    optimizeStreamingLatency: z.int().min(0).max(4),
    maxSampleRate: z.int().min(8000).max(48_000),
    enableSsmlParsing: z.boolean(),
    pronunciationDictionaries: z
      .array(z.strictObject({ dictionaryId: z.string().min(1), versionId: z.string().min(1).optional() }))
      .max(3),
  }),
  cartesia: z.strictObject({
    volume: of(0.5, 2),
    speed: of(0.6, 1.5),
    emotion: z.string().max(50),
    pronunciationDictId: z.string().max(100),
  }),
  lmnt: z.strictObject({ speed: of(0.25, 2), conversational: z.boolean() }),
  google: z.strictObject({ speakingRate: of(0.25, 2) }),
  inworld: z.strictObject({ speakingRate: of(0.5, 1.5), temperature: of(0, 2), applyTextNormalization: z.boolean() }),
  respeecher: z.strictObject({
    seed: z.int(),
    temperature: z.number().min(0),
    topK: z.int().refine((value) => value === -1 || value > 0, "-1, or more than 0."),
    topP: z.number().gt(0).max(1),
    minP: of(0, 1),
    presencePenalty: of(0, 2),
    repetitionPenalty: of(1, 2),
    frequencyPenalty: of(0, 2),
  }),
  generic: z.strictObject({}),
} as const satisfies Record<ExternalProvider, z.ZodObject>;

type Given = {
  provider: ExternalProvider;
  voiceId?: string | undefined;
  model?: string | undefined;
  settings: Record<string, unknown>;
  generic?: object | undefined;
};

/** What belongs together: `generic` describes itself, every other company's voice has an id there and settings. */
export function checkSettings(given: Given, check: z.RefinementCtx): void {
  const { provider } = given;
  const isGeneric = provider === "generic";
  const say = (path: (string | number)[], message: string) => check.addIssue({ code: "custom", path, message });
  if (isGeneric && !given.generic) say(["generic"], "A generic voice is described here.");
  if (!isGeneric && given.generic) say(["generic"], `Only for the provider generic, not for ${provider}.`);
  if (!isGeneric && given.voiceId === undefined) say(["voiceId"], `Name the voice by its id at ${provider}.`);
  if (isGeneric && given.voiceId !== undefined) say(["voiceId"], "A generic voice has none: put it into its body.");
  if ((isGeneric || provider === "google") && given.model !== undefined) say(["model"], `Not for ${provider}.`);
  const read = settings[provider].partial().safeParse(given.settings);
  for (const issue of read.error?.issues ?? [])
    say(["settings", ...(issue.path as (string | number)[])], issue.message);
}
