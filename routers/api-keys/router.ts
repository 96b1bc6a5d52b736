import { requireScope } from "../core/authorize.ts";
import { command, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { saveCredential } from "../credentials/save.ts";
import { lazyCipher, prepareApiKey } from "./create.ts";
import { ApiKeyId, ApiKeyPage, CreateApiKey, CreatedApiKey, CreatedKey, ListApiKeys, RotateApiKey } from "./schema.ts";
import { listApiKeys, revokeApiKey, rotateApiKey } from "./service.ts";

export const apiKeys = router({
  create: providerQuery
    .meta(
      rest("POST", "/auth/api-keys", "api_keys:write", "Create an API key", {
        description:
          "`kind: platform` creates a key for this API. `kind: provider` saves your key for a provider: it also needs the scope credentials:write and returns a credential.",
        errors: [
          "api_key_limit_reached",
          "credential_refused",
          "credential_in_use",
          "provider_account_in_use",
          "provider_account_unreachable",
          "credential_limit_reached",
          "provider_unavailable",
        ],
      }),
    )
    .input(CreateApiKey)
    .output(CreatedKey)
    .mutation(({ ctx, input }) => {
      const { provider, secret } = input;
      if (!provider || !secret) return ctx.queryProvider(prepareApiKey(input, ctx.principal, ctx.hashKey));
      requireScope(ctx.principal.scopes, "credentials:write");
      return ctx.queryProvider(
        saveCredential({ provider, secret }, lazyCipher(ctx.providers, ctx.principal), ctx.providers),
      );
    }),

  list: query
    .meta(
      rest("GET", "/auth/api-keys", "api_keys:read", "List API keys", {
        description:
          "Newest first, including revoked and expired keys. Only the prefix of a key is shown. `createdBy` filters by the user or key that created it.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListApiKeys)
    .output(ApiKeyPage)
    .query(({ ctx, input }) => listApiKeys(ctx.tx, input, ctx.listKey)),

  rotate: command
    .meta(
      rest("POST", "/auth/api-keys/{id}/rotate", "api_keys:write", "Rotate an API key", {
        status: 201,
        description:
          "The new key has the same name, scopes and expiry, and shares the idempotency keys of the old one. You must have its scopes yourself.",
        errors: ["api_key_not_found", "api_key_not_active", "api_key_limit_reached"],
      }),
    )
    .input(RotateApiKey)
    .output(CreatedApiKey)
    .mutation(({ ctx, input }) => rotateApiKey(ctx.tx, input, ctx.principal, ctx.hashKey)),

  revoke: command
    .meta(
      rest("DELETE", "/auth/api-keys/{id}", "api_keys:write", "Revoke an API key", {
        description: "Requests with the key are rejected from now on, in all processes.",
        errors: ["api_key_not_found"],
      }),
    )
    .input(ApiKeyId)
    .mutation(({ ctx, input }) => revokeApiKey(ctx.tx, input.id)),
});
