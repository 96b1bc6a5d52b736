import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import fs from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type LocalPostgres, noDurability, type PostgresOptions, startPostgres } from "../../dev/postgres.ts";
import { SetupProblem } from "../../dev/simulators/setup-problem.ts";

type Started = { pid: number; port: number; url: string; reused: boolean };

const isRoot = process.getuid?.() === 0;
const holders: ChildProcess[] = [];
const servers: Server[] = [];
const sockets: Socket[] = [];
let home: string;
let dataDir: string;

beforeAll(async () => {
  home = await fs.mkdtemp(join(tmpdir(), "patchbay-postgres-"));
  // As root, Postgres runs as another user, who needs access.
  await fs.chmod(home, 0o755);
  dataDir = join(home, "data");
});
afterEach(async () => {
  for (const holder of holders.splice(0)) await ended(holder, "SIGKILL");
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) await new Promise((closed) => server.close(closed));
  for (const dir of [dataDir, join(home, "fresh")]) {
    if (existsSync(join(dir, "postmaster.pid"))) await (await start({ dataDir: dir })).stop();
  }
});
afterAll(async () => {
  await fs.rm(home, { recursive: true, force: true });
});

function start(options: Partial<PostgresOptions> = {}): Promise<LocalPostgres> {
  return startPostgres({ dataDir, port: 0, settings: noDurability, ...options });
}

/** Another process that starts Postgres, exits when its stdin gets data, and prints a line when it is interrupted. */
async function startElsewhere(dir = dataDir): Promise<{ holder: ChildProcess; started: Started }> {
  const program = `
    import { startPostgres } from ${JSON.stringify(new URL("../../dev/postgres.ts", import.meta.url).href)};
    const started = await startPostgres(${JSON.stringify({ dataDir: dir, port: 0, settings: noDurability })});
    process.stdin.on("data", () => process.exit(0));
    process.on("SIGINT", () => console.log("interrupted"));
    console.log(JSON.stringify(started));
  `;
  const holder = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["pipe", "pipe", "inherit"],
    // A separate process group, as in a terminal: see the test of Ctrl-C.
    detached: true,
  });
  holders.push(holder);
  const line = await nextLine(holder);
  return { holder, started: { ...JSON.parse(line), pid: postmaster(dir) } };
}

async function nextLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error("the child has no output");
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) return line;
  throw new Error("the child has ended without output");
}

async function ended(child: ChildProcess, signal?: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((done) => child.once("exit", done));
  if (signal) child.kill(signal);
  await exit;
}

function postmaster(dir = dataDir): number {
  return Number(readFileSync(join(dir, "postmaster.pid"), "utf8").split("\n")[0]);
}

/** A zombie does not count as running. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return process.platform !== "linux" || readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  return await new Promise<boolean>((known) => {
    socket.once("connect", () => known(true)).once("error", () => known(false));
  }).finally(() => socket.destroy());
}

/** Another program on that port, which listens and never responds. */
async function occupy(port: number): Promise<number> {
  const server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((listening, failed) => server.once("error", failed).listen(port, "127.0.0.1", listening));
  servers.push(server);
  return (server.address() as AddressInfo).port;
}

async function ask<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  return await work(sql).finally(() => sql.end());
}

test("it has its own database, UTF-8 and the given settings", async () => {
  const pg = await start({ database: "Odd-name" });
  expect(pg).toMatchObject({ dataDir, reused: false });
  const [row] = await ask(
    pg.url,
    (sql) => sql`
      select current_database() as name, current_setting('listen_addresses') as address, datlocprovider as provider,
        datlocale as locale, pg_encoding_to_char(encoding) as encoding, current_setting('fsync') as fsync,
        current_setting('max_connections') as connections
      from pg_database where datname = current_database()`,
  );
  const spoken = { provider: "b", locale: "C.UTF-8", encoding: "UTF8" };
  expect(row).toEqual({ name: "Odd-name", address: "127.0.0.1", ...spoken, fsync: "off", connections: "200" });
  const guessed = Object.assign(new URL(pg.url), { password: "guessed" });
  await expect(ask(guessed.href, (sql) => sql`select 1`)).rejects.toThrow(/password authentication failed/);
  expect((await fs.stat(join(dataDir, "patchbay.password"))).mode & 0o777).toBe(0o600);
  await pg.stop();
});

test("data survives a restart, and a stop leaves no process", async () => {
  const first = await start();
  await ask(first.url, (sql) => sql`create table kept as select 42 as answer`);
  const pid = postmaster();
  expect(isRunning(pid)).toBe(true);
  await first.stop();
  expect(isRunning(pid)).toBe(false);
  expect(await listens(first.port)).toBe(false);
  expect(await fs.readdir(home)).toEqual(["data"]);
  await first.stop();

  const second = await start();
  expect(second.reused).toBe(false);
  expect(await ask(second.url, (sql) => sql`select answer from kept`)).toEqual([{ answer: 42 }]);
  await first.stop();
  expect(isRunning(postmaster()), "the handle of a former server stops only that one").toBe(true);
  await second.stop();
});

test("a server whose owner was killed is found again with its data, and can be stopped", async () => {
  const { holder, started } = await startElsewhere();
  await ask(started.url, (sql) => sql`create table orphaned as select 7 as answer`);
  await ended(holder, "SIGKILL");
  expect(isRunning(started.pid)).toBe(true);

  const found = await start();
  expect(found).toMatchObject({ reused: true, port: started.port, url: started.url });
  expect(await ask(found.url, (sql) => sql`select answer from orphaned`)).toEqual([{ answer: 7 }]);
  await found.stop();
  expect(isRunning(started.pid)).toBe(false);
  expect(await listens(found.port)).toBe(false);
});

