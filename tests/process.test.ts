import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { agent, house, phone, until } from "./house.ts";

const h = await house();
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** The production entry point, as a process of its own over the same database and the same simulated provider. */
async function start(env: Record<string, string | undefined> = {}) {
  const port = await freePort();
  const own = {
    ...h.environment,
    PORT: String(port),
    LOG_LEVEL: "info",
    ...env,
  };
  const given = Object.fromEntries(
    Object.entries(own)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, String(value)]),
  );
  const child = spawn(process.execPath, ["server/main.ts"], {
    env: { PATH: process.env.PATH, ...given },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const output = { out: "", err: "" };
  child.stdout!.on("data", (chunk) => (output.out += chunk));
  child.stderr!.on("data", (chunk) => (output.err += chunk));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  return { child, output, exited, url: `http://127.0.0.1:${port}` };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address ? address.port : 0;
}

const ready = (url: string) =>
  until(
    () =>
      fetch(`${url}/health/ready`).then(
        ({ ok }) => ok,
        () => false,
      ),
    20,
  );

test("a process told to stop finishes the request that is under way, takes no new one, and ends with 0", async () => {
  const { body: made } = await h.post("/agents", agent);
  const running = await start();
  await ready(running.url);
  const slow = fetch(`${running.url}/api/v1/calls`, {
    method: "POST",
    headers: { authorization: `Bearer ${h.ada.key}`, "content-type": "application/json" },
    body: JSON.stringify({ agentId: made.data.id, medium: phone("+14155550007") }), // the provider answers after 3 s
  });
  await until(async () => (await h.owner`select 1 from calls where status = 'queued'`).length > 0);
  running.child.kill("SIGTERM");
  expect((await slow).status).toBe(201);
  expect(await running.exited).toBe(0);
  await expect(fetch(`${running.url}/health/live`)).rejects.toThrow();
  await h.owner`delete from graphile_worker._private_jobs`;
  expect(running.output.out).toContain('"stopped"');
});

test("a process without its environment names every variable that is missing, and nothing else happens", async () => {
  const { exited, output } = await start({ APP_SECRET: undefined, DATABASE_URL: undefined, PORT: "many" });
  expect(await exited).toBe(1);
  expect(output.err).toContain("APP_SECRET is not set.");
  expect(output.err).toContain("DATABASE_URL is not set.");
  expect(output.err).toContain("PORT: must be a whole number");
  expect(output.err).not.toContain("    at ");
});

test("health tells of the database, of migrations not yet run, and of jobs that wait", async () => {
  const well = await h.get("/health");
  expect(well).toMatchObject({
    status: 200,
    body: { status: "ok", database: { reachable: true }, oldestDueJobSeconds: 0 },
  });
  expect(well.body.migrations.applied).toBe(well.body.migrations.known);

  await h.owner`select graphile_worker.add_job('calls.sweep', '{}', run_at => now() - interval '10 minutes')`;
  const waiting = await h.get("/health");
  expect(waiting).toMatchObject({ status: 200, body: { status: "degraded" } });
  expect(waiting.body.oldestDueJobSeconds).toBeGreaterThanOrEqual(600);

  const [last] =
    await h.owner`delete from drizzle.__drizzle_migrations where id = (select max(id) from drizzle.__drizzle_migrations) returning *`;
  expect(await h.get("/health")).toMatchObject({ status: 503, body: { status: "down" } });
  await h.owner`insert into drizzle.__drizzle_migrations ${h.owner(last!, "id", "hash", "created_at")}`;
  expect((await h.get("/health")).status).toBe(200);
});

test("health says so when the database cannot be reached, and the process lives", async () => {
  const [current] = await h.owner`select current_database() as name`;
  const elsewhere = new URL(h.database.url);
  elsewhere.pathname = "/postgres";
  const root = postgres(elsewhere.href, { max: 1, onnotice: () => {} });
  await root.unsafe(`alter database ${current!.name} allow_connections false`);
  try {
    await root`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${current!.name} and usename = 'patchbay_house'`;
    expect(await h.get("/health")).toMatchObject({
      status: 503,
      body: { status: "down", database: { reachable: false } },
    });
    expect((await h.get("/health/live")).status).toBe(200);
  } finally {
    await root.unsafe(`alter database ${current!.name} allow_connections true`);
    await root.end();
  }
  expect((await h.get("/health")).status).toBe(200);
});

test("an installation that was not told its public address serves its reference all the same", async () => {
  const document = await fetch(`${h.url}/openapi.json`);
  expect(document.status).toBe(200);
  expect(await document.json()).toMatchObject({
    openapi: expect.stringMatching(/^3\.1/),
    servers: [{ url: `${h.url}/api/v1` }],
  });
  for (const path of ["/docs", "/docs/scalar.js", "/docs/errors"])
    expect((await fetch(h.url + path)).status, path).toBe(200);
});
