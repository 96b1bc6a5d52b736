import { objectionsToHeaders, objectionToProviderUrl } from "../ports/addresses.ts";
import type { VoiceDefinition } from "../ports/ultravox.ts";
import type { CredentialProvider } from "../ports/vendors.ts";

/** A voice of another company as we keep it: in our words, and without any secret. */
export type ExternalVoice = {
  voiceId: string | null;
  model: string | null;
  settings: Record<string, unknown>;
  generic: GenericVoice | null;
};

/** A speech API of whatever company, asked as it is described here. */
export type GenericVoice = {
  url: string;
  body: Record<string, unknown>;
  responseSampleRate?: number | undefined;
  responseWordsPerMinute?: number | undefined;
  responseMimeType?: string | undefined;
  jsonAudioFieldPath?: string | undefined;
  jsonByteEncoding?: "base64" | "hex" | undefined;
};

export const externalProviders = [
  "elevenlabs",
  "cartesia",
  "lmnt",
  "google",
  "inworld",
  "respeecher",
  "generic",
] as const;
export type ExternalProvider = (typeof externalProviders)[number];
/** Companies that we can hold a key of. */
export type Vendor = Exclude<ExternalProvider, "generic"> & CredentialProvider;

/** As the provider takes it, spoken with the keys of its account (openapi.json: ultravox.v1.ExternalVoice). */
export function plainDefinition(provider: Vendor, { voiceId, model, settings }: ExternalVoice): VoiceDefinition {
  const named = { voiceId, ...(model === null ? {} : { model }) };
  if (provider === "elevenlabs") return { elevenLabs: { ...named, ...settings } };
  if (provider === "inworld") {
    return { inworld: { voiceId, ...(model === null ? {} : { modelId: model }), ...settings } };
  }
  if (provider !== "cartesia") return { [provider]: { ...named, ...settings } };
  return { cartesia: { ...named, ...(isEmpty(settings) ? {} : { generationConfig: settings }) } };
}

/** What speaks against asking such an API, as a sentence; null if nothing does. */
export const objectionToGeneric = ({ url }: GenericVoice, headers: Record<string, string>): string | null =>
  objectionToProviderUrl(url) ?? objectionsToHeaders(headers, () => null)[0]?.message ?? null;

export function genericDefinition(voice: GenericVoice, headers: Record<string, string>): VoiceDefinition {
  const { jsonByteEncoding: encoding, ...rest } = voice;
  const jsonByteEncoding = encoding && { jsonByteEncoding: `JSON_BYTE_ENCODING_${encoding.toUpperCase()}` };
  return { generic: { ...rest, ...jsonByteEncoding, headers } };
}

type Keyed = { apiKey: string; language: string };

/**
 * The same voice asked with a key of the client's own, in an account that others share: the keys of that account are
 * everybody's, so the client's travels in the voice's own headers. null: this company cannot be asked so.
 */
export function keyedDefinition(provider: Vendor, voice: ExternalVoice, keyed: Keyed): VoiceDefinition | null {
  if (provider === "elevenlabs") return elevenLabs(voice, keyed);
  if (provider === "cartesia") return cartesia(voice, keyed);
  if (provider === "lmnt") return lmnt(voice, keyed);
  return null;
}

const rate = 24_000;
/** Raw sound of 16 bits, as all three send it. */
const raw = { responseMimeType: "audio/l16", responseSampleRate: rate };

/** elevenlabs.io/docs/api-reference/text-to-speech/stream */
function elevenLabs({ voiceId, model, settings }: ExternalVoice, { apiKey }: Keyed): VoiceDefinition {
  const {
    optimizeStreamingLatency,
    maxSampleRate,
    pronunciationDictionaries,
    enableSsmlParsing: _,
    ...rest
  } = settings;
  const rates = [8000, 16_000, 22_050, rate].filter((each) => each <= Number(maxSampleRate ?? rate));
  const sampleRate = rates.at(-1) ?? 8000;
  const query = new URLSearchParams({ output_format: `pcm_${sampleRate}` });
  if (optimizeStreamingLatency !== undefined) query.set("optimize_streaming_latency", `${optimizeStreamingLatency}`);
  const locators = dictionaries(pronunciationDictionaries);
  return {
    generic: {
      url: `https://api.elevenlabs.io/v1/text-to-speech/${encodeURIComponent(voiceId ?? "")}/stream?${query}`,
      headers: { "xi-api-key": apiKey },
      body: {
        text: "{text}",
        ...(model === null ? {} : { model_id: model }),
        ...(isEmpty(rest) ? {} : { voice_settings: snakeCased(rest) }),
        ...(locators.length === 0 ? {} : { pronunciation_dictionary_locators: locators }),
      },
      ...raw,
      responseSampleRate: sampleRate,
    },
  };
}

function dictionaries(given: unknown): object[] {
  const list = Array.isArray(given) ? (given as { dictionaryId: string; versionId?: string }[]) : [];
  return list.map(({ dictionaryId, versionId }) => ({
    pronunciation_dictionary_id: dictionaryId,
    ...(versionId === undefined ? {} : { version_id: versionId }),
  }));
}

/** docs.cartesia.ai/api-reference/tts/bytes */
function cartesia({ voiceId, model, settings }: ExternalVoice, { apiKey, language }: Keyed): VoiceDefinition {
  const { pronunciationDictId, ...config } = settings;
  return {
    generic: {
      url: "https://api.cartesia.ai/tts/bytes",
      headers: { Authorization: `Bearer ${apiKey}`, "Cartesia-Version": "2025-04-16" },
      body: {
        model_id: model ?? "sonic-3",
        transcript: "{text}",
        voice: { mode: "id", id: voiceId },
        language: primary(language),
        output_format: { container: "raw", encoding: "pcm_s16le", sample_rate: rate },
        ...(isEmpty(config) ? {} : { generation_config: config }),
        ...(pronunciationDictId === undefined ? {} : { pronunciation_dict_id: pronunciationDictId }),
      },
      ...raw,
    },
  };
}

/** docs.lmnt.com/api/speech/generate; `lmnt-version` after docs.lmnt.com/api */
function lmnt({ voiceId, model, settings }: ExternalVoice, { apiKey, language }: Keyed): VoiceDefinition {
  return {
    generic: {
      url: "https://api.lmnt.com/v1/ai/speech/bytes",
      headers: { "X-API-Key": apiKey, "lmnt-version": "1.1" },
      body: {
        voice: voiceId,
        text: "{text}",
        language: primary(language),
        format: "pcm_s16le",
        sample_rate: rate,
        ...(model === null ? {} : { model }),
        ...settings,
      },
      ...raw,
    },
  };
}

/** The language alone, without its region: these two know no regions. */
const primary = (language: string) => language.split("-")[0]!.toLowerCase();
const isEmpty = (value: object) => Object.keys(value).length === 0;
const snakeCased = (settings: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
