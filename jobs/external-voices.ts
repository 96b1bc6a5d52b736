import { platformAccount } from "../routers/credentials/accounts.ts";
import { ttsSecret } from "../routers/credentials/kinds.ts";
import { openCredential } from "../routers/credentials/service.ts";
import type { Deadline } from "../routers/ports/provider-error.ts";
import type { VoiceDefinition } from "../routers/ports/ultravox.ts";
import type { Cipher } from "../routers/ports/vault.ts";
import { type VoiceVendor, voiceVendors } from "../routers/ports/voice-vendors.ts";
import {
  type GenericVoice,
  genericDefinition,
  keyedDefinition,
  objectionToGeneric,
  plainDefinition,
} from "../routers/voices/definition.ts";
import { externalOf, type VoiceRow } from "../routers/voices/row.ts";
import { StepRefused } from "./runtime/step-refused.ts";
import type { JobContext } from "./runtime/task.ts";

/** What the provider objects, or null: it has the voice, is unavailable, or the client has no own key. */
export async function isVoiceUnknown(ctx: JobContext, row: VoiceRow, deadline: Deadline): Promise<string | null> {
  const { voiceId } = externalOf(row);
  const cipher = await cipherOf(ctx, row);
  const secret = await ctx.asClient((tx) => openCredential(tx, cipher, row.provider), { mode: "read" });
  if (!secret || voiceId === null) return null;
  const found = await ctx.providers.vendors.findVoice(row.provider as VoiceVendor, secret, voiceId, deadline);
  return found === "not_found" ? `${row.provider} has no voice ${voiceId} for your key.` : null;
}

/**
 * How to register the voice, which depends on the API key it uses:
 * - no key of the client's own: the account's keys;
 * - a key, and an Ultravox account of the client's own: that account receives the key;
 * - a key, and the shared account: the key is sent with this voice alone.
 * In the last case, and with the headers of a generic voice, the result is secret.
 */
export async function definitionOf(ctx: JobContext, row: VoiceRow, deadline: Deadline): Promise<VoiceDefinition> {
  const voice = externalOf(row);
  const cipher = await cipherOf(ctx, row);
  if (voice.generic) return validatedGeneric(voice.generic, headersOf(row, cipher));
  const provider = row.provider as VoiceVendor; // createVoice wrote it from the list of them
  const secret = await ctx.asClient((tx) => openCredential(tx, cipher, provider), { mode: "read" });
  const apiKey = secret && ttsSecret(secret);
  if (!apiKey) return plainDefinition(provider, voice);
  if (row.providerAccountId !== platformAccount) {
    await ctx.providers.ultravox.setTtsKeys(
      row.providerAccountId,
      { [voiceVendors[provider].upstreamName]: apiKey },
      deadline,
    );
    return plainDefinition(provider, voice);
  }
  const keyed = keyedDefinition(provider, voice, { apiKey, language: row.language });
  if (keyed) return keyed;
  throw new StepRefused(
    `A key of your own for ${provider} works only in an Ultravox account of your own. Save that account's key first, or delete this one.`,
  );
}

/** Validates the stored definition again when it is sent: the rules may have become stricter. */
function validatedGeneric(generic: GenericVoice, headers: Record<string, string>): VoiceDefinition {
  const objection = objectionToGeneric(generic, headers);
  if (objection) throw new StepRefused(`${objection} Create the voice again with another address or other headers.`);
  return genericDefinition(generic, headers);
}

function headersOf({ sealedHeaders, id }: VoiceRow, cipher: Cipher): Record<string, string> {
  if (!sealedHeaders) return {};
  return JSON.parse(cipher.open(sealedHeaders, id).toString()) as Record<string, string>; // sealed by us, in this shape
}

/** May call a key service, so no transaction is open. */
const cipherOf = (ctx: JobContext, { clientId }: VoiceRow) => ctx.providers.vault.keys(clientId, "provider_credential");
