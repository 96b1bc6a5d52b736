import { join } from "node:path";
import { type Env, readEnv } from "../server/env.ts";
import { dataDir, type Kept } from "./data-dir.ts";
import { demoSubject } from "./demo-client.ts";
import { freePort } from "./ports.ts";
import { startPostgres } from "./postgres.ts";
import { startIdentity } from "./simulators/identity.ts";
import { startStorage } from "./simulators/storage.ts";
import { telnyxAccount } from "./simulators/telnyx.ts";
import { startUltravox } from "./simulators/ultravox/index.ts";
import { startVendors } from "./simulators/vendors.ts";

const clientsClaim = "https://patchbay.dev/clients";
const audience = "https://api.patchbay.dev";
const simulatorKey = "simulate.0123456789abcdef0123456789abcdef";
/** The key of a second account at the simulated provider, which a client may bring. */
const broughtKey = "brought1.0123456789abcdef0123456789abcdef";

export type Services = Awaited<ReturnType<typeof startServices>>;

type Start = {
  log: (line: string) => void;
  /** Called with the stop function of each service as soon as it runs. */
  onStarted: (stop: () => Promise<unknown>) => void;
};

/** Starts each service that the environment does not name: null for one that it names. */
export async function startServices({ log, onStarted }: Start) {
  const environment = process.env;
  const postgres = environment.DATABASE_URL ? null : await startPostgres({ dataDir: join(dataDir, "postgres"), log });
  if (postgres) onStarted(() => postgres.stop());
  const identity = environment.AUTH_ISSUER ? null : await startLocalIdentity();
  if (identity) onStarted(() => identity.close());
  const telnyx = telnyxAccount();
  const ultravox = environment.ULTRAVOX_API_KEY ? null : await startLocalUltravox(telnyx);
  if (ultravox) onStarted(() => ultravox.close());
  const files = { port: await freePort(4012), directory: join(dataDir, "files") };
  const storage = environment.S3_BUCKET ? null : await startStorage(files);
  if (storage) onStarted(() => storage.close());
  const vendors = environment.VENDOR_BASE_URLS ? null : await startVendors({ port: await freePort(4013) });
  if (vendors) onStarted(() => vendors.close());
  return { postgres, identity, telnyx, ultravox, storage, vendors };
}

async function startLocalIdentity() {
  const keyFile = join(dataDir, "identity.json");
  return startIdentity({ port: await freePort(4011), audience, claim: clientsClaim, keyFile });
}

async function startLocalUltravox(telnyx: ReturnType<typeof telnyxAccount>) {
  return startUltravox({
    telnyx,
    port: await freePort(4010),
    speed: Number(process.env.SIMULATOR_SPEED ?? 10),
    keepFile: join(dataDir, "simulator.json"),
    accounts: [
      { id: "7b1cf6a0-0d0f-4a52-9c5b-5b7f6f0f3a11", apiKey: simulatorKey, webhooks: [] },
      { id: "7b1cf6a0-0d0f-4a52-9c5b-5b7f6f0f3a12", apiKey: broughtKey, webhooks: [] },
    ],
  });
}

/** The configuration of the application: the simulated services, and over them what the environment sets. */
export function environmentOf({ postgres, identity, telnyx, ultravox, storage, vendors }: Services, kept: Kept): Env {
  return readEnv({
    LOG_LEVEL: "warn",
    OUTPUT_VALIDATION: "full",
    APP_SECRET: kept.appSecret,
    PLATFORM_SUBJECTS: demoSubject,
    VAULT_MASTER_KEY: kept.masterKey,
    ALLOW_PRIVATE_WEBHOOKS: "true",
    ...(postgres && { DATABASE_URL: postgres.url }),
    ...(identity && {
      AUTH_ISSUER: identity.issuer,
      AUTH_AUDIENCE: audience,
      AUTH_CLIENTS_CLAIM: clientsClaim,
      AUTH_JWKS_URL: identity.jwksUri,
    }),
    ...(ultravox && {
      ULTRAVOX_BASE_URL: ultravox.url,
      ULTRAVOX_API_KEY: simulatorKey,
      ULTRAVOX_WEBHOOK_SECRETS: kept.webhookSecret,
      TELNYX_PUBLIC_KEYS: telnyx.publicKey,
      SIP_TRUNK: "trunk.example",
    }),
    ...(storage && {
      S3_BUCKET: storage.bucket,
      S3_ENDPOINT: storage.url,
      S3_ACCESS_KEY_ID: storage.accessKeyId,
      S3_SECRET_ACCESS_KEY: storage.secretAccessKey,
      S3_FORCE_PATH_STYLE: "true",
    }),
    ...(vendors && { VENDOR_BASE_URLS: JSON.stringify(vendors.baseUrls) }),
    ...withoutEmpty(process.env),
  });
}

/** Registers our webhook at the simulated provider. */
export async function registerWebhook(simulatorUrl: string, url: string, secret: string) {
  const response = await fetch(`${simulatorUrl}/api/webhooks`, {
    method: "POST",
    headers: { "x-api-key": simulatorKey, "content-type": "application/json" },
    body: JSON.stringify({
      url,
      secrets: [secret],
      events: ["call.started", "call.joined", "call.ended", "call.billed"],
    }),
  });
  if (response.status !== 201) throw new Error(`The simulator refused our webhook: ${await response.text()}`);
}

const withoutEmpty = (source: Record<string, string | undefined>) =>
  Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ""));
