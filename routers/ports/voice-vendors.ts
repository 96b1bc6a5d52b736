/**
 * The vendors whose voices the voice provider can use. Every other list of them is derived from this table.
 * `upstreamName`: the voice provider's name of the vendor (openapi.json: ultravox.v1.ExternalVoice). `modelField` and
 * `settingsField`: where the provider's definition of such a voice has the model and the settings, if not in the usual place.
 */
export const voiceVendors = {
  elevenlabs: { upstreamName: "elevenLabs" },
  cartesia: { upstreamName: "cartesia", settingsField: "generationConfig" },
  lmnt: { upstreamName: "lmnt" },
  google: { upstreamName: "google" },
  inworld: { upstreamName: "inworld", modelField: "modelId" },
  respeecher: { upstreamName: "respeecher" },
} as const satisfies Record<string, { upstreamName: string; modelField?: string; settingsField?: string }>;

export type VoiceVendor = keyof typeof voiceVendors;
/** The voice provider's name of a vendor. */
export type UpstreamVendor = (typeof voiceVendors)[VoiceVendor]["upstreamName"];

/** In the order of the table. */
export const voiceVendorNames = Object.keys(voiceVendors) as [VoiceVendor, ...VoiceVendor[]];

export const isVoiceVendor = (provider: string): provider is VoiceVendor => provider in voiceVendors;
