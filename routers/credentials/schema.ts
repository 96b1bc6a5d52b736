import { z } from "zod";
import { boundedRecord } from "../core/bounds.ts";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { pageOf } from "../core/pagination.ts";
import { readSipHost } from "../core/sip-address.ts";
import { voiceVendorNames } from "../ports/voice-vendors.ts";
import { kindOf, providerPattern, secretFields } from "./kinds.ts";

/** Visible ASCII, which headers, addresses and command lines carry unchanged. */
const token = (max = 500) =>
  z
    .string()
    .trim()
    .max(max)
    .regex(/^[\x21-\x7e]+$/, "Use visible ASCII characters without spaces.");

/** Masking a shorter secret in responses would also match ordinary words, and so reveal it. */
const minSecretLength = 8;
const tooShort = `Use at least ${minSecretLength} characters.`;
const secretToken = () => token().min(minSecretLength, tooShort);

export const ProviderName = z
  .string()
  .regex(providerPattern, "There is no such provider. For a secret of your own, use `custom-<name>`.")
  .meta({
    description: "A provider from `GET /auth/providers`, or `custom-<name>` for a secret of your own that tools use.",
    examples: ["elevenlabs"],
  });

const ServiceAccount = boundedRecord(z.string().max(100), z.string().max(10_000), 30, "fields").refine(
  (file) => file.private_key && file.client_email,
  "This is not a service account key: it needs `private_key` and `client_email`.",
);

/** The fields of all providers. `checkSecret` checks which ones a provider needs. */
export const Secret = z
  .strictObject({
    apiKey: secretToken().meta({
      description: "ultravox, elevenlabs, cartesia, lmnt, inworld, respeecher, telnyx.",
      examples: ["sk_0123456789abcdef"],
    }),
    publicKey: token().meta({
      description: "telnyx: the public key that verifies its webhooks.",
      examples: ["e5Ldaa0123456789="],
    }),
    accountSid: token(64).meta({ description: "twilio.", examples: ["AC0123456789abcdef0123456789abcdef"] }),
    authId: token(64).meta({ description: "plivo.", examples: ["MAXXXXXXXXXXXXXXXXXX"] }),
    authToken: secretToken().meta({ description: "twilio, plivo.", examples: ["0123456789abcdef"] }),
    host: token(253).meta({
      description: "sip: the host of the trunk, with an optional port.",
      examples: ["sip.example.com:5061"],
    }),
    username: token(100).meta({ description: "sip.", examples: ["patchbay"] }),
    password: z
      .string()
      .min(minSecretLength, tooShort)
      .max(200)
      .regex(/^[^\p{Cc}]+$/u, "Remove control characters.")
      .meta({ description: "sip.", examples: ["0123456789abcdef"] }),
    serviceAccount: ServiceAccount.meta({
      description: "google: the service account key file, as downloaded.",
      examples: [
        {
          type: "service_account",
          private_key: "0123456789abcdef",
          client_email: "tts@example.iam.gserviceaccount.com",
        },
      ],
    }),
    value: z
      .string()
      .min(minSecretLength, tooShort)
      .max(4000)
      .regex(/^[\x20-\x7e]+$/, "Use printable ASCII characters.")
      .refine((text) => !text.includes("{{"), "Remove `{{`: the voice provider treats it as a variable.")
      .meta({ description: "custom-<name>: the secret that a tool sends, unchanged.", examples: ["0123456789abcdef"] }),
  })
  .partial()
  .meta({
    description: "The fields of the provider; an unknown field is an error. They are never returned.",
    examples: [{ apiKey: "sk_0123456789abcdef" }],
    redact: "secret",
  });
export type Secret = z.output<typeof Secret>;

