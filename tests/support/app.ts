import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AnyTRPCRouter } from "@trpc/server";
import postgres from "postgres";
import { afterAll, inject } from "vitest";
import { type SeededClient, seedClient } from "../../dev/seed.ts";
import { startIdentity } from "../../dev/simulators/identity.ts";
import { startStorage } from "../../dev/simulators/storage.ts";
import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { startVendors } from "../../dev/simulators/vendors.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openHttp } from "../../server/http.ts";
import { openLog } from "../../server/log.ts";
import { openWorkers } from "../../server/workers.ts";
import { cloneDatabase } from "./database.ts";

export const clientsClaim = "https://patchbay.test/clients";
const audience = "https://api.patchbay.test";
export const serviceToken = "orchestrator-0123456789abcdef0123456789abcdef";
const platformKey = "simulate.0123456789abcdef0123456789abcdef";
const otherKey = "otheracc.0123456789abcdef0123456789abcdef";
/** Unused accounts at the voice provider: a client may bring one of them. */
export const broughtKeys = [
  "brought1.0123456789abcdef0123456789abcdef",
  "brought2.0123456789abcdef0123456789abcdef",
] as const;

export type TestResponse = {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a response of unknown form
  body: any;
};
type Ask = { key?: string | null; idempotencyKey?: string; headers?: Record<string, string> };
type Options = {
  env?: Record<string, string>;
  workers?: boolean;
  speed?: number;
  seed?: number;
  credits?: number;
  log?: string[];
  /** How long a request waits for a database connection. Long, since many test files share the machine. */
  laneWaitMs?: number;
  /** A proxy to the database. */
  databaseUrl?: (url: string) => Promise<string>;
  /** Another router than the application's, for tests of what all procedures share. */
  router?: AnyTRPCRouter;
  /** Other internal procedures than the product's own. */
  internal?: AnyTRPCRouter;
};

/**
 * The whole application for one test file: its own database, the application on a real port, the simulated provider that
 * calls its webhooks, an identity provider that signs real tokens, and two clients that must never see each other.
 */
