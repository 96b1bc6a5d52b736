import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { SetupProblem } from "../simulators/setup-problem.ts";
import { unwritable } from "./problems.ts";
import { codeOf, isAlive, textOf } from "./system.ts";

/** One process at a time starts or stops a cluster. The lock of a dead process is taken over. */
export async function withLock<T>(dataDir: string, work: () => Promise<T>): Promise<T> {
  const lock = `${dataDir}.lock`;
  const ours = `${process.pid} ${randomBytes(8).toString("hex")}`;
  const timeout = AbortSignal.timeout(60_000);
  while (!(await acquire(lock, ours, dataDir))) {
    if (timeout.aborted) {
      throw new SetupProblem(
        `Another process has been starting Postgres for a minute. If there is none, remove ${lock}.`,
      );
    }
    await sleep(100);
  }
  // A heartbeat, because after a restart of the machine the pid in an old lock may belong to another process. A heartbeat
  // without a lock file is harmless: the lock was just released.
  const heartbeat = setInterval(() => void fs.utimes(lock, new Date(), new Date()).catch(() => {}), 2_000);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if ((await textOf(lock)) === ours) await fs.rm(lock, { force: true });
  }
}

async function acquire(lock: string, ours: string, dataDir: string): Promise<boolean> {
  try {
    await fs.writeFile(lock, ours, { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw unwritable(dataDir, error);
  }
  const holder = await textOf(lock);
  const heartbeatAt = await fs.stat(lock).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
  if (holder === undefined || heartbeatAt === undefined) return false;
  const idleMs = Date.now() - heartbeatAt;
  if (idleMs < 20_000 && (holder === "" || isAlive(Number.parseInt(holder, 10)))) return false;
  // Two processes may see the same dead holder. The last rename wins, and a process that reads its own name after a pause
  // holds the lock. If both believe so, postmaster.pid still lets only one server run, and the other process reuses it.
  await fs.writeFile(`${lock}-${process.pid}`, ours);
  await fs.rename(`${lock}-${process.pid}`, lock);
  await sleep(100);
  return (await textOf(lock)) === ours;
}
