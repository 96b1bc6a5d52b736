import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ConnectionLost, type OpenDatabase, openDatabase } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { clients } from "../../db/schema/clients.ts";
import { eventCounters } from "../../db/schema/events.ts";
import { noDurability, startPostgres } from "../../dev/postgres.ts";
import { roleUrls } from "../../server/env.ts";
import { agent, phone, startTestApp, type TestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";
import { silentProxy } from "../support/silent-proxy.ts";

type Proxy = Awaited<ReturnType<typeof silentProxy>>;

let proxy: Proxy;
let h: TestApp;
let db: OpenDatabase;
const seconds = (since: number) => (performance.now() - since) / 1000;

beforeAll(async () => {
  h = await startTestApp({
    workers: true,
    laneWaitMs: 5_000,
    databaseUrl: async (url) => {
      proxy = await silentProxy(new URL(url));
      return proxy.url;
    },
  });
  db = openDatabase({ ...roles(), size: 4, statementTimeoutMs: 2_000, quickMs: 1_000, connectMs: 2_000 });
});

const roles = () => roleUrls({ DATABASE_URL: proxy.url, APP_SECRET: h.environment.APP_SECRET! });

afterEach(() => proxy.speak());

afterAll(async () => {
  proxy.speak();
  await db?.close();
  setTimeout(() => proxy.close(), 2_000).unref();
});

describe("while the database is silent", () => {
  test("every request gets 503 within seconds, and the service recovers when the database responds", async () => {
    const made = await h.post("/agents", agent);
    expect(made.status).toBe(201);
    const requests = () => [
      h.get("/agents"),
      h.get(`/agents/${made.body.data.id}`),
      h.get("/calls"),
      h.get("/billing/ledger"),
      h.post("/agents", agent),
      h.post("/calls", { agentId: made.body.data.id, medium: phone("+14155550123") }),
      h.query("agents.list", {}),
      h.get("/agents", { key: `pb_live_${"x".repeat(32)}` }),
      h.post("/webhooks/ultravox", { event: "call.ended" }, { key: null }),
    ];
    proxy.silence();
    for (let round = 0; round < 2; round++) {
      const began = performance.now();
      const responses = await Promise.all(requests());
      for (const [index, { status, body }] of responses.slice(0, -1).entries()) {
        expect({ index, status, body }).toMatchObject({ index, status: 503 });
      }
      expect(seconds(began), `round ${round}`).toBeLessThan(5.5);
    }
    proxy.speak();
    await until(async () => (await h.get("/agents")).status === 200, 20);
    const call = await h.post("/calls", { agentId: made.body.data.id, medium: phone("+14155550123") });
    expect(call.status).toBe(201);
    await until(async () => (await h.get(`/calls/${call.body.data.id}`)).body.data.costMicros !== null, 90);
  }, 240_000);

  test("health responds within seconds: not ready, and alive", async () => {
    expect((await h.get("/health/ready", { key: null })).status).toBe(200);
    proxy.silence();
    for (const path of ["/health", "/health/ready"]) {
      const began = performance.now();
      const { status, body } = await h.get(path, { key: null });
      expect([status, body.status], path).toEqual([503, "down"]);
      expect(seconds(began)).toBeLessThan(5);
    }
    expect((await h.get("/health/live", { key: null })).status).toBe(200);
    proxy.speak();
    await until(async () => (await h.get("/health/ready", { key: null })).status === 200, 20);
  }, 120_000);
});

describe("a connection that missed a deadline", () => {
  const clientId = newId("client");
  beforeAll(() => db.asSystem((tx) => tx.insert(clients).values({ id: clientId, name: "silent" })));
  const put = (subjectId: string, wait: () => Promise<void> | void) =>
    db.asClient({ clientId }, async (tx) => {
      await tx.insert(eventCounters).values({ subjectId, sequence: 1 });
      await wait();
    });
  const written = async (subjectId: string) =>
    (await h.owner`select from event_counters where subject_id = ${subjectId}`).length;

  test("is closed and never used again, even when the server continues", async () => {
    const pids = new Set<number>();
    const look = async () => {
      const [row] = await db.asClient({ clientId }, (tx) =>
        tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`),
      );
      return row!.pid;
    };
    for (let i = 0; i < 4; i++) pids.add(await look());
    proxy.silence();
    const began = performance.now();
    await expect(look()).rejects.toBeInstanceOf(ConnectionLost);
    expect(seconds(began)).toBeLessThan(4);
    proxy.speak();
    await until(
      () =>
        look().then(
          () => true,
          () => false,
        ),
      10,
    );
    expect(pids).not.toContain(await look());
  });

  test("within a transaction loses the transaction: nothing is written", async () => {
    const began = performance.now();
    const work = db.asClient({ clientId }, async (tx) => {
      await tx.insert(eventCounters).values({ subjectId: "middle", sequence: 1 });
      proxy.silence();
      await tx.execute(sql`select 1`);
    });
    await expect(work).rejects.toBeInstanceOf(ConnectionLost);
    expect(seconds(began)).toBeLessThan(5);
    proxy.speak();
    await sleep(300);
    expect(await written("middle")).toBe(0);
  });

  test("in the commit leaves the outcome unknown, with the error of a lost connection", async () => {
    await expect(put("commit", () => proxy.silence())).rejects.toBeInstanceOf(ConnectionLost);
    proxy.speak();
    await until(async () => (await written("commit")) === 1, 10); // the server had received it
  });

  test("a transaction that takes too long is ended, whatever it waits for", async () => {
    const short = openDatabase({ ...roles(), size: 2, transactionMs: 500 });
    try {
      const work = short.asClient({ clientId }, async (tx) => {
        await tx.insert(eventCounters).values({ subjectId: "long", sequence: 1 });
        await sleep(2_000);
      });
      await expect(work).rejects.toBeInstanceOf(ConnectionLost);
      await sleep(100);
      expect(await written("long")).toBe(0);
    } finally {
      await short.close();
    }
  });

  test("a statement in a transaction fails within five seconds, long before its own deadline", async () => {
    const patient = openDatabase({ ...roles(), size: 2 });
    try {
      const work = patient.asClient({ clientId }, async (tx) => {
        await tx.execute(sql`select 1`);
        proxy.silence();
        await tx.execute(sql`select 1`);
      });
      const began = performance.now();
      await expect(work).rejects.toBeInstanceOf(ConnectionLost);
      expect(seconds(began)).toBeLessThan(5);
      const again = performance.now();
      await expect(patient.asClient({ clientId }, (tx) => tx.execute(sql`select 1`))).rejects.toThrow();
      expect(seconds(again), "once the silence is known").toBeLessThan(0.5);
      proxy.speak();
      await until(
        () =>
          patient
            .asClient({ clientId }, (tx) => tx.execute(sql`select 1`))
            .then(
              () => true,
              () => false,
            ),
        10,
      );
    } finally {
      await patient.close();
    }
  });

  test("a slow statement alone is not ended, however silent the other connections are", async () => {
    const patient = openDatabase({ ...roles(), size: 2 });
    try {
      const slow = patient.asClient({ clientId }, (tx) => tx.execute(sql`select pg_sleep(6)`));
      await expect(slow).resolves.toBeDefined();
    } finally {
      await patient.close();
    }
  }, 20_000);

  test("a slow statement within the server's timeout does not count as silence", async () => {
    const slow = db.asClient({ clientId }, (tx) => tx.execute(sql`select pg_sleep(1.5)`));
    await expect(slow).resolves.toBeDefined();
  });
});

test.each(["migrate.ts", "operate/main.ts deliveries status"])(
  "the command %s ends with an error while the database is silent",
  async (command) => {
    proxy.silence();
    const began = performance.now();
    const [file, ...flags] = command.split(" ");
    const env = { PATH: process.env.PATH, DATABASE_URL: proxy.url, APP_SECRET: randomBytes(32).toString("base64") };
    const ended = await new Promise<{ code: number; err: string }>((resolve) => {
      execFile(process.execPath, program(`server/${file}`, ...flags), { env, timeout: 50_000 }, (error, _out, err) =>
        resolve({ code: error ? Number(error.code) : 0, err }),
      );
    });
    expect(ended.code).toBe(1);
    expect(ended.err).toMatch(/did not answer|unreachable|CONNECT_TIMEOUT/);
    expect(seconds(began)).toBeLessThan(30);
  },
  60_000,
);

test("requests to a server stopped by a signal fail within seconds, and succeed when it continues", async () => {
  const directory = await mkdtemp(join(tmpdir(), "patchbay-stopped-"));
  await chmod(directory, 0o755); // as root, Postgres runs as another user
  const dataDir = join(directory, "data");
  const server = await startPostgres({ dataDir, port: 0, settings: noDurability, database: "postgres" });
  const stopped = openDatabase({ tenantUrl: server.url, systemUrl: server.url, quickMs: 1_000, connectMs: 2_000 });
  const look = () => stopped.asSystem((tx) => tx.execute<{ pid: number }>(sql`select pid from pg_stat_activity`));
  const pids = [Number((await readFile(join(dataDir, "postmaster.pid"), "utf8")).split("\n")[0])];
  for (const { pid } of await look()) pids.push(pid);
  try {
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    for (let round = 0; round < 2; round++) {
      const began = performance.now();
      const refused = await Promise.allSettled(Array.from({ length: 20 }, look));
      expect(refused.filter(({ status }) => status === "fulfilled")).toEqual([]);
      expect(seconds(began)).toBeLessThan(9);
    }
  } finally {
    for (const pid of pids) process.kill(pid, "SIGCONT");
  }
  await until(
    () =>
      look().then(
        () => true,
        () => false,
      ),
    20,
  );
  await stopped.close();
  await server.stop();
  await rm(directory, { recursive: true, force: true });
}, 120_000);
