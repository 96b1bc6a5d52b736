import { z } from "zod";
import { boundedRecord } from "../core/bounds.ts";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { pageOf } from "../core/pagination.ts";
import { readSipHost } from "../core/sip-address.ts";
import { voiceVendorNames } from "../ports/voice-vendors.ts";
import { kindOf, providerPattern, secretFields } from "./kinds.ts";

/** Visible ASCII: what a header, an address or a command line carries unchanged. */
const token = (max = 500) =>
  z
    .string()
    .trim()
    .max(max)
    .regex(/^[\x21-\x7e]+$/, "Visible ASCII, without spaces.");

/** Cutting a shorter one out of what is shown would cut words, and so spell it out. */
const shortest = 8;
const tooShort = `At least ${shortest} characters.`;
const secretToken = () => token().min(shortest, tooShort);

export const ProviderName = z
  .string()
  .regex(providerPattern, "There is no such provider. `custom-<name>` is a secret of your own, for tools.")
  .meta({
    description:
      "One of the list that `GET /auth/providers` gives, or `custom-<name>`: a secret of your own, for tools.",
    examples: ["elevenlabs"],
  });

const ServiceAccount = boundedRecord(z.string().max(100), z.string().max(10_000), 30, "fields").refine(
  (file) => file.private_key && file.client_email,
  "This is no service account's key: `private_key` and `client_email` are missing.",
);

/** Every field that any provider knows. Which ones are wanted is the provider's: see `checkSecret`. */
export const Secret = z
  .strictObject({
    apiKey: secretToken().meta({
      description: "ultravox, elevenlabs, cartesia, lmnt, inworld, respeecher, telnyx.",
      examples: ["sk_0123456789abcdef"],
    }),
    publicKey: token().meta({
      description: "telnyx: what its webhooks are verified with.",
      examples: ["e5Ldaa0123456789="],
    }),
    accountSid: token(64).meta({ description: "twilio.", examples: ["AC0123456789abcdef0123456789abcdef"] }),
    authId: token(64).meta({ description: "plivo.", examples: ["MAXXXXXXXXXXXXXXXXXX"] }),
    authToken: secretToken().meta({ description: "twilio, plivo.", examples: ["0123456789abcdef"] }),
    host: token(253).meta({
      description: "sip: the trunk, with its port if need be.",
      examples: ["sip.example.com:5061"],
    }),
    username: token(100).meta({ description: "sip.", examples: ["patchbay"] }),
    password: z
      .string()
      .min(shortest, tooShort)
      .max(200)
      .regex(/^[^\p{Cc}]+$/u, "No control characters.")
      .meta({ description: "sip.", examples: ["0123456789abcdef"] }),
    serviceAccount: ServiceAccount.meta({
      description: "google: the key of a service account, as it was downloaded.",
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
      .min(shortest, tooShort)
      .max(4000)
      .regex(/^[\x20-\x7e]+$/, "Printable ASCII.")
      .refine((text) => !text.includes("{{"), "Without `{{`: the voice provider would take it for a variable.")
      .meta({ description: "custom-<name>: what a tool shows, as it is sent.", examples: ["0123456789abcdef"] }),
  })
  .partial()
  .meta({
    description: "The provider's own fields; one that it does not know is refused by name. Never given back.",
    examples: [{ apiKey: "sk_0123456789abcdef" }],
    redact: "secret",
  });
export type Secret = z.output<typeof Secret>;

/** Names the fields that this provider misses, and those that it does not know. */
export function checkSecret(provider: string, given: Secret, context: z.RefinementCtx) {
  if (!providerPattern.test(provider)) return; // which is said already
  const { secret, open = [], optional = [] } = kindOf(provider);
  const wanted: readonly string[] = [...open, ...secret];
  const known = [...wanted, ...optional];
  // What no provider knows is refused by the schema itself.
  for (const name of secretFields.filter((name) => given[name] !== undefined && !known.includes(name))) {
    const message = `${provider} has no such field; it takes ${known.join(", ")}.`;
    context.addIssue({ code: "custom", path: ["secret", name], message });
  }
  for (const name of wanted.filter((name) => given[name as keyof Secret] === undefined)) {
    context.addIssue({ code: "custom", path: ["secret", name], message: `${provider} needs this field.` });
  }
  const missing = wanted.some((name) => given[name as keyof Secret] === undefined);
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
        "Also when agents, tools or voices still need it: they will fail. Also when calls are over and not billed yet.",
      examples: [false],
    }),
});
export type RemoveCredential = z.output<typeof RemoveCredential>;

export const PatchTts = z
  .strictObject({
    provider: z.enum(voiceVendorNames).meta({ description: "A company of voices.", examples: ["elevenlabs"] }),
    apiKey: z
      .string()
      .trim()
      .min(1)
      .max(10_000)
      .nullable()
      .meta({
        description: "null takes it away. For google: the service account's key, as JSON text.",
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

/** The secret of a company of voices, from the one text that it is. */
export function ttsFields(provider: PatchTts["provider"], apiKey: string): unknown {
  if (provider !== "google") return { apiKey };
  try {
    return { serviceAccount: JSON.parse(apiKey) as unknown };
  } catch {
    return { serviceAccount: {} }; // refused by the schema, which says what is missing
  }
}

export const Credential = z
  .object({
    id: Id("credential", examples.credential),
    provider: ProviderName,
    prefix: z.string().meta({ description: "How the secret begins; empty where it is short.", examples: ["sk_4f1"] }),
    details: z
      .record(z.string(), z.string())
      .meta({ description: "What of it is no secret.", examples: [{ accountSid: "AC0123" }] }),
    status: z.enum(["unverified", "verified", "invalid"]).meta({
      description: "`unverified`: the provider offers no way to ask, or could not be asked; the reason says which.",
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
        webhook: z.enum(["pending", "registered"]).meta({
          description: "Does the account tell us of its calls? Seconds after the key was saved it does.",
          examples: ["registered"],
        }),
      })
      .nullable()
      .meta({ description: "Of ultravox: your own account there, in which all is made from now on." }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Credential" });
export type Credential = z.output<typeof Credential>;

export const ProviderStatus = z
  .object({
    provider: ProviderName,
    credential: Credential.nullable().meta({ description: "Your own; null: none." }),
    usesShared: z.boolean().meta({
      description: "Is what the platform has used instead? Never once you have an Ultravox account of your own.",
      examples: [true],
    }),
  })
  .meta({ id: "ProviderStatus" });
export type ProviderStatus = z.output<typeof ProviderStatus>;
export const ProviderPage = pageOf(ProviderStatus);
