import type { Tx } from "../../db/client.ts";
import { toApiError } from "../core/errors.ts";
import type { Providers } from "../ports/index.ts";
import type { Cipher } from "../ports/vault.ts";
import type { CreateApiKey } from "./schema.ts";
import { type Creator, createApiKey } from "./service.ts";

/** A key for this API needs nobody else's word: nothing is asked. */
export function making({ name, scopes, expiresAt }: CreateApiKey, creator: Creator, hash: (key: string) => string) {
  return {
    read: async () => null,
    execute: async () => null,
    record: (tx: Tx) =>
      // The schema has seen to it that a key for this API has both.
      createApiKey(tx, { name: name ?? "", scopes: scopes ?? [], expiresAt: expiresAt ?? undefined }, creator, hash),
  };
}

/** Asked for only where there is something to seal: a key for this API is made also while the key service is away. */
export function ringLater({ vault }: Pick<Providers, "vault">, { clientId }: { clientId: string }) {
  return (): Promise<Cipher> =>
    vault.keys(clientId, "provider_credential").catch((error: unknown) => {
      throw toApiError(error);
    });
}