test("a server that was killed together with its owner is started again", async () => {
  const { holder, started } = await startElsewhere();
  process.kill(started.pid, "SIGKILL");
  await ended(holder, "SIGKILL");
  const again = await start();
  expect(again.reused).toBe(false);
  expect(await ask(again.url, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }]);
  await again.stop();
});

test("the start waits for the last process of a killed server", async () => {
  const { holder, started } = await startElsewhere();
  const sql = postgres(started.url, { max: 1 });
  const [row] = await sql`select pg_backend_pid() as pid`;
  process.kill(row?.pid, "SIGSTOP");
  process.kill(started.pid, "SIGKILL");
  await ended(holder, "SIGKILL");
  const starting = start();
  expect(await Promise.race([starting, sleep(3_000, "waiting")])).toBe("waiting");
  process.kill(row?.pid, "SIGCONT");
  const again = await starting;
  await sql.end({ timeout: 0 });
  expect(again.reused).toBe(false);
  await again.stop();
});

test("two processes that start a new directory concurrently share one server", async () => {
  const dir = join(home, "fresh");
  const [one, other] = await Promise.all([startElsewhere(dir), startElsewhere(dir)]);
  expect(one.started.url).toBe(other.started.url);
  expect([one.started.reused, other.started.reused].sort()).toEqual([false, true]);
  expect(await ask(one.started.url, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }]);
});

test("a lock left by a dead process is taken over", async () => {
  const child = spawn(process.execPath, ["-e", ""]);
  await ended(child);
  await fs.writeFile(`${dataDir}.lock`, `${child.pid} left behind`);
  const pg = await start();
  await pg.stop();
  expect(existsSync(`${dataDir}.lock`)).toBe(false);
});

test("a process that exits stops its server", async () => {
  const { holder, started } = await startElsewhere();
  holder.stdin?.write("exit\n");
  await ended(holder);
  await expect.poll(() => isRunning(started.pid), { timeout: 30_000 }).toBe(false);
});

test("Ctrl-C reaches the owner and not the server", async () => {
  const { holder, started } = await startElsewhere();
  if (!holder.pid) throw new Error("the holder has not started");
  process.kill(-holder.pid, "SIGINT");
  expect(await nextLine(holder)).toBe("interrupted");
  expect(await ask(started.url, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }]);
});

test("another process with the server's old pid is not stopped", async () => {
  // Of the same user as the server: otherwise Postgres notices that the pid belongs to another user.
  const bystander = spawn("sleep", ["60"], isRoot ? { uid: (await fs.stat(dataDir)).uid } : {});
  holders.push(bystander);
  const gone = await occupy(0);
  const lines = [bystander.pid, dataDir, 1, gone, "", "127.0.0.1", "", "ready", ""];
  await fs.writeFile(join(dataDir, "postmaster.pid"), lines.join("\n"));
  const pg = await start();
  expect(pg.reused).toBe(false);
  await pg.stop();
  expect([bystander.exitCode, bystander.signalCode]).toEqual([null, null]);
});

test("a taken port gives a one-sentence error", async () => {
  const port = await occupy(0);
  const refused = start({ port });
  await expect(refused).rejects.toBeInstanceOf(SetupProblem);
  await expect(refused).rejects.toThrow(
    `Port ${port} cannot be used for Postgres (EADDRINUSE). Stop the program that uses it`,
  );
});

test("without a given port it takes another one when its default is taken, and logs it", async () => {
  // Another program may have the port already, and so may a connection that started there, open or just closed.
  await occupy(54320).catch((error) => expect(error).toMatchObject({ code: "EADDRINUSE" }));
  const said: string[] = [];
  const pg = await start({ port: undefined, log: (line) => said.push(line) });
  expect(pg.port).not.toBe(54320);
  expect(said).toEqual([`Port 54320 is taken; Postgres listens on ${pg.port}.`]);
  await pg.stop();
});

test("a failed start quotes Postgres' output", async () => {
  const refused = start({ settings: { no_such_setting: "1" } });
  await expect(refused).rejects.toBeInstanceOf(SetupProblem);
  await expect(refused).rejects.toThrow(/unrecognized configuration parameter "no_such_setting"/);
});

test("an impossible directory is named, with what to do", async () => {
  await fs.writeFile(join(home, "file"), "");
  const refused = start({ dataDir: join(home, "file", "data") });
  await expect(refused).rejects.toBeInstanceOf(SetupProblem);
  await expect(refused).rejects.toThrow(/cannot keep its data in .*file\/data.*choose another data directory/);
});

test("a directory without write permission is named, with what to do", async () => {
  const locked = isRoot ? "/sys/kernel/locked" : join(home, "locked"); // root can write everywhere except there
  if (!isRoot) await fs.mkdir(locked, { mode: 0o555 });
  const refused = start({ dataDir: join(locked, "data") });
  await expect(refused).rejects.toBeInstanceOf(SetupProblem);
  await expect(refused).rejects.toThrow(/cannot keep its data in .*locked\/data \(E[A-Z]+\): make .*locked writable/);
});

test("a directory with other contents is not changed", async () => {
  const other = join(home, "other");
  await fs.mkdir(other);
  await fs.writeFile(join(other, "thesis.txt"), "years of work");
  await expect(start({ dataDir: other })).rejects.toThrow(/is not empty and holds no Postgres/);
  expect(await fs.readdir(other)).toEqual(["thesis.txt"]);
});