/** Adds an issue for each missing field and each field that the provider does not have. */
export function checkSecret(provider: string, given: Secret, context: z.RefinementCtx) {
  if (!providerPattern.test(provider)) return; // `ProviderName` has already added an issue
  const { secret, open = [], optional = [] } = kindOf(provider);
  const required: readonly string[] = [...open, ...secret];
  const known = [...required, ...optional];
  // The schema itself rejects fields of no provider.
  for (const name of secretFields.filter((name) => given[name] !== undefined && !known.includes(name))) {
    const message = `${provider} has no such field. Its fields: ${known.join(", ")}.`;
    context.addIssue({ code: "custom", path: ["secret", name], message });
  }
  for (const name of required.filter((name) => given[name as keyof Secret] === undefined)) {
    context.addIssue({ code: "custom", path: ["secret", name], message: `This is required for ${provider}.` });
  }
  const missing = required.some((name) => given[name as keyof Secret] === undefined);
  const objection = given.host === undefined || missing ? undefined : readSipHost(given.host).objection;
  if (objection) context.addIssue({ code: "custom", path: ["secret", "host"], message: objection });
}

export const PutCredential = z
  .strictObject({ provider: ProviderName, secret: Secret })
  .superRefine(({ provider, secret }, context) => checkSecret(provider, secret, context));
export type PutCredential = z.output<typeof PutCredential>;

export const CredentialOf = z.strictObject({ provider: ProviderName });
export const RemoveCredential = z.strictObject({
  provider: ProviderName,
  force: z
    .boolean()
    .default(false)
    .meta({
      description:
        "Delete it even if agents, tools or voices use it (they stop working), or if ended calls are not billed yet.",
      examples: [false],
    }),
});
export type RemoveCredential = z.output<typeof RemoveCredential>;

export const PatchTts = z
  .strictObject({
    provider: z.enum(voiceVendorNames).meta({ description: "The TTS provider.", examples: ["elevenlabs"] }),
    apiKey: z
      .string()
      .trim()
      .min(1)
      .max(10_000)
      .nullable()
      .meta({
        description: "null deletes the credential. For google: the service account key as JSON text.",
        examples: ["sk_0123456789abcdef"],
        redact: "secret",
      }),
  })
  .superRefine(({ provider, apiKey }, context) => {
    if (apiKey === null) return;
    const read = Secret.safeParse(ttsFields(provider, apiKey));
    if (!read.success) context.addIssue({ code: "custom", path: ["apiKey"], message: read.error.issues[0]!.message });
  });
export type PatchTts = z.output<typeof PatchTts>;

/** The secret fields of a TTS provider, from its key as one text. */
export function ttsFields(provider: PatchTts["provider"], apiKey: string): unknown {
  if (provider !== "google") return { apiKey };
  try {
    return { serviceAccount: JSON.parse(apiKey) as unknown };
  } catch {
    return { serviceAccount: {} }; // the schema rejects this and names the missing fields
  }
}

export const Credential = z
  .object({
    id: Id("credential", examples.credential),
    provider: ProviderName,
    prefix: z
      .string()
      .meta({ description: "The first characters of the secret; empty for a short secret.", examples: ["sk_4f1"] }),
    details: z
      .record(z.string(), z.string())
      .meta({ description: "The fields that are not secret.", examples: [{ accountSid: "AC0123" }] }),
    status: z.enum(["unverified", "verified", "invalid"]).meta({
      description: "`unverified`: the provider offers no verification, or was unavailable; see `statusReason`.",
      examples: ["verified"],
    }),
    statusReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    verifiedAt: Timestamp.nullable(),
    account: z
      .object({
        id: z.string().meta({ examples: ["pacc_01m82knxfbfrssk0x3en012rbf"] }),
        webhookStatus: z.enum(["pending", "registered"]).meta({
          description: "Whether our webhook is registered in the account. This happens seconds after the key is saved.",
          examples: ["registered"],
        }),
      })
      .nullable()
      .meta({ description: "Only for ultravox: your own account, where new resources are created." }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Credential" });
export type Credential = z.output<typeof Credential>;

export const ProviderStatus = z
  .object({
    provider: ProviderName,
    credential: Credential.nullable().meta({ description: "Your own credential; null: none." }),
    usesShared: z.boolean().meta({
      description: "Whether the platform's credential is used. Always false if you have your own Ultravox account.",
      examples: [true],
    }),
  })
  .meta({ id: "ProviderStatus" });
export type ProviderStatus = z.output<typeof ProviderStatus>;
export const ProviderPage = pageOf(ProviderStatus);
