import { createHmac, hkdfSync } from "node:crypto";
import { z } from "zod";
import "../routers/core/validation-messages.ts";
import { type Block, readBlock } from "../routers/ports/addresses.ts";
import { credentialProviders } from "../routers/ports/vendors.ts";

const text = z.string().min(1);
const flag = z.enum(["true", "false"]).transform((value) => value === "true");
const whole = (from: number, to: number) =>
  z.string().regex(/^\d+$/, "must be a whole number").transform(Number).pipe(z.number().min(from).max(to));
const key32 = z
  .string()
  .refine(
    (value) => Buffer.from(value, "base64").length === 32,
    "must be 32 random bytes in base64 (`openssl rand -base64 32`)",
  );

/** Comma-separated values. */
const list = text.transform((value) =>
  value
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean),
);
/** No alias: it may later name another key, and rows name the key that they need. */
const kmsKey = z
  .string()
  .regex(/^(arn:[\w-]+:kms:[\w-]+:\d*:key\/)?[\w-]{1,64}$/, "must be the id or the ARN of a KMS key, not an alias");

/** 32 bytes in base64, after the name of its account at the voice provider unless that is the shared one. */
const telnyxKey = /^(?:(pacc_[a-z0-9_]{1,40}):)?([A-Za-z0-9+/]{43}=)$/;

const Account = z.strictObject({
  id: z.string().regex(/^pacc_[a-z0-9_]{1,40}$/),
  apiKey: text,
  webhookSecrets: z.array(text).min(1),
});

/** Comma-separated blocks of addresses. */
function readBlocks(value: string, context: z.RefinementCtx): Block[] {
  try {
    return value.split(",").map((part) => readBlock(part.trim()));
  } catch {
    context.addIssue("must be a list of blocks such as 10.1.0.0/16, separated by commas");
    return z.NEVER;
  }
}

/** Every environment variable. `.env.example` lists the same names; a test compares the two. */
export const Env = z.object({
  HOST: text.default("127.0.0.1"),
  PORT: whole(0, 65_535).default(3000),
  PUBLIC_URL: z.url().optional(),
  TRUSTED_PROXIES: text.transform(readBlocks).default([]),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
  SHUTDOWN_GRACE_SECONDS: whole(0, 300).default(5),
  OUTPUT_VALIDATION: z.enum(["shape", "full"]).default("shape"),
  RATE_LIMIT_MULTIPLIER: whole(1, 10_000).default(1),

  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  DATABASE_TENANT_URL: z.url().optional(),
  DATABASE_SYSTEM_URL: z.url().optional(),
  DATABASE_WORKER_URL: z.url().optional(),
  DATABASE_POOL_SIZE: whole(2, 200).default(10),

  APP_SECRET: key32,
  VAULT_MASTER_KEY: key32.optional(),
  VAULT_PREVIOUS_MASTER_KEYS: list.pipe(z.array(key32)).default([]),
  VAULT_KMS_KEY_ID: kmsKey.optional(),
  VAULT_KMS_PREVIOUS_KEY_IDS: list.pipe(z.array(kmsKey)).default([]),
  VAULT_KMS_REGION: text.optional(),
  VAULT_KMS_ENDPOINT: z.url().optional(),

  AUTH_ISSUER: z.url().refine((value) => value.endsWith("/"), "must end with a slash, as Auth0's issuers do"),
  AUTH_AUDIENCE: text,
  AUTH_CLIENTS_CLAIM: z.url(),
  AUTH_JWKS_URL: z.url().optional(),

  ULTRAVOX_BASE_URL: z.url().default("https://api.ultravox.ai"),
  ULTRAVOX_API_KEY: text,
  ULTRAVOX_WEBHOOK_SECRETS: list,
  ULTRAVOX_ACCOUNTS: z
    .string()
    .transform((value, context) => {
      try {
        return JSON.parse(value) as unknown;
      } catch {
        context.addIssue("must be a JSON list");
        return z.NEVER;
      }
    })
    .pipe(z.array(Account))
    .default([]),
  ULTRAVOX_WEBHOOK_PAST_SECONDS: whole(1, 86_400).default(60),
  ULTRAVOX_WEBHOOK_FUTURE_SECONDS: whole(1, 86_400).default(60),
  STRIPE_WEBHOOK_SECRETS: list.default([]),
  TELNYX_PUBLIC_KEYS: list
    .pipe(z.array(z.string().regex(telnyxKey, "must be comma-separated base64 keys, or pacc_name:key pairs")))
    .transform((keys) =>
      keys.map((key) => telnyxKey.exec(key)).map((parts) => ({ account: parts?.[1], key: parts?.[2] ?? "" })),
    )
    .default([]),
  SIP_TRUNK: text.optional(),
  VENDOR_BASE_URLS: z
    .string()
    .transform((value, context) => {
      try {
        return JSON.parse(value) as unknown;
      } catch {
        context.addIssue("must be a JSON object");
        return z.NEVER;
      }
    })
    .pipe(z.partialRecord(z.enum(credentialProviders), z.url()))
    .default({}),

  S3_BUCKET: text.optional(),
  S3_REGION: text.default("us-east-1"),
  S3_ENDPOINT: z.url().optional(),
  S3_PUBLIC_ENDPOINT: z.url().optional(),
  S3_ACCESS_KEY_ID: text.optional(),
  S3_SECRET_ACCESS_KEY: text.optional(),
  S3_FORCE_PATH_STYLE: flag.default(false),

  EVENT_BUS_NAME: text.optional(),
  EVENT_BUS_REGION: text.optional(),
  EVENT_BUS_ENDPOINT: z.url().optional(),
  EVENT_BUS_SOURCE: z
    .string()
    .regex(/^(?!aws\.)[\w./-]{1,256}$/, "must consist of letters, digits and ._-/, and must not begin with aws.")
    .default("patchbay"),

  PLATFORM_SUBJECTS: list.default([]),
  INTERNAL_SERVICE_TOKENS: list
    .transform((services) =>
      services.map((service) => {
        const [name = "", token = "", ...limit] = service.split(":");
        return { name, token, scopes: limit.length > 0 ? limit.join(":").split(" ").filter(Boolean) : null };
      }),
    )
    .refine(
      (services) => services.every(({ name, token }) => /^[a-z0-9-]{1,40}$/.test(name) && token.length >= 32),
      "must be comma-separated name:token pairs, with tokens of 32 characters or more",
    )
    .refine(
      (services) =>
        services.every(({ scopes }) => scopes?.every((scope) => /^internal:(read|write)$/.test(scope)) ?? true),
      "has an unknown scope. After name:token: may come internal:read, internal:write, or both, separated by a space",
    )
    .default([]),

  ALLOW_PRIVATE_WEBHOOKS: flag.default(false),
  PRIVATE_ADDRESSES_ALLOWED: text.transform(readBlocks).default([]),
  WORKER_PROMPT_JOBS: whole(1, 500).default(150),
  WORKER_DELIVERY_JOBS: whole(1, 1_000).default(200),
  WORKER_SLOW_JOBS: whole(1, 100).default(10),
});
export type Env = z.output<typeof Env>;

