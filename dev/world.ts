import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join, resolve } from "node:path";
import { eq } from "drizzle-orm";
import { migrate } from "../db/migrate.ts";
import { apiKeys, clients } from "../db/schema/clients.ts";
import { createApiKey } from "../routers/api-keys/service.ts";
import { scopes } from "../routers/core/scopes.ts";
import { type Deps, openDeps } from "../server/deps.ts";
import { drain } from "../server/drain.ts";
import { listen, portOf } from "../server/entry.ts";
import { type Env, EnvironmentProblem, readEnv, roleUrls } from "../server/env.ts";
import { openHttp } from "../server/http.ts";
import { openWorkers } from "../server/workers.ts";
import { startPostgres } from "./postgres.ts";
import { type SeededClient, seedClient } from "./seed.ts";
import { startIdentity } from "./simulators/identity.ts";
import { SetupProblem } from "./simulators/setup-problem.ts";
import { startStorage } from "./simulators/storage.ts";
import { telnyxAccount } from "./simulators/telnyx.ts";
import { startUltravox } from "./simulators/ultravox/index.ts";
import { startVendors } from "./simulators/vendors.ts";

export const dataDir = resolve(process.env.PATCHBAY_DATA ?? ".data");
const worldFile = join(dataDir, "world.json");
const keptFile = join(dataDir, "kept.json");
const clientsClaim = "https://patchbay.dev/clients";
const audience = "https://api.patchbay.dev";
/** The owner of the demo client, and the operator of a laptop's installation. */
const demoSubject = "auth0|demo";
const simulatorKey = "simulate.0123456789abcdef0123456789abcdef";
/** Of an account there that is nobody's yet: a client may bring it as his own. */
const broughtKey = "brought1.0123456789abcdef0123456789abcdef";

/** What outlives the process: a laptop's own secrets, and the demo client's key. */
type Kept = { appSecret: string; masterKey: string; webhookSecret: string; demo?: SeededClient };

/** What `npm run demo`, `npm run token` and `npm run operate` need to know of a running world. */
export type WorldFacts = {
  url: string;
  key: string;
  subject: string;
  clientId: string;
  tokenUrl: string | null;
  simulatorUrl: string | null;
  /** The database of the laptop; null where the environment names one. */
  databaseUrl: string | null;
  pid: number;
};

export type World = { facts: WorldFacts; lines: string[]; stop(): Promise<void> };

/**
 * Everything that Patchbay needs, on one machine: what the environment names is used, what it does not name is
 * simulated here: the database, the identity provider, the voice provider, the file storage.
 */
