import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { migrate } from "../db/migrate.ts";
import { openDeps } from "../server/deps.ts";
import { drain } from "../server/drain.ts";
import { listen, portOf } from "../server/entry.ts";
import { type Env, EnvironmentProblem, roleUrls } from "../server/env.ts";
import { openHttp } from "../server/http.ts";
import { openWorkers } from "../server/workers.ts";
import { dataDir, type Kept, makeDataDir, readKept } from "./data-dir.ts";
import { demoClient } from "./demo-client.ts";
import { freePort } from "./ports.ts";
import type { SeededClient } from "./seed.ts";
import { environmentOf, registerWebhook, type Services, startServices } from "./services.ts";
import { SetupProblem } from "./simulators/setup-problem.ts";

const worldFile = join(dataDir, "world.json");

/** What `npm run demo`, `npm run token` and `npm run operate` need from a running local world. */
export type WorldFacts = {
  url: string;
  key: string;
  subject: string;
  clientId: string;
  tokenUrl: string | null;
  simulatorUrl: string | null;
  /** The embedded database; null where the environment names one. */
  databaseUrl: string | null;
  pid: number;
};

export type World = { facts: WorldFacts; lines: string[]; stop(): Promise<void> };

/**
 * Starts everything that Patchbay needs on one machine. What the environment names is used; the rest is simulated: the
 * database, the identity provider, the voice provider, the file storage, the vendors.
 */
export async function startWorld(log: (line: string) => void = () => {}): Promise<World> {
  await makeDataDir();
  const stops: (() => Promise<unknown>)[] = [];
  const onStarted = (stop: () => Promise<unknown>) => void stops.push(stop);
  const stop = async () => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  try {
    const kept = await readKept();
    const services = await startServices({ log, onStarted });
    const env = await withPort(environmentOf(services, kept), services, log);
    await migrate({ ownerUrl: env.DATABASE_URL, roles: roleUrls(env) });
    const { url, demo } = await startApplication({ env, kept, services, onStarted });
    const facts = factsOf(url, demo, services);
    await writeFile(worldFile, JSON.stringify(facts, null, 2), { mode: 0o600 });
    return { facts, lines: await describe(facts, env, services), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The port of PORT, or a free one. The simulated provider calls us at this address; a real one needs PUBLIC_URL. */
async function withPort(env: Env, { ultravox }: Services, log: (line: string) => void): Promise<Env> {
  const port = process.env.PORT ? env.PORT : await freePort(env.PORT);
  if (port !== env.PORT) log(`Port ${env.PORT} is taken; the API listens on ${port}.`);
  const publicUrl = env.PUBLIC_URL ?? (ultravox ? `http://${env.HOST}:${port}` : undefined);
  return { ...env, PORT: port, PUBLIC_URL: publicUrl };
}

type Application = {
  env: Env;
  kept: Kept;
  services: Services;
  onStarted: (stop: () => Promise<unknown>) => void;
};

async function startApplication({ env, kept, services, onStarted }: Application) {
  const deps = openDeps(env);
  onStarted(() => deps.close());
  const server = await listenOrExplain(openHttp(deps), env);
  onStarted(() => drain(server));
  const workers = await openWorkers(deps);
  onStarted(() => workers.stop());
  const url = `http://${env.HOST}:${portOf(server)}`;
  const { ultravox } = services;
  if (ultravox) await registerWebhook(ultravox.url, `${url}/api/v1/webhooks/ultravox`, kept.webhookSecret);
  return { url, demo: await demoClient(deps, kept) };
}

async function listenOrExplain(server: ReturnType<typeof openHttp>, env: Env) {
  // A failed listen is an event, so wait for both.
  const failed = once(server, "error").then(([error]) => {
    throw error.code === "EADDRINUSE" ? new SetupProblem(`Port ${env.PORT} is taken. Set another in PORT.`) : error;
  });
  failed.catch(() => {}); // handled in the race, or nothing failed
  return await Promise.race([listen(server, env), failed]);
}

function factsOf(url: string, demo: SeededClient, { postgres, identity, ultravox }: Services): WorldFacts {
  return {
    url,
    key: demo.key,
    subject: demo.subject,
    clientId: demo.clientId,
    tokenUrl: identity ? new URL("oauth/token", identity.issuer).href : null,
    simulatorUrl: ultravox?.url ?? null,
    databaseUrl: postgres?.url ?? null,
    pid: process.pid,
  };
}

async function describe(facts: WorldFacts, env: Env, { postgres, identity, storage }: Services): Promise<string[]> {
  const { subject, clientId } = facts;
  const token = await identity?.token({ sub: subject, clients: [clientId], expiresInSeconds: 12 * 3600 });
  const sourceOf = (isSimulated: boolean) => (isSimulated ? "simulated here" : "from the environment");
  return [
    "",
    `  Patchbay runs at   ${facts.url}`,
    `  REST               ${facts.url}/api/v1`,
    `  tRPC               ${facts.url}/trpc`,
    `  Reference          ${facts.url}/docs`,
    `  Health             ${facts.url}/health`,
    "",
    `  Database           ${postgres ? `embedded, stored in ${postgres.dataDir}` : "DATABASE_URL"}`,
    `  Identity provider  ${env.AUTH_ISSUER} (${sourceOf(facts.tokenUrl !== null)})`,
    `  Voice provider     ${env.ULTRAVOX_BASE_URL} (${sourceOf(facts.simulatorUrl !== null)})`,
    `  Files              ${storage ? `simulated here, stored in ${join(dataDir, "files")}` : env.S3_BUCKET}`,
    "",
    `  Demo client        ${clientId}`,
    `  API key            ${facts.key}`,
    ...(token ? [`  Token              ${token}`] : []),
    "",
    `  Try:  curl -H "Authorization: Bearer ${facts.key}" ${facts.url}/api/v1/billing/balance`,
    "  See a call from end to end:  npm run demo        Another token:  npm run token",
    "",
  ];
}

/** The facts of the running local world, or null. */
export async function runningWorld(): Promise<WorldFacts | null> {
  try {
    const facts = JSON.parse(await readFile(worldFile, "utf8")) as WorldFacts;
    const response = await fetch(`${facts.url}/health`, { signal: AbortSignal.timeout(2_000) });
    return response.ok ? facts : null;
  } catch {
    return null; // no file, or no server
  }
}

/** What another process needs in its environment to use the local world's database. */
export async function databaseVariables({ databaseUrl }: WorldFacts): Promise<Record<string, string>> {
  const { appSecret } = await readKept();
  return { APP_SECRET: appSecret, ...(databaseUrl ? { DATABASE_URL: databaseUrl } : {}) };
}

/** Runs a local command. A known problem is printed as one sentence, without a stack. */
export async function runCommand(work: () => Promise<void>) {
  try {
    await work();
  } catch (error) {
    console.error(error instanceof SetupProblem || error instanceof EnvironmentProblem ? error.message : error);
    process.exitCode = 1;
  }
}
