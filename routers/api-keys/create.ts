import type { Tx } from "../../db/client.ts";
import { toApiError } from "../core/errors.ts";
import type { Providers } from "../ports/index.ts";
import type { Cipher } from "../ports/vault.ts";
import type { CreateApiKey } from "./schema.ts";
import { type Creator, createApiKey } from "./service.ts";

/** The steps of a provider query that creates a key for this API. It calls no provider. */
export function prepareApiKey(
  { name, scopes, expiresAt }: CreateApiKey,
  creator: Creator,
  hash: (key: string) => string,
) {
  return {
    read: async () => null,
    execute: async () => null,
    record: (tx: Tx) =>
      // The schema requires both for a key of this API.
      createApiKey(tx, { name: name ?? "", scopes: scopes ?? [], expiresAt: expiresAt ?? undefined }, creator, hash),
  };
}

/** Loads the cipher only when it is needed: a key for this API can be created while the key service is unavailable. */
export function lazyCipher({ vault }: Pick<Providers, "vault">, { clientId }: { clientId: string }) {
  return (): Promise<Cipher> =>
    vault.keys(clientId, "provider_credential").catch((error: unknown) => {
      throw toApiError(error);
    });
}
