import type { Tx } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { Cipher } from "../ports/vault.ts";
import { removeCredential, saveCredential } from "./save.ts";
import { type PatchTts, type ProviderStatus, Secret, ttsFields } from "./schema.ts";
import { findCredential, providerStatus } from "./service.ts";

type Saving = ReturnType<typeof saveCredential>;
type Saved = Awaited<ReturnType<Saving["execute"]>>;

/** Saves the key of a TTS provider; `apiKey` null deletes it. */
export function changeTts(
  { provider, apiKey }: PatchTts,
  cipher: Cipher,
  providers: Pick<Providers, "vendors" | "ultravox">,
) {
  const secret = apiKey === null ? null : Secret.parse(ttsFields(provider, apiKey));
  const save = secret && saveCredential({ provider, secret }, cipher, providers, "apiKey");
  return {
    read: async (tx: Tx) => save?.read(tx),
    execute: async (_: unknown, deadline: Deadline): Promise<Saved | null> => (save ? save.execute(_, deadline) : null),
    async record(tx: Tx, _: unknown, saved: Saved | null): Promise<ProviderStatus> {
      if (save && saved) await save.record(tx, _, saved);
      // Deleting a credential that does not exist succeeds.
      else if (await findCredential(tx, provider)) await removeCredential(tx, { provider, force: false });
      return providerStatus(tx, provider);
    },
  };
}
