import { createHmac, hkdfSync } from "node:crypto";
import { z } from "zod";

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

const Account = z.strictObject({
  id: z.string().regex(/^pacc_[a-z0-9_]{1,40}$/),
  apiKey: text,
  webhookSecrets: z.array(text).min(1),
});

/** Everything that an installation may say. `.env.example` lists the same names; a test compares the two. */
export const Env = z.object({
  HOST: text.default("127.0.0.1"),
  PORT: whole(0, 65_535).default(3000),
  PUBLIC_URL: z.url().optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),

  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  DATABASE_TENANT_URL: z.url().optional(),
  DATABASE_HOUSE_URL: z.url().optional(),
  DATABASE_WORKER_URL: z.url().optional(),
  DATABASE_POOL_SIZE: whole(2, 200).default(10),

  APP_SECRET: key32,
  VAULT_MASTER_KEY: key32,

  AUTH_ISSUER: z.url().refine((value) => value.endsWith("/"), "must end with a slash, as Auth0's issuers do"),
  AUTH_AUDIENCE: text,
  AUTH_CLIENTS_CLAIM: z.url(),
  AUTH_JWKS_URL: z.url().optional(),

  ULTRAVOX_BASE_URL: z.url().default("https://api.ultravox.ai"),
  ULTRAVOX_API_KEY: text,
  ULTRAVOX_WEBHOOK_SECRETS: text.transform((value) =>
    value
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean),
  ),
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
  SIP_TRUNK: text.optional(),

  ALLOW_PRIVATE_WEBHOOKS: flag.default(false),
  WORKER_PROMPT_JOBS: whole(1, 500).default(150),
  WORKER_SLOW_JOBS: whole(1, 100).default(5),
});
export type Env = z.output<typeof Env>;

/** What is wrong with the environment, a line per variable. */
export class EnvironmentProblem extends Error {
  constructor(lines: string[]) {
    super(`The environment is not complete:\n${lines.map((line) => `  ${line}`).join("\n")}\nSee .env.example.`);
    this.name = "EnvironmentProblem";
  }
}

/** Empty variables count as not set. Throws EnvironmentProblem. */
export function readEnv(source: Record<string, string | undefined>): Env {
  const given = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ""));
  const read = Env.safeParse(given);
  if (read.success) return read.data;
  throw new EnvironmentProblem(
    read.error.issues.map(({ path, message }) => {
      const name = String(path[0]);
      return name in given ? `${name}: ${message}` : `${name} is not set.`;
    }),
  );
}

/** The three logins. Those not given are those of the owner's server, with passwords derived from the secret. */
export function roleUrls(
  env: Pick<Env, "DATABASE_URL" | "DATABASE_TENANT_URL" | "DATABASE_HOUSE_URL" | "DATABASE_WORKER_URL" | "APP_SECRET">,
) {
  const derived = (role: string) => {
    const url = new URL(env.DATABASE_URL);
    url.username = role;
    url.password = createHmac("sha256", derive(env.APP_SECRET, "database roles")).update(role).digest("hex");
    return url.href;
  };
  return {
    tenantUrl: env.DATABASE_TENANT_URL ?? derived("patchbay_tenant"),
    houseUrl: env.DATABASE_HOUSE_URL ?? derived("patchbay_house"),
    workerUrl: env.DATABASE_WORKER_URL ?? derived("patchbay_worker"),
  };
}

/** A key of its own for each purpose. */
export function derive(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", Buffer.from(secret, "base64"), "patchbay", purpose, 32));
}
