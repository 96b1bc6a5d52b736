import fs from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { Place } from "./place.ts";
import { identityOf, readPidFile, stopProcess } from "./process.ts";
import { superuser, urlOf } from "./url.ts";

/** The running server of this directory, if it is proven to be ours and responds. */
export async function findRunning(
  { dataDir, binaries, account }: Place,
  password: string,
  log: (line: string) => void,
): Promise<{ pid: number; port: number } | undefined> {
  const file = await readPidFile(dataDir);
  if (!file) return undefined;
  const timeout = AbortSignal.timeout(10_000);
  do {
    if (await isOurServer(file.port, password, dataDir)) return { pid: file.pid, port: file.port };
    // Ours but without a response: it may be recovering from a crash.
    if ((await identityOf(file.pid, dataDir)) !== "ours") break;
    await sleep(200);
  } while (!timeout.aborted);
  const identity = await identityOf(file.pid, dataDir);
  if (identity === "ours") {
    log(`The Postgres with pid ${file.pid} in ${dataDir} does not respond; stopping it.`);
    await stopProcess({ dataDir, binaries, account }, file.pid, log);
  }
  // Postgres removes the file of a pid that no longer exists, but not when the pid now belongs to another program.
  if (identity === "another") await fs.rm(join(dataDir, "postmaster.pid"), { force: true });
  return undefined;
}

/** Only our server accepts the password, and only the server of this directory reports this directory. */
async function isOurServer(port: number, password: string, dataDir: string): Promise<boolean> {
  if (!Number.isInteger(port) || port <= 0) return false;
  const options = { max: 1, ssl: false, connect_timeout: 2, fetch_types: false, onnotice: () => {} };
  const sql = postgres(urlOf(port, password, superuser), options);
  const reported = sql`show data_directory`.then(
    ([row]) => row?.data_directory === dataDir,
    () => false,
  );
  const ended = new AbortController();
  const timeout = sleep(3_000, false, { signal: ended.signal }).catch(() => false);
  try {
    return await Promise.race([reported, timeout]);
  } finally {
    ended.abort();
    await sql.end({ timeout: 0 });
  }
}
