import type { Deadline } from "./provider-error.ts";
import { voiceVendorNames } from "./voice-vendors.ts";

/** Companies at whose doors a client may show credentials of his own. */
export const credentialProviders = ["ultravox", ...voiceVendorNames, "telnyx", "twilio", "plivo", "sip"] as const;
export type CredentialProvider = (typeof credentialProviders)[number];

/** Tries credentials, and voices, where they come from. */
export interface Vendors {
  /**
   * `refused`: the company says no. `unverifiable`: it offers no way to ask. Throws ProviderError `unavailable` when it
   * cannot be asked now.
   */
  verify(
    provider: CredentialProvider,
    secret: Record<string, string>,
    deadline: Deadline,
  ): Promise<{ verdict: "accepted" | "unverifiable" } | { verdict: "refused"; reason: string }>;
  /** Is there such a voice, for this key? `unverifiable` as above. */
  findVoice(
    provider: CredentialProvider,
    secret: Record<string, string>,
    vendorVoiceId: string,
    deadline: Deadline,
  ): Promise<"found" | "not_found" | "unverifiable">;
}