export async function startTestApp(options: Options = {}) {
  const database = await cloneDatabase();
  const owner = postgres(database.url, { max: 4, onnotice: () => {} });
  const identity = await startIdentity({ port: 0, audience, claim: clientsClaim });
  const simulator = await startUltravox({
    port: 0,
    seed: options.seed ?? 1,
    speed: options.speed ?? 100,
    accounts: [
      { id: "platform", apiKey: platformKey, webhooks: [] },
      { id: "other", apiKey: otherKey, webhooks: [] },
      ...broughtKeys.map((apiKey, index) => ({ id: `brought-${index + 1}`, apiKey, webhooks: [] })),
    ],
  });
  const directory = await mkdtemp(join(tmpdir(), "patchbay-storage-"));
  const storage = await startStorage({ directory });
  const vendors = await startVendors();
  const environment: Record<string, string> = {
    PORT: "0",
    LOG_LEVEL: options.log ? "debug" : "silent",
    DATABASE_URL: (await options.databaseUrl?.(database.url)) ?? database.url,
    SHUTDOWN_GRACE_SECONDS: "0",
    OUTPUT_VALIDATION: "full",
    APP_SECRET: inject("appSecret"),
    VAULT_MASTER_KEY: Buffer.alloc(32, 7).toString("base64"),
    AUTH_ISSUER: identity.issuer,
    AUTH_AUDIENCE: audience,
    AUTH_CLIENTS_CLAIM: clientsClaim,
    AUTH_JWKS_URL: identity.jwksUri,
    ULTRAVOX_BASE_URL: simulator.url,
    ULTRAVOX_API_KEY: platformKey,
    ULTRAVOX_WEBHOOK_SECRETS: "platform-webhook-secret",
    ULTRAVOX_ACCOUNTS: JSON.stringify([
      { id: "pacc_other", apiKey: otherKey, webhookSecrets: ["other-webhook-secret"] },
    ]),
    SIP_TRUNK: "trunk.example",
    VENDOR_BASE_URLS: JSON.stringify(vendors.baseUrls),
    S3_BUCKET: storage.bucket,
    S3_ENDPOINT: storage.url,
    S3_ACCESS_KEY_ID: storage.accessKeyId,
    S3_SECRET_ACCESS_KEY: storage.secretAccessKey,
    S3_FORCE_PATH_STYLE: "true",
    PLATFORM_SUBJECTS: "auth0|operator",
    INTERNAL_SERVICE_TOKENS: `orchestrator:${serviceToken}`,
    ALLOW_PRIVATE_WEBHOOKS: "true",
    DATABASE_POOL_SIZE: "6",
    ...options.env,
  };
  const env = readEnv(environment);
  const log = openLog(env.LOG_LEVEL, { write: (line: string) => void options.log?.push(line) });
  const deps = openDeps(env, { log, laneWaitMs: options.laneWaitMs ?? 30_000 });
  const server = openHttp(deps, options.router, options.internal);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await registerWebhook(simulator.url, platformKey, `${url}/api/v1/webhooks/ultravox`, "platform-webhook-secret");
  await registerWebhook(simulator.url, otherKey, `${url}/api/v1/webhooks/ultravox`, "other-webhook-secret");

  const ada = await seedClient(deps, { name: "Ada", subject: "auth0|ada", credits: options.credits ?? 1000 });
  const bob = await seedClient(deps, { name: "Bob", subject: "auth0|bob", credits: options.credits ?? 1000 });
  const workers = options.workers ? await openWorkers(deps) : null;

  async function send(method: string, path: string, body?: unknown, ask: Ask = {}): Promise<TestResponse> {
    const key = ask.key === undefined ? ada.key : ask.key;
    const response = await fetch(url + (/^\/(trpc|health|internal|admin)(\/|$)/.test(path) ? path : `/api/v1${path}`), {
      method,
      headers: {
        ...(key ? { authorization: `Bearer ${key}` } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(ask.idempotencyKey ? { "idempotency-key": ask.idempotencyKey } : {}),
        ...ask.headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return {
      status: response.status,
      headers: response.headers,
      body: text && isJson ? JSON.parse(text) : text || null,
    };
  }

  async function close() {
    await workers?.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await deps.close();
    await simulator.close();
    await vendors.close();
    await storage.close();
    await rm(directory, { recursive: true, force: true });
    await identity.close();
    await owner.end();
    await database.drop();
  }
  afterAll(close, 90_000);

  return {
    url,
    server,
    env,
    /** The same as texts: for a separate process. */
    environment,
    deps,
    owner,
    database,
    identity,
    simulator: simulatorOf(simulator.url),
    /** The file storage: its requests and its faults. */
    storage,
    /** The vendors that verify credentials: their requests. */
    vendors,
    ada,
    bob,
    send,
    get: (path: string, ask?: Ask) => send("GET", path, undefined, ask),
    post: (path: string, body?: unknown, ask?: Ask) => send("POST", path, body, ask),
    patch: (path: string, body?: unknown, ask?: Ask) => send("PATCH", path, body, ask),
    remove: (path: string, ask?: Ask) => send("DELETE", path, undefined, ask),
    query: (procedure: string, input: unknown, ask?: Ask) =>
      send("GET", `/trpc/${procedure}?input=${encodeURIComponent(JSON.stringify(input))}`, undefined, ask),
    mutate: (procedure: string, input: unknown, ask?: Ask) => send("POST", `/trpc/${procedure}`, input, ask),
    /** A token of an operator. */
    operator: () => identity.token({ sub: "auth0|operator", clients: [] }),
    token: (who: SeededClient, more: Record<string, unknown> = {}) =>
      identity.token({ sub: who.subject, clients: [who.clientId], ...more }),
  };
}

export type TestApp = Awaited<ReturnType<typeof startTestApp>>;

async function registerWebhook(simulator: string, apiKey: string, url: string, secret: string) {
  const response = await fetch(`${simulator}/api/webhooks`, {
    method: "POST",
    headers: { "x-api-key": apiKey, "content-type": "application/json" },
    body: JSON.stringify({
      url,
      secrets: [secret],
      events: ["call.started", "call.joined", "call.ended", "call.billed"],
    }),
  });
  if (response.status !== 201) throw new Error(`the simulator refused our webhook: ${await response.text()}`);
}

function simulatorOf(url: string) {
  const ask = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(url + path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    if (!response.ok) throw new Error(`simulator ${path}: ${response.status} ${await response.text()}`);
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  };
  return {
    url,
    status: () => ask("GET", "/_sim/state"),
    requests: () => ask("GET", "/_sim/requests"),
    faults: (plan: unknown) => ask("PUT", "/_sim/faults", plan),
    control: (path: string, body?: unknown) => ask("POST", `/_sim/${path}`, body ?? {}),
  };
}

export const agent = { name: "Reception", systemPrompt: "You answer for a bakery. Be brief.", maxDurationSeconds: 120 };
export const phone = (to: string) => ({ type: "phone", to, from: "+14155550199" });

/** Waits until `look` returns something other than null, undefined or false, or fails after the timeout. */
export async function until<T>(look: () => Promise<T>, seconds = 30): Promise<Exclude<T, null | undefined | false>> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (seen) return seen as Exclude<T, null | undefined | false>;
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain for: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
