import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
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
  const own = {
    ...h.environment,
    PORT: "0",
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
  return { child, output, exited };
}

/** Where a process listens, once it can serve. */
async function ready({ output }: Awaited<ReturnType<typeof start>>): Promise<string> {
  const port = await until(async () => /"port":(\d+)\}.*"listening"/.exec(output.out)?.[1]);
  const url = `http://127.0.0.1:${port}`;
  await until(() =>
    fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  return url;
}

test("a process told to stop finishes the request that is under way, takes no new one, and ends with 0", async () => {
  const { body: made } = await h.post("/agents", agent);
  const running = await start();
  const url = await ready(running);
  await h.simulator.faults({ create: { slow: 1, slowMs: 6_000 } });
  let isAnswered = false;
  const slow = fetch(`${url}/api/v1/calls`, {
    method: "POST",
    headers: { authorization: `Bearer ${h.ada.key}`, "content-type": "application/json" },
    body: JSON.stringify({ agentId: made.data.id, medium: phone("+14155550100") }),
  }).finally(() => {
    isAnswered = true;
  });
  await until(async () => (await h.owner`select 1 from calls`).length > 0);
  expect(isAnswered).toBe(false);
  running.child.kill("SIGTERM");
  expect((await slow).status).toBe(201);
  expect(await running.exited).toBe(0);
  await expect(fetch(`${url}/health/live`)).rejects.toThrow();
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

/** Not "down", which it also says when the database is only slow. */
const health = () =>
  until(async () => {
    const answer = await h.get("/health");
    return answer.status === 200 && answer;
  });

test("health tells of the database, of migrations not yet run, and of jobs that wait", async () => {
  const well = await health();
  expect(well).toMatchObject({
    status: 200,
    body: { status: "ok", database: { reachable: true }, oldestDueJobSeconds: 0 },
  });
  expect(well.body.migrations.applied).toBe(well.body.migrations.known);

  await h.owner`select graphile_worker.add_job('calls.sweep', '{}', run_at => now() - interval '10 minutes')`;
  const waiting = await health();
  expect(waiting).toMatchObject({ status: 200, body: { status: "degraded" } });
  expect(waiting.body.oldestDueJobSeconds).toBeGreaterThanOrEqual(600);

  const [last] =
    await h.owner`delete from drizzle.__drizzle_migrations where id = (select max(id) from drizzle.__drizzle_migrations) returning *`;
  expect(await h.get("/health")).toMatchObject({ status: 503, body: { status: "down" } });
  await h.owner`insert into drizzle.__drizzle_migrations ${h.owner(last!, "id", "hash", "created_at")}`;
  await health();
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
  await health();
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