const DatabaseEnv = Env.pick({
  DATABASE_URL: true,
  DATABASE_TENANT_URL: true,
  DATABASE_SYSTEM_URL: true,
  DATABASE_WORKER_URL: true,
  APP_SECRET: true,
});
export type DatabaseEnv = z.output<typeof DatabaseEnv>;

/** The problems of the environment, one line per variable. */
export class EnvironmentProblem extends Error {
  constructor(lines: string[]) {
    super(`The environment is not complete:\n${lines.map((line) => `  ${line}`).join("\n")}\nSee .env.example.`);
    this.name = "EnvironmentProblem";
  }
}

/** Throws EnvironmentProblem. */
export function readEnv(source: Source): Env {
  const given = notEmpty(source);
  const read = Env.safeParse(given);
  const issues = [...(read.error?.issues ?? []), ...missingKeys(given)];
  if (read.success && issues.length === 0) return read.data;
  throw problemOf(issues, given);
}

/** For a command that needs only the database. Throws EnvironmentProblem. */
export function readDatabaseEnv(source: Source): DatabaseEnv {
  const given = notEmpty(source);
  const read = DatabaseEnv.safeParse(given);
  if (read.success) return read.data;
  throw problemOf(read.error.issues, given);
}

type Source = Record<string, string | undefined>;

/** Empty variables count as not set. */
const notEmpty = (source: Source) =>
  Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ""));

function problemOf(issues: readonly { path: readonly PropertyKey[]; message: string }[], given: object) {
  return new EnvironmentProblem(
    issues.map(({ path, message }) => {
      const name = String(path[0]);
      return name in given ? `${name}: ${message}` : `${name} is not set.`;
    }),
  );
}

/** A key service or a key of the environment is required, and a region for every AWS service in use. */
function missingKeys(given: Record<string, string | undefined>) {
  const keyIds = [given.VAULT_KMS_KEY_ID, given.VAULT_KMS_PREVIOUS_KEY_IDS];
  const missing = [
    ...(given.VAULT_KMS_KEY_ID ? [] : ["VAULT_MASTER_KEY"]),
    ...(keyIds.some(Boolean) ? ["VAULT_KMS_REGION"] : []),
    ...(given.EVENT_BUS_NAME ? ["EVENT_BUS_REGION"] : []),
  ].filter((name) => !given[name]);
  return missing.map((name) => ({ path: [name], message: "is not set" }));
}

/** The three logins. One that is not set is on the owner's server, with a password derived from the secret. */
export function roleUrls(env: DatabaseEnv) {
  const derived = (role: string) => {
    const url = new URL(env.DATABASE_URL);
    url.username = role;
    url.password = createHmac("sha256", derive(env.APP_SECRET, "database roles")).update(role).digest("hex");
    return url.href;
  };
  return {
    tenantUrl: env.DATABASE_TENANT_URL ?? derived("patchbay_tenant"),
    systemUrl: env.DATABASE_SYSTEM_URL ?? derived("patchbay_system"),
    workerUrl: env.DATABASE_WORKER_URL ?? derived("patchbay_worker"),
  };
}

/** A separate key for each purpose. */
export function derive(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", Buffer.from(secret, "base64"), "patchbay", purpose, 32));
}
