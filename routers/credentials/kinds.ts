import { type CredentialProvider, credentialProviders } from "../ports/vendors.ts";

/** The fields of a provider's credential. `open` fields are shown; the first secret field provides the prefix. */
type Kind = { secret: readonly SecretField[]; optional?: readonly SecretField[]; open?: readonly SecretField[] };
export type SecretField = (typeof secretFields)[number];

export const secretFields = [
  "apiKey",
  "publicKey",
  "accountSid",
  "authId",
  "authToken",
  "host",
  "username",
  "password",
  "serviceAccount",
  "value",
] as const;

const key: Kind = { secret: ["apiKey"] };

const kinds: Record<CredentialProvider, Kind> = {
  ultravox: key,
  elevenlabs: key,
  cartesia: key,
  lmnt: key,
  google: { secret: ["serviceAccount"] },
  inworld: key,
  respeecher: key,
  telnyx: { secret: ["apiKey"], optional: ["publicKey"] },
  twilio: { secret: ["authToken"], open: ["accountSid"] },
  plivo: { secret: ["authToken"], open: ["authId"] },
  sip: { secret: ["password"], open: ["host", "username"] },
};
const custom: Kind = { secret: ["value"] };

export const providerPattern = new RegExp(`^(${credentialProviders.join("|")}|custom-[a-z0-9][a-z0-9-]{0,39})$`);

export const isKnown = (provider: string): provider is CredentialProvider =>
  (credentialProviders as readonly string[]).includes(provider);

export const kindOf = (provider: string): Kind => (isKnown(provider) ? kinds[provider] : custom);

/** The secret of a TTS provider as text: its key, or its service account as JSON. */
export const ttsSecret = (fields: Record<string, string>) => fields.apiKey ?? fields.serviceAccount ?? null;

/** The visible prefix of a secret: at most six characters and a third of its length; empty for a short secret. */
export function prefixOf(secret: string): string {
  const length = Math.min(6, Math.floor(secret.length / 3));
  return length < 4 ? "" : secret.slice(0, length);
}
