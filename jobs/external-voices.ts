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

/** What the company says against it; null when it knows the voice, cannot be asked, or the client has no key of its own. */
export async function isVoiceUnknown(ctx: JobContext, row: VoiceRow, deadline: Deadline): Promise<string | null> {
  const { voiceId } = externalOf(row);
  const ring = await ringOf(ctx, row);
  const secret = await ctx.asClient((tx) => openCredential(tx, ring, row.provider), { mode: "read" });
  if (!secret || voiceId === null) return null;
  const found = await ctx.providers.vendors.findVoice(row.provider as VoiceVendor, secret, voiceId, deadline);
  return found === "not_found" ? `${row.provider} has no voice ${voiceId} for your key.` : null;
}

/**
 * How the provider is to be told of it, which depends on whose key it speaks with. Without a key of the client's own:
 * those of the account. With one, in an account of the client's own: that account learns the key. With one, in the
 * account that all share: the key travels in this voice alone. Secret, in that case and with a generic voice's headers.
 */
export async function definitionOf(ctx: JobContext, row: VoiceRow, deadline: Deadline): Promise<VoiceDefinition> {
  const voice = externalOf(row);
  const ring = await ringOf(ctx, row);
  if (voice.generic) return judgedGeneric(voice.generic, headersOf(row, ring));
  const provider = row.provider as VoiceVendor; // createVoice wrote it from the list of them
  const secret = await ctx.asClient((tx) => openCredential(tx, ring, provider), { mode: "read" });
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
    `A key of your own for ${provider} works only in an Ultravox account of your own: save that account's key first, or take this one away.`,
  );
}

/** What was kept is judged again when it is sent: the rules may have become stricter since. */
function judgedGeneric(generic: GenericVoice, headers: Record<string, string>): VoiceDefinition {
  const objection = objectionToGeneric(generic, headers);
  if (objection) throw new StepRefused(`${objection} Make the voice again with another address, or other headers.`);
  return genericDefinition(generic, headers);
}

function headersOf({ sealedHeaders, id }: VoiceRow, ring: Cipher): Record<string, string> {
  if (!sealedHeaders) return {};
  return JSON.parse(ring.open(sealedHeaders, id).toString()) as Record<string, string>; // sealed by us, in this shape
}

/** May ask a key service, so no transaction is open. */
const ringOf = (ctx: JobContext, { clientId }: VoiceRow) => ctx.providers.vault.keys(clientId, "provider_credential");
