import { requireScope } from "../core/authorize.ts";
import { command, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { saving } from "../credentials/save.ts";
import { making, ringLater } from "./create.ts";
import { ApiKeyId, ApiKeyPage, CreateApiKey, CreatedApiKey, CreatedKey, ListApiKeys, RotateApiKey } from "./schema.ts";
import { listApiKeys, revokeApiKey, rotateApiKey } from "./service.ts";

export const apiKeys = router({
  create: providerQuery
    .meta(
      rest("POST", "/auth/api-keys", "api_keys:write", "Create an API key, or save one of another company", {
        description: "For `kind: provider` the scope credentials:write is needed too; it answers a credential.",
        faults: [
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
      if (!provider || !secret) return ctx.queryProvider(making(input, ctx.principal, ctx.hashKey));
      requireScope(ctx.principal.scopes, "credentials:write");
      return ctx.queryProvider(saving({ provider, secret }, ringLater(ctx.providers, ctx.principal), ctx.providers));
    }),

  list: query
    .meta(
      rest("GET", "/auth/api-keys", "api_keys:read", "List API keys", {
        description:
          "Newest first, also those that are revoked or have expired. Of a key only how it begins is shown. `createdBy` lists what one person, or one key, has made.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListApiKeys)
    .output(ApiKeyPage)
    .query(({ ctx, input }) => listApiKeys(ctx.tx, input, ctx.listKey)),

  rotate: command
    .meta(
      rest("POST", "/auth/api-keys/{id}/rotate", "api_keys:write", "Replace an API key by a new one", {
        status: 201,
        description:
          "The new key has the same name, scopes and expiry, and goes on with the idempotency keys of the old one. You must have its scopes yourself.",
        faults: ["api_key_not_found", "api_key_not_active", "api_key_limit_reached"],
      }),
    )
    .input(RotateApiKey)
    .output(CreatedApiKey)
    .mutation(({ ctx, input }) => rotateApiKey(ctx.tx, input, ctx.principal, ctx.hashKey)),

  revoke: command
    .meta(
      rest("DELETE", "/auth/api-keys/{id}", "api_keys:write", "Revoke an API key", {
        description: "It is refused from now on, everywhere. Revoking it again changes nothing.",
        faults: ["api_key_not_found"],
      }),
    )
    .input(ApiKeyId)
    .mutation(({ ctx, input }) => revokeApiKey(ctx.tx, input.id)),
});
