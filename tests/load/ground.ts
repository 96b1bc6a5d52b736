import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { migrate } from "../../db/migrate.ts";
import { startPostgres } from "../../dev/postgres.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv, roleUrls } from "../../server/env.ts";
import { type Child, startChild } from "./child.ts";

export type BenchOptions = {
  /** The measuring time of each row of the table, all rounds together. */
  seconds: number;
  /** Small numbers and few rounds: a check that everything works. */
  quick: boolean;
  /** The folder for profiles of our processes. */
  profiles: string | null;
  say(line: string): void;
  /** Reports something too slow or broken: the run continues, and fails at its end. */
  object(sentence: string): void;
};

/** The environment of the parts: a durable database, the simulated provider, and child processes. */
export type Ground = Awaited<ReturnType<typeof openGround>>;

const providerKey = "benchacc.0123456789abcdef0123456789abcdef";
const crashMs = 20_000;
const ticksPerSecond = 100; // USER_HZ, the same on every Linux that Node supports

type GroundOptions = {
  /** Of Postgres. */
  settings?: Record<string, string>;
  /** Keeps the data and the children's output. */
  keep?: boolean;
};

/** A fresh, migrated Postgres with default settings and fsync on. `stops` collects stop functions, called in reverse order. */
export async function openGround(
  stops: (() => Promise<unknown>)[],
  { settings = {}, keep = false }: GroundOptions = {},
) {
  const home = await mkdtemp(join(tmpdir(), "patchbay-bench-"));
  if (!keep) stops.push(() => rm(home, { recursive: true, force: true }));
  await chmod(home, 0o755); // as root, Postgres runs as another user and needs access
  const dataDir = join(home, "data");
  let server = await startPostgres({ dataDir, port: 0, settings });
  stops.push(() => server.stop());
  const simulator = await startChild("./simulator.ts", { PROVIDER_KEY: providerKey });
  stops.push(() => simulator.stop());

  const environment = {
    PORT: "0",
    LOG_LEVEL: "info",
    DATABASE_URL: server.url,
    APP_SECRET: randomBytes(32).toString("base64"),
    VAULT_MASTER_KEY: randomBytes(32).toString("base64"),
    AUTH_ISSUER: "https://nobody.example/",
    AUTH_AUDIENCE: "https://api.patchbay.test",
    AUTH_CLIENTS_CLAIM: "https://patchbay.test/clients",
    ULTRAVOX_BASE_URL: await simulator.ask<string>("url"),
    ULTRAVOX_API_KEY: providerKey,
    ULTRAVOX_WEBHOOK_SECRETS: "bench-webhook-secret",
    SIP_TRUNK: "trunk.example",
    ALLOW_PRIVATE_WEBHOOKS: "true",
    RATE_LIMIT_MULTIPLIER: "10000",
  };
  const roles = roleUrls({ DATABASE_URL: server.url, APP_SECRET: environment.APP_SECRET });
  await migrate({ ownerUrl: server.url, roles });
  const deps = openDeps(readEnv({ ...environment, LOG_LEVEL: "warn" }));
  stops.push(() => deps.close());
  const owner = postgres(server.url, { max: 2, onnotice: () => {} });
  stops.push(() => owner.end({ timeout: 5 }));
  let postmaster = await postmasterOf(server.dataDir);

  return {
    home,
    environment,
    roles,
    deps,
    owner,
    /** The simulated provider. */
    simulator,
    /** Microseconds of processor time that the server and all its backends have used so far. null where /proc is missing. */
    postgresCpu: () => familyCpu(postmaster),
    /** `immediate` is a crash: the next start recovers from the WAL. `fast` is a clean stop. */
    async restart(how: "immediate" | "fast") {
      if (how === "immediate") await crash(postmaster);
      else await server.stop();
      server = await startPostgres({ dataDir, port: server.port, settings });
      if (server.reused) throw new Error("Postgres did not end.");
      postmaster = await postmasterOf(server.dataDir);
    },
    async child(file: string, more: Record<string, string> = {}, output: string | null = null): Promise<Child> {
      const child = await startChild(file, { ...environment, ...more }, output);
      stops.push(() => child.stop());
      await child.ask("ready");
      return child;
    },
  };
}

const postmasterOf = async (dataDir: string) =>
  Number((await readFile(join(dataDir, "postmaster.pid"), "utf8")).split("\n", 1)[0]);

/** Ends our Postgres as a crash does, and waits until it has ended. */
async function crash(pid: number) {
  process.kill(pid, "SIGQUIT");
  const until = performance.now() + crashMs;
  while (isAlive(pid)) {
    if (performance.now() > until) throw new Error(`Postgres (pid ${pid}) did not end within ${crashMs / 1000} s.`);
    await sleep(10);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** A process, its children, and those of its children that have ended and were waited for. */
async function familyCpu(parent: number): Promise<number | null> {
  const pids = await readdir("/proc").catch(() => null);
  if (!pids) return null;
  const all = await Promise.all(pids.filter((name) => /^\d+$/.test(name)).map(statOf));
  let ticks = 0;
  for (const stat of all) {
    if (stat?.pid === parent) ticks += stat.own + stat.reaped;
    if (stat?.parent === parent) ticks += stat.own;
  }
  return (ticks * 1_000_000) / ticksPerSecond;
}

async function statOf(pid: string) {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null); // it may have ended
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" "); // the name may contain spaces and brackets
  const field = (place: number) => Number(fields[place - 3]);
  return { pid: Number(pid), parent: field(4), own: field(14) + field(15), reaped: field(16) + field(17) };
}
