import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { agent, phone, startTestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";

const h = await startTestApp();
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** The production entry point in a separate process, with the same database and the same simulated provider. */
async function start(env: Record<string, string | undefined> = {}, flags: string[] = []) {
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
  const entry = flags.length > 0 ? [...flags, "server/main.ts"] : program("server/main.ts");
  const child = spawn(process.execPath, entry, {
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

test("a stopped process finishes the open request, accepts no new one, and exits with 0", async () => {
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

test.each([
  ["a rejection", "Promise.reject(new Error('left alone'))"],
  ["an exception", "throw new Error('left alone')"],
])(
  "%s that nothing catches is logged as fatal; open requests finish, and the process exits with 1",
  async (_, code) => {
    const { body: made } = await h.post("/agents", agent);
    const running = await start({}, ["--import", `data:text/javascript,process.on('SIGUSR2', () => { ${code} })`]);
    const url = await ready(running);
    await h.simulator.faults({ create: { slow: 1, slowMs: 3_000 } });
    const calls = async () => (await h.owner`select 1 from calls`).length;
    const before = await calls();
    const slow = fetch(`${url}/api/v1/calls`, {
      method: "POST",
      headers: { authorization: `Bearer ${h.ada.key}`, "content-type": "application/json" },
      body: JSON.stringify({ agentId: made.data.id, medium: phone("+14155550100") }),
    });
    await until(async () => (await calls()) > before);
    running.child.kill("SIGUSR2");
    expect((await slow).status).toBe(201);
    expect(await running.exited).toBe(1);
    expect(running.output.out).toMatch(/"level":"fatal".*left alone.*"uncaught error; the process stops"/);
    expect(running.output.out).toContain('"stopped"');
    await h.owner`delete from graphile_worker._private_jobs`;
  },
);

test("a process without its environment names every variable that is missing, and nothing else happens", async () => {
  const { exited, output } = await start({ APP_SECRET: undefined, DATABASE_URL: undefined, PORT: "many" });
  expect(await exited).toBe(1);
  expect(output.err).toContain("APP_SECRET is not set.");
  expect(output.err).toContain("DATABASE_URL is not set.");
  expect(output.err).toContain("PORT: must be a whole number");
  expect(output.err).not.toContain("    at ");
});

/** Closes every connection, until it is switched to forward to the database. */
async function closedDoor() {
  const { hostname, port } = new URL(h.environment.DATABASE_URL!);
  let isOpen = false;
  const door = createServer((socket) => {
    if (!isOpen) return void socket.resetAndDestroy();
    const line = connect({ host: hostname, port: Number(port) });
    for (const [one, other] of [
      [socket, line],
      [line, socket],
    ] as const)
      one.on("error", () => other.destroy()).on("close", () => other.destroy());
    socket.pipe(line).pipe(socket);
  });
  door.listen(0, "127.0.0.1");
  await once(door, "listening");
  const url = new URL(h.environment.DATABASE_URL!);
  url.host = `127.0.0.1:${(door.address() as AddressInfo).port}`;
  return {
    url: url.href,
    open: () => {
      isOpen = true;
    },
    [Symbol.dispose]: () => void door.close(),
  };
}

test("a process without a database reports down with the reason, and starts its work when there is one", async () => {
  using door = await closedDoor();
  const running = await start({ DATABASE_URL: door.url });
  const port = await until(async () => /"port":(\d+)\}.*"listening"/.exec(running.output.out)?.[1]);
  await until(async () => /"level":"error".*ECONNRESET.*workers not started/.test(running.output.out));
  const down = await fetch(`http://127.0.0.1:${port}/health/ready`);
  const told = (await down.json()) as { status: string };
  expect([down.status, told.status]).toEqual([503, "down"]);
  door.open();
  await ready(running);
  await until(async () => running.output.out.includes("pool-slow"));
  running.child.kill("SIGTERM");
  expect(await running.exited).toBe(0);
});

test("a process whose logins are refused logs it, and ends when it is stopped", async () => {
  const running = await start({ APP_SECRET: Buffer.alloc(32, 9).toString("base64") });
  await until(async () => /password authentication failed for user/.test(running.output.out));
  running.child.kill("SIGTERM");
  expect(await running.exited).toBe(0);
});

test("a port in use, and a Node that is too old, are reported in a sentence", async () => {
  const taken = await start({ PORT: new URL(h.url).port, HOST: "127.0.0.1" });
  expect(await taken.exited).toBe(1);
  expect(taken.output.err).toMatch(/^127\.0\.0\.1:\d+ is already in use\. Set HOST or PORT to another value\.\n$/);
  const old = await start({}, [
    "--import",
    "data:text/javascript,Object.defineProperty(process.versions, 'node', { value: '20.20.2' })",
  ]);
  expect(await old.exited).toBe(1);
  expect(old.output.err).toMatch(/^Patchbay needs Node 22 or newer; this is 20\.20\.2\. .*\n$/);
});

/** Not "down", which is also the status when the database is only slow. */
const health = () =>
  until(async () => {
    const answer = await h.get("/health");
    return answer.status === 200 && answer;
  });

test("health reports the database, pending migrations, and waiting jobs", async () => {
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

test("health reports an unreachable database, and the process lives", async () => {
  const [current] = await h.owner`select current_database() as name`;
  const elsewhere = new URL(h.database.url);
  elsewhere.pathname = "/postgres";
  const root = postgres(elsewhere.href, { max: 1, onnotice: () => {} });
  await root.unsafe(`alter database ${current!.name} allow_connections false`);
  try {
    await root`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${current!.name} and usename = 'patchbay_system'`;
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

test("an installation without PUBLIC_URL serves its reference", async () => {
  const document = await fetch(`${h.url}/openapi.json`);
  expect(document.status).toBe(200);
  expect(await document.json()).toMatchObject({
    openapi: expect.stringMatching(/^3\.1/),
    servers: [{ url: `${h.url}/api/v1` }],
  });
  for (const path of ["/docs", "/docs/scalar.js", "/docs/errors"])
    expect((await fetch(h.url + path)).status, path).toBe(200);
});
