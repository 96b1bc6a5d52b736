import type { Deadline } from "./provider-error.ts";
import { type VoiceVendor, voiceVendorNames } from "./voice-vendors.ts";

/** The vendors for which a client can store its own credentials. */
export const credentialProviders = [
  "ultravox",
  ...voiceVendorNames,
  "telnyx",
  "twilio",
  "plivo",
  "sip",
] as const satisfies readonly CredentialProvider[];
export type CredentialProvider = "ultravox" | VoiceVendor | "telnyx" | "twilio" | "plivo" | "sip";

/** Verifies credentials and voices at their vendor. */
export interface Vendors {
  /**
   * `refused`: the vendor does not accept it. `unverifiable`: the vendor has no endpoint to check it. Throws ProviderError
   * `unavailable`.
   */
  verify(
    provider: CredentialProvider,
    secret: Record<string, string>,
    deadline: Deadline,
  ): Promise<{ verdict: "accepted" | "unverifiable" } | { verdict: "refused"; reason: string }>;
  /** Whether the voice exists for this credential. `unverifiable` as above. */
  findVoice(
    provider: CredentialProvider,
    secret: Record<string, string>,
    vendorVoiceId: string,
    deadline: Deadline,
  ): Promise<"found" | "not_found" | "unverifiable">;
}
