import type { Tx } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { Cipher } from "../ports/vault.ts";
import { removeCredential, saving } from "./save.ts";
import { type PatchTts, type ProviderStatus, Secret, ttsFields } from "./schema.ts";
import { findCredential, providerStatus } from "./service.ts";

type Saving = ReturnType<typeof saving>;
type Asked = Awaited<ReturnType<Saving["ask"]>>;

/** One text for any company of voices: the key is saved, null takes it away. */
export function changingTts(
  { provider, apiKey }: PatchTts,
  ring: Cipher,
  world: Pick<Providers, "vendors" | "ultravox">,
) {
  const secret = apiKey === null ? null : Secret.parse(ttsFields(provider, apiKey));
  const save = secret && saving({ provider, secret }, ring, world, "apiKey");
  return {
    read: async (tx: Tx) => save?.read(tx),
    ask: async (_: unknown, deadline: Deadline): Promise<Asked | null> => (save ? save.ask(_, deadline) : null),
    async record(tx: Tx, _: unknown, asked: Asked | null): Promise<ProviderStatus> {
      if (save && asked) await save.record(tx, _, asked);
      // Already gone is as good.
      else if (await findCredential(tx, provider)) await removeCredential(tx, { provider, force: false });
      return providerStatus(tx, provider);
    },
  };
}
