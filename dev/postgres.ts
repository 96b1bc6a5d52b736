import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import postgres from "postgres";
import { initialise } from "./postgres/cluster.ts";
import { withLock } from "./postgres/lock.ts";
import { type Place, reachablePlace } from "./postgres/place.ts";
import { stopProcess } from "./postgres/process.ts";
import { findOrLaunch, type PostgresOptions } from "./postgres/server.ts";
import { superuser, urlOf } from "./postgres/url.ts";

export type { PostgresOptions } from "./postgres/server.ts";

export type LocalPostgres = {
  /** Connects to `database` as the superuser. */
  url: string;
  port: number;
  /** The real data directory. It can differ from the requested one, see `reachablePlace`. */
  dataDir: string;
  reused: boolean;
  stop(): Promise<void>;
};

/** For tests: faster, but a crash of the machine may lose data. */
export const noDurability = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

/**
 * Starts a Postgres on the loopback address. A server left by a killed process is found through its `postmaster.pid` and
 * reused. The server stops with `stop()`, or when the process that started it exits. A process that may be interrupted
 * must handle the signal and call `stop()`.
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const { database = "patchbay", log = () => {} } = options;
  // postgres.js does not decode the name in a URL.
  if (!/^[\w-]+$/.test(database)) throw new Error(`"${database}" is not a plain database name`);
  const place = await reachablePlace(resolve(options.dataDir), log);
  return await withLock(place.dataDir, async () => {
    const password = await initialise(place, options.settings?.fsync === "off");
    const { pid, port, reused } = await findOrLaunch(place, password, options, log);
    await createDatabase(urlOf(port, password, superuser), database);
    const stop = () => stopServer(place, pid, log);
    return { url: urlOf(port, password, database), port, dataDir: place.dataDir, reused, stop };
  });
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

async function stopServer(place: Place, pid: number, log: (line: string) => void): Promise<void> {
  // The server must stop even if its directory was removed.
  if (!existsSync(dirname(place.dataDir))) return await stopProcess(place, pid, log);
  await withLock(place.dataDir, () => stopProcess(place, pid, log));
}
