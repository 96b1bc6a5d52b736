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
  .meta({ description: "A name for people.", examples: ["CI"] });

export const CreateApiKey = z
  .strictObject({
    kind: z
      .enum(["platform", "provider"])
      .default("platform")
      .meta({
        description:
          "`platform`: a key for this API, with `name` and `scopes`. `provider`: your key for a provider, with " +
          "`provider` and `secret`; the same as `PUT /auth/providers/{provider}`.",
        examples: ["platform"],
      }),
    name: Name.nullish(),
    scopes: z
      .array(Scope)
      .min(1)
      .max(50)
      .nullish()
      .meta({
        description: "The scopes of the key, within your own scopes.",
        examples: [["calls:read", "calls:write"]],
      }),
    expiresAt: z.iso
      .datetime()
      .nullish()
      .meta({ description: "Default: the key does not expire.", examples: ["2030-01-01T00:00:00.000Z"] }),
    provider: ProviderName.nullish().meta({ examples: [null] }),
    secret: Secret.nullish().meta({ examples: [null], redact: "secret" }),
  })
  .superRefine((input, context) => {
    const required = { platform: ["name", "scopes"], provider: ["provider", "secret"] } as const;
    const forbidden = { platform: ["provider", "secret"], provider: ["name", "scopes", "expiresAt"] } as const;
    for (const name of required[input.kind].filter((name) => input[name] == null)) {
      context.addIssue({ code: "custom", path: [name], message: `This is required for a key of kind ${input.kind}.` });
    }
    for (const name of forbidden[input.kind].filter((name) => input[name] != null)) {
      context.addIssue({ code: "custom", path: [name], message: `A key of kind ${input.kind} has no such field.` });
    }
    if (input.kind === "provider" && input.provider && input.secret) checkSecret(input.provider, input.secret, context);
  });
export type CreateApiKey = z.output<typeof CreateApiKey>;

/** The input for a key of this API. */
export type NewApiKey = { name: string; scopes: readonly Scope[]; expiresAt?: string | undefined };

export const RotateApiKey = z.strictObject({
  id: Id("apiKey", examples.apiKey),
  graceSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(0)
    .meta({ description: "How long the old key still works.", examples: [3600] }),
});
export type RotateApiKey = z.output<typeof RotateApiKey>;

export const ApiKeyId = z.strictObject({ id: Id("apiKey", examples.apiKey) });
/** A person (`user_…`) or a key (`key_…`). */
export const CreatorId = z.string().regex(/^(user|key)_[0-9a-z]{26}$/, "Write the id of a user or of an API key.");

export const ListApiKeys = z.strictObject({
  ...PageInput,
  createdBy: CreatorId.optional().meta({
    description: "Only keys that this user or key created.",
    examples: [examples.user],
  }),
});
export type ListApiKeys = z.output<typeof ListApiKeys>;

export const ApiKey = z
  .object({
    id: Id("apiKey", examples.apiKey),
    name: Name,
    prefix: z.string().meta({ description: "The first characters of the key.", examples: ["pb_live_3kTz"] }),
    scopes: z.array(Scope).meta({ examples: [["calls:read", "calls:write"]] }),
    createdBy: z.string().meta({ description: "The user or API key that created it.", examples: [examples.user] }),
    createdAt: Timestamp,
    expiresAt: Timestamp.nullable(),
    lastUsedAt: Timestamp.nullable().meta({ description: "Rounded to the minute." }),
    revokedAt: Timestamp.nullable(),
    replacedBy: Id("apiKey", examples.apiKey)
      .nullable()
      .meta({ description: "The key that replaced it when it was rotated.", examples: [null] }),
  })
  .meta({ id: "ApiKey" });
export type ApiKey = z.output<typeof ApiKey>;

/** A key in other responses. */
export const KeyRef = z.object({
  id: Id("apiKey", examples.apiKey),
  name: ApiKey.shape.name,
  prefix: ApiKey.shape.prefix,
  createdBy: ApiKey.shape.createdBy,
});
export type KeyRef = z.output<typeof KeyRef>;

export const CreatedApiKey = ApiKey.extend({
  key: z
    .string()
    .meta({ description: "The key itself. It is not stored and not shown again.", examples: ["pb_live_…"] }),
}).meta({ id: "CreatedApiKey" });
export type CreatedApiKey = z.output<typeof CreatedApiKey>;

/** The response, by kind. */
export const CreatedKey = z.union([CreatedApiKey, Credential]);

export const ApiKeyPage = pageOf(ApiKey);
