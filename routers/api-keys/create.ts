import type { Tx } from "../../db/client.ts";
import { ApiError, toApiError } from "../core/errors.ts";
import { grants, type Scope } from "../core/scopes.ts";
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

/** For what a door does beside its own purpose. */
export function refuseWithout(scope: Scope, held: readonly string[]) {
  if (!grants(held, scope))
    throw new ApiError("scope_missing", `This takes the scope ${scope}, which you do not have.`);
}

/** Asked for only where there is something to seal: a key for this API is made also while the key service is away. */
export function ringLater({ vault }: Pick<Providers, "vault">, { clientId }: { clientId: string }) {
  return (): Promise<Cipher> =>
    vault.keys(clientId, "provider_credential").catch((error: unknown) => {
      throw toApiError(error);
    });
}