export async function startWorld(say: (line: string) => void = () => {}): Promise<World> {
  await makeDataDir();
  const kept = await readKept();
  const given = process.env;
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  try {
    const postgres = given.DATABASE_URL ? null : await startPostgres({ dataDir: join(dataDir, "postgres"), log: say });
    if (postgres) stops.push(() => postgres.stop());
    const identityPort = await freePort(4011);
    const identity = given.AUTH_ISSUER
      ? null
      : await startIdentity({
          port: identityPort,
          audience,
          claim: clientsClaim,
          keyFile: join(dataDir, "identity.json"),
        });
    if (identity) stops.push(() => identity.close());
    const telnyx = telnyxAccount();
    const simulated = given.ULTRAVOX_API_KEY
      ? null
      : await startUltravox({
          telnyx,
          port: await freePort(4010),
          speed: Number(given.SIMULATOR_SPEED ?? 10),
          keepFile: join(dataDir, "simulator.json"),
          accounts: [
            { id: "7b1cf6a0-0d0f-4a52-9c5b-5b7f6f0f3a11", apiKey: simulatorKey, webhooks: [] },
            { id: "7b1cf6a0-0d0f-4a52-9c5b-5b7f6f0f3a12", apiKey: broughtKey, webhooks: [] },
          ],
        });
    if (simulated) stops.push(() => simulated.close());

    const storage = given.S3_BUCKET
      ? null
      : await startStorage({ port: await freePort(4012), directory: join(dataDir, "files") });
    if (storage) stops.push(() => storage.close());

    const vendors = given.VENDOR_BASE_URLS ? null : await startVendors({ port: await freePort(4013) });
    if (vendors) stops.push(() => vendors.close());

    const env = readEnv({
      LOG_LEVEL: "warn",
      APP_SECRET: kept.appSecret,
      PLATFORM_SUBJECTS: demoSubject,
      VAULT_MASTER_KEY: kept.masterKey,
      ALLOW_PRIVATE_WEBHOOKS: "true",
      ...(postgres ? { DATABASE_URL: postgres.url } : {}),
      ...(identity
        ? {
            AUTH_ISSUER: identity.issuer,
            AUTH_AUDIENCE: audience,
            AUTH_CLIENTS_CLAIM: clientsClaim,
            AUTH_JWKS_URL: identity.jwksUri,
          }
        : {}),
      ...(simulated
        ? {
            ULTRAVOX_BASE_URL: simulated.url,
            ULTRAVOX_API_KEY: simulatorKey,
            ULTRAVOX_WEBHOOK_SECRETS: kept.webhookSecret,
            TELNYX_PUBLIC_KEYS: telnyx.publicKey,
            SIP_TRUNK: "trunk.example",
          }
        : {}),
      ...(storage
        ? {
            S3_BUCKET: storage.bucket,
            S3_ENDPOINT: storage.url,
            S3_ACCESS_KEY_ID: storage.accessKeyId,
            S3_SECRET_ACCESS_KEY: storage.secretAccessKey,
            S3_FORCE_PATH_STYLE: "true",
          }
        : {}),
      ...(vendors ? { VENDOR_BASE_URLS: JSON.stringify(vendors.baseUrls) } : {}),
      ...notEmpty(given),
    });
    const port = given.PORT ? env.PORT : await freePort(env.PORT);
    if (port !== env.PORT) say(`Port ${env.PORT} is taken: the API listens on ${port}.`);
    await migrate({ ownerUrl: env.DATABASE_URL, roles: roleUrls(env) });
    // The simulated provider reaches us here; a real one wants PUBLIC_URL.
    const publicUrl = env.PUBLIC_URL ?? (simulated ? `http://${env.HOST}:${port}` : undefined);
    const deps = openDeps({ ...env, PORT: port, PUBLIC_URL: publicUrl });
    stops.push(() => deps.close());
    const server = await listenOrSay(openHttp(deps), { ...env, PORT: port });
    stops.push(() => drain(server));
    const workers = await openWorkers(deps);
    stops.push(() => workers.stop());
    const url = `http://${env.HOST}:${portOf(server)}`;
    if (simulated) await registerWebhook(simulated.url, `${url}/api/v1/webhooks/ultravox`, kept.webhookSecret);
    const demo = await demoClient(deps, kept);

    const facts: WorldFacts = {
      url,
      key: demo.key,
      subject: demo.subject,
      clientId: demo.clientId,
      tokenUrl: identity ? new URL("oauth/token", identity.issuer).href : null,
      simulatorUrl: simulated?.url ?? null,
      databaseUrl: postgres?.url ?? null,
      pid: process.pid,
    };
    await writeFile(worldFile, JSON.stringify(facts, null, 2), { mode: 0o600 });
    const token = identity
      ? await identity.token({ sub: demo.subject, clients: [demo.clientId], expiresInSeconds: 12 * 3600 })
      : null;
    const files = storage ? join(dataDir, "files") : null;
    return { facts, lines: describe(facts, env, { database: postgres?.dataDir ?? null, files, token }), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The world that runs already, if one does and answers. */
export async function runningWorld(): Promise<WorldFacts | null> {
  try {
    const facts = JSON.parse(await readFile(worldFile, "utf8")) as WorldFacts;
    const answer = await fetch(`${facts.url}/health`, { signal: AbortSignal.timeout(2_000) });
    return answer.ok ? facts : null;
  } catch {
    return null; // no file, or nobody there: then there is none
  }
}

/** What a process of its own must know to speak to the world's database, beside what the environment says. */
export async function databaseVariables({ databaseUrl }: WorldFacts): Promise<Record<string, string>> {
  const { appSecret } = await readKept();
  return { APP_SECRET: appSecret, ...(databaseUrl ? { DATABASE_URL: databaseUrl } : {}) };
}

/** Runs a command of the laptop; a known problem is one sentence, without a stack. */
export async function orSay(work: () => Promise<void>) {
  try {
    await work();
  } catch (error) {
    console.error(error instanceof SetupProblem || error instanceof EnvironmentProblem ? error.message : error);
    process.exitCode = 1;
  }
}

function describe(
  facts: WorldFacts,
  env: Env,
  { database, files, token }: { database: string | null; files: string | null; token: string | null },
): string[] {
  const own = (simulated: boolean) => (simulated ? "simulated here" : "from the environment");
  return [
    "",
    `  Patchbay runs at   ${facts.url}`,
    `  REST               ${facts.url}/api/v1`,
    `  tRPC               ${facts.url}/trpc`,
    `  Reference          ${facts.url}/docs`,
    `  Health             ${facts.url}/health`,
    "",
    `  Database           ${database ? `embedded, kept in ${database}` : "DATABASE_URL"}`,
    `  Identity provider  ${env.AUTH_ISSUER} (${own(facts.tokenUrl !== null)})`,
    `  Voice provider     ${env.ULTRAVOX_BASE_URL} (${own(facts.simulatorUrl !== null)})`,
    `  Files              ${files ? `simulated here, kept in ${files}` : env.S3_BUCKET}`,
    "",
    `  Demo client        ${facts.clientId}`,
    `  API key            ${facts.key}`,
    ...(token ? [`  Token              ${token}`] : []),
    "",
    `  Try:  curl -H "Authorization: Bearer ${facts.key}" ${facts.url}/api/v1/billing/balance`,
    "  See a call from end to end:  npm run demo        Another token:  npm run token",
    "",
  ];
}

async function demoClient(deps: Deps, kept: Kept): Promise<SeededClient> {
  const { demo } = kept;
  const found =
    demo && (await deps.db.asSystem((tx) => tx.select().from(clients).where(eq(clients.id, demo.clientId))));
  const keep = async (made: SeededClient) => {
    await writeFile(keptFile, JSON.stringify({ ...kept, demo: made }, null, 2), { mode: 0o600 });
    return made;
  };
  if (demo && found?.length) return (await opensAll(deps, demo)) ? demo : keep(await withNewKey(deps, demo));
  const words = { name: "Demo", subject: demoSubject, email: "demo@example.com" };
  return keep(await seedClient(deps, { ...words, credits: 100_000 }));
}

/** A key keeps the scopes that it was made with, and there may be more of them by now. */
async function opensAll({ db }: Deps, { clientId, keyId }: SeededClient): Promise<boolean> {
  const [key] = await db.asClient({ clientId }, (tx) => tx.select().from(apiKeys).where(eq(apiKeys.id, keyId)));
  return scopes.every((scope) => key?.scopes.includes(scope));
}

async function withNewKey({ db, auth }: Deps, demo: SeededClient): Promise<SeededClient> {
  const { clientId, userId } = demo;
  const made = await db.asClient({ clientId }, (tx) =>
    createApiKey(tx, { name: "Demo", scopes: [...scopes] }, { id: userId, scopes: ["*"] }, auth.hashKey),
  );
  return { ...demo, key: made.key, keyId: made.id };
}

async function registerWebhook(simulator: string, url: string, secret: string) {
  const response = await fetch(`${simulator}/api/webhooks`, {
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

async function makeDataDir() {
  try {
    await mkdir(dataDir, { recursive: true });
    await writeFile(join(dataDir, ".writable"), "");
  } catch {
    throw new SetupProblem(
      `${dataDir} cannot be written to: make it writable, or name another folder in PATCHBAY_DATA.`,
    );
  }
}

async function readKept(): Promise<Kept> {
  const text = await readFile(keptFile, "utf8").catch(() => null);
  if (text) return JSON.parse(text) as Kept;
  const random = () => randomBytes(32).toString("base64");
  const kept = { appSecret: random(), masterKey: random(), webhookSecret: randomBytes(24).toString("hex") };
  await writeFile(keptFile, JSON.stringify(kept, null, 2), { mode: 0o600 });
  return kept;
}

async function listenOrSay(server: ReturnType<typeof openHttp>, env: Env) {
  // Listening fails by an event, so both are waited for.
  const failed = once(server, "error").then(([error]) => {
    throw error.code === "EADDRINUSE" ? new SetupProblem(`Port ${env.PORT} is taken: name another in PORT.`) : error;
  });
  failed.catch(() => {}); // heard in the race, or nothing failed
  return await Promise.race([listen(server, env), failed]);
}

/** The wanted port, or any free one. */
async function freePort(wanted: number): Promise<number> {
  const port = (await tryPort(wanted)) ?? (await tryPort(0));
  if (port === null) throw new SetupProblem("No free port was found on 127.0.0.1.");
  return port;
}

async function tryPort(port: number): Promise<number | null> {
  const server: Server = createServer();
  return new Promise((done) => {
    server.once("error", () => done(null));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : null));
    });
  });
}

const notEmpty = (source: Record<string, string | undefined>) =>
  Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ""));
