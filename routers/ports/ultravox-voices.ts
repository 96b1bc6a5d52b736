import type { Deadline } from "./provider-error.ts";
import type { UpstreamVendor } from "./voice-vendors.ts";

export type ProviderVoice = { providerVoiceId: string; name: string; language: string | null; provider: string | null };

/** Another vendor's voice, in the provider's format: exactly one field with the definition. */
export type VoiceDefinition = Partial<Record<UpstreamVendor | "generic", Record<string, unknown>>>;

export interface UltravoxVoices {
  /** Uploads one file. Returns when the voice is ready to use. */
  cloneVoice(
    accountId: string,
    voice: {
      id: string;
      sample: { bytes: Buffer; fileName: string; contentType: string };
      language: string;
      description: string | null;
    },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  /** `definition` can contain a secret: the headers of `generic`. */
  registerVoice(
    accountId: string,
    voice: { id: string; definition: VoiceDefinition; language: string; description: string | null },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  findVoices(accountId: string, voiceId: string, deadline: Deadline): Promise<ProviderVoice[]>;
  /** null if the provider has no such voice. */
  getVoice(accountId: string, providerVoiceId: string, deadline: Deadline): Promise<ProviderVoice | null>;
  updateVoice(
    accountId: string,
    providerVoiceId: string,
    change: { language: string; description: string | null; definition?: VoiceDefinition },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  deleteVoice(accountId: string, providerVoiceId: string, deadline: Deadline): Promise<void>;
  /** Streams a spoken sample. */
  previewVoice(
    accountId: string,
    providerVoiceId: string,
    deadline: Deadline,
  ): Promise<{ chunks: AsyncIterable<Buffer>; contentType: string }>;
  /** Sets the API keys of voice vendors for a whole account. null removes a key; undefined keeps it. */
  setTtsKeys(
    accountId: string,
    keys: Partial<Record<UpstreamVendor, string | null>>,
    deadline: Deadline,
  ): Promise<void>;
}
