import { rest } from "../rest.ts";
import { command, query, router } from "../trpc.ts";
import { ApiKeyId, ApiKeyPage, CreateApiKey, CreatedApiKey, ListApiKeys } from "./schema.ts";
import { createApiKey, listApiKeys, revokeApiKey } from "./service.ts";

export const apiKeys = router({
  create: command
    .meta(rest("POST", "/auth/api-keys", "api_keys:write", "Create an API key", { status: 201 }))
    .input(CreateApiKey)
    .output(CreatedApiKey)
    .mutation(({ ctx, input }) => createApiKey(ctx.tx, input, ctx.principal, ctx.hashKey)),

  list: query
    .meta(rest("GET", "/auth/api-keys", "api_keys:read", "List API keys", { faults: ["cursor_invalid"] }))
    .input(ListApiKeys)
    .output(ApiKeyPage)
    .query(({ ctx, input }) => listApiKeys(ctx.tx, input, ctx.listKey)),

  revoke: command
    .meta(
      rest("DELETE", "/auth/api-keys/{id}", "api_keys:write", "Revoke an API key", { faults: ["api_key_not_found"] }),
    )
    .input(ApiKeyId)
    .mutation(({ ctx, input }) => revokeApiKey(ctx.tx, input.id)),
});
