import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { Scope } from "../core/scopes.ts";
import { Credential, checkSecret, ProviderName, Secret } from "../credentials/schema.ts";

const Name = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .meta({ description: "For people.", examples: ["CI"] });

export const CreateApiKey = z
  .strictObject({
    kind: z
      .enum(["platform", "provider"])
      .default("platform")
      .meta({
        description:
          "`platform`: a key for this API; it takes `name` and `scopes`. `provider`: your key for another company; it takes " +
          "`provider` and `secret`, and is the same as `PUT /auth/providers/{provider}`.",
        examples: ["platform"],
      }),
    name: Name.nullish(),
    scopes: z
      .array(Scope)
      .min(1)
      .max(50)
      .nullish()
      .meta({
        description: "What the key may do; at most what you may do yourself.",
        examples: [["calls:read", "calls:write"]],
      }),
    expiresAt: z.iso
      .datetime()
      .nullish()
      .meta({ description: "Never, if left out.", examples: ["2030-01-01T00:00:00.000Z"] }),
    provider: ProviderName.nullish().meta({ examples: [null] }),
    secret: Secret.nullish().meta({ examples: [null], redact: "secret" }),
  })
  .superRefine((given, context) => {
    const fits = { platform: ["name", "scopes"], provider: ["provider", "secret"] } as const;
    const strange = { platform: ["provider", "secret"], provider: ["name", "scopes", "expiresAt"] } as const;
    for (const name of fits[given.kind].filter((name) => given[name] == null)) {
      context.addIssue({ code: "custom", path: [name], message: `A key of the kind ${given.kind} needs this.` });
    }
    for (const name of strange[given.kind].filter((name) => given[name] != null)) {
      context.addIssue({ code: "custom", path: [name], message: `A key of the kind ${given.kind} has no such field.` });
    }
    if (given.kind === "provider" && given.provider && given.secret) checkSecret(given.provider, given.secret, context);
  });
export type CreateApiKey = z.output<typeof CreateApiKey>;

/** What a key for this API is made of. */
export type NewApiKey = { name: string; scopes: readonly Scope[]; expiresAt?: string | undefined };

export const RotateApiKey = z.strictObject({
  id: Id("apiKey", examples.apiKey),
  graceSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(0)
    .meta({ description: "How long the old key is still good.", examples: [3600] }),
});
export type RotateApiKey = z.output<typeof RotateApiKey>;

export const ApiKeyId = z.strictObject({ id: Id("apiKey", examples.apiKey) });
/** A person (`user_…`) or a key (`key_…`). */
const Maker = z.string().regex(/^(user|key)_[0-9a-z]{26}$/, "This is neither the id of a user nor of an API key.");

export const ListApiKeys = z.strictObject({
  ...PageInput,
  createdBy: Maker.optional().meta({
    description: "Keys that this person or this key made.",
    examples: [examples.user],
  }),
});
export type ListApiKeys = z.output<typeof ListApiKeys>;

export const ApiKey = z
  .object({
    id: Id("apiKey", examples.apiKey),
    name: Name,
    prefix: z.string().meta({ description: "How the key begins.", examples: ["pb_live_3kTz"] }),
    scopes: z.array(Scope).meta({ examples: [["calls:read", "calls:write"]] }),
    createdBy: z.string().meta({ description: "The person or the key that made it.", examples: [examples.user] }),
    createdAt: Timestamp,
    expiresAt: Timestamp.nullable(),
    lastUsedAt: Timestamp.nullable().meta({ description: "To the minute." }),
    revokedAt: Timestamp.nullable(),
    replacedBy: Id("apiKey", examples.apiKey)
      .nullable()
      .meta({ description: "The key that took its place when it was rotated.", examples: [null] }),
  })
  .meta({ id: "ApiKey" });
export type ApiKey = z.output<typeof ApiKey>;

/** A key as it is named in other answers. */
export const KeyRef = z.object({
  id: Id("apiKey", examples.apiKey),
  name: ApiKey.shape.name,
  prefix: ApiKey.shape.prefix,
  createdBy: ApiKey.shape.createdBy,
});
export type KeyRef = z.output<typeof KeyRef>;

export const CreatedApiKey = ApiKey.extend({
  key: z.string().meta({ description: "Shown this once, and kept nowhere.", examples: ["pb_live_…"] }),
}).meta({ id: "CreatedApiKey" });
export type CreatedApiKey = z.output<typeof CreatedApiKey>;

/** Of the two kinds, what each answers. */
export const CreatedKey = z.union([CreatedApiKey, Credential]);

export const ApiKeyPage = pageOf(ApiKey);
