import { objectionsToHeaders, objectionToProviderUrl } from "../ports/addresses.ts";
import type { VoiceDefinition } from "../ports/ultravox.ts";
import { type VoiceVendor, voiceVendorNames, voiceVendors } from "../ports/voice-vendors.ts";

/** A stored external voice: another vendor's voice, without any secret. */
export type ExternalVoice = {
  voiceId: string | null;
  model: string | null;
  settings: Record<string, unknown>;
  generic: GenericVoice | null;
};

/** A speech API of any vendor, described by its request and response. */
export type GenericVoice = {
  url: string;
  body: Record<string, unknown>;
  responseSampleRate?: number | undefined;
  responseWordsPerMinute?: number | undefined;
  responseMimeType?: string | undefined;
  jsonAudioFieldPath?: string | undefined;
  jsonByteEncoding?: "base64" | "hex" | undefined;
};

export const externalProviders = [...voiceVendorNames, "generic"] as const;
export type ExternalProvider = (typeof externalProviders)[number];

/** The provider's definition of a voice that uses the keys of its account (openapi.json: ultravox.v1.ExternalVoice). */
export function plainDefinition(vendor: VoiceVendor, { voiceId, model, settings }: ExternalVoice): VoiceDefinition {
  const { upstreamName, modelField = "model", settingsField }: VendorRow = voiceVendors[vendor];
  const nested = settingsField && !isEmpty(settings) ? { [settingsField]: settings } : {};
  const modelPart = model === null ? {} : { [modelField]: model };
  return { [upstreamName]: { voiceId, ...modelPart, ...(settingsField ? nested : settings) } };
}

type VendorRow = { upstreamName: string; modelField?: string; settingsField?: string };

/** Why such an API cannot be used, as a sentence; null if it can. */
export const objectionToGeneric = ({ url }: GenericVoice, headers: Record<string, string>): string | null =>
  objectionToProviderUrl(url) ?? objectionsToHeaders(headers, () => null)[0]?.message ?? null;

export function genericDefinition(voice: GenericVoice, headers: Record<string, string>): VoiceDefinition {
  const { jsonByteEncoding: encoding, ...rest } = voice;
  const jsonByteEncoding = encoding && { jsonByteEncoding: `JSON_BYTE_ENCODING_${encoding.toUpperCase()}` };
  return { generic: { ...rest, ...jsonByteEncoding, headers } };
}

type Keyed = { apiKey: string; language: string };

/**
 * The same voice with the client's own key, for an account that several clients share. The keys of that account serve all
 * clients, so the client's key is sent in the headers of this voice. null: this vendor does not support that.
 */
export function keyedDefinition(vendor: VoiceVendor, voice: ExternalVoice, keyed: Keyed): VoiceDefinition | null {
  if (vendor === "elevenlabs") return elevenLabs(voice, keyed);
  if (vendor === "cartesia") return cartesia(voice, keyed);
  if (vendor === "lmnt") return lmnt(voice, keyed);
  return null;
}

const sampleRateHz = 24_000;
/** Raw 16-bit audio, which all three vendors send. */
const rawAudio = { responseMimeType: "audio/l16", responseSampleRate: sampleRateHz };

/** elevenlabs.io/docs/api-reference/text-to-speech/stream */
function elevenLabs({ voiceId, model, settings }: ExternalVoice, { apiKey }: Keyed): VoiceDefinition {
  const {
    optimizeStreamingLatency,
    maxSampleRate,
    pronunciationDictionaries,
    enableSsmlParsing: _,
    ...rest
  } = settings;
  const rates = [8000, 16_000, 22_050, sampleRateHz].filter((each) => each <= Number(maxSampleRate ?? sampleRateHz));
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
      ...rawAudio,
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
        language: primaryLanguage(language),
        output_format: { container: "rawAudio", encoding: "pcm_s16le", sample_rate: sampleRateHz },
        ...(isEmpty(config) ? {} : { generation_config: config }),
        ...(pronunciationDictId === undefined ? {} : { pronunciation_dict_id: pronunciationDictId }),
      },
      ...rawAudio,
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
        language: primaryLanguage(language),
        format: "pcm_s16le",
        sample_rate: sampleRateHz,
        ...(model === null ? {} : { model }),
        ...settings,
      },
      ...rawAudio,
    },
  };
}

/** The language without its region: these two vendors do not support regions. */
const primaryLanguage = (language: string) => language.split("-")[0]!.toLowerCase();
const isEmpty = (value: object) => Object.keys(value).length === 0;
const snakeCased = (settings: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
