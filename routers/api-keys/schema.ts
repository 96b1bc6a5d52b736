import { z } from "zod";
import { PageInput, pageOf } from "../page.ts";
import { Scope } from "../scopes.ts";
import { examples, Id, Instant } from "../words.ts";

const Name = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .meta({ description: "For people.", examples: ["CI"] });

export const CreateApiKey = z.strictObject({
  kind: z
    .literal("platform")
    .default("platform")
    .meta({ description: "A key for this API.", examples: ["platform"] }),
  name: Name,
  scopes: z
    .array(Scope)
    .min(1)
    .max(50)
    .meta({
      description: "What the key may do; at most what you may do yourself.",
      examples: [["calls:read", "calls:write"]],
    }),
  expiresAt: z.iso
    .datetime()
    .optional()
    .meta({ description: "Never, if left out.", examples: ["2030-01-01T00:00:00.000Z"] }),
});
export type CreateApiKey = z.output<typeof CreateApiKey>;

export const ApiKeyId = z.strictObject({ id: Id("apiKey", examples.apiKey) });
export const ListApiKeys = z.strictObject({ ...PageInput });
export type ListApiKeys = z.output<typeof ListApiKeys>;

export const ApiKey = z
  .object({
    id: Id("apiKey", examples.apiKey),
    name: Name,
    prefix: z.string().meta({ description: "How the key begins.", examples: ["pb_live_3kTz"] }),
    scopes: z.array(Scope).meta({ examples: [["calls:read", "calls:write"]] }),
    createdAt: Instant,
    expiresAt: Instant.nullable(),
    lastUsedAt: Instant.nullable().meta({ description: "To the minute." }),
    revokedAt: Instant.nullable(),
  })
  .meta({ id: "ApiKey" });
export type ApiKey = z.output<typeof ApiKey>;

export const CreatedApiKey = ApiKey.extend({
  key: z.string().meta({ description: "Shown this once, and kept nowhere.", examples: ["pb_live_…"] }),
}).meta({ id: "CreatedApiKey" });
export type CreatedApiKey = z.output<typeof CreatedApiKey>;

export const ApiKeyPage = pageOf(ApiKey);
