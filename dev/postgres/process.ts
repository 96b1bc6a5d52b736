import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Place } from "./place.ts";
import { environment, isAlive, run, textOf } from "./system.ts";

export type PidFile = { pid: number; port: number; ready: boolean };

/** Lines of postmaster.pid: pid, data directory, start time, port, socket directory, address, shared memory, status. */
export async function readPidFile(dataDir: string): Promise<PidFile | undefined> {
  const lines = (await textOf(join(dataDir, "postmaster.pid")))?.split("\n").map((line) => line.trim());
  const pid = Number(lines?.[0]);
  if (!lines || !Number.isInteger(pid) || pid <= 1 || lines[1] !== dataDir) return undefined;
  return { pid, port: Number(lines[3]), ready: lines[7] === "ready" };
}

/** Fast, then immediate, then by force. Never signals a process that is not proven to be the server of this directory. */
export async function stopProcess(
  { dataDir, binaries, account }: Place,
  pid: number,
  log: (line: string) => void,
): Promise<void> {
  if (process.platform === "win32") {
    if ((await readPidFile(dataDir))?.pid !== pid) return;
    await run(binaries.pg_ctl, ["stop", "-D", dataDir, "-m", "fast", "-w"], { ...account, env: environment() });
    return;
  }
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if ((await identityOf(pid, dataDir)) !== "ours") return;
    if (signal !== "SIGINT") log(`Postgres (pid ${pid}) does not stop; sending ${signal}.`);
    process.kill(pid, signal);
    const timeout = AbortSignal.timeout(5_000);
    while (!timeout.aborted && (await identityOf(pid, dataDir)) === "ours") await sleep(10);
  }
}

/** Identifies a process by its command line: "unknown" when the system does not show it. */
export async function identityOf(pid: number, dataDir: string): Promise<"ours" | "another" | "gone" | "unknown"> {
  if (!isAlive(pid)) return "gone";
  const line = await commandLine(pid);
  if (line === undefined) return "unknown";
  // A zombie has no command line and counts as another process: Postgres would take it for a running server.
  const [program = "", ...args] = line.split("\0");
  return /postgres(\.exe)?\b/.test(program) && args.join(" ").startsWith(`-D ${dataDir} `) ? "ours" : "another";
}

async function commandLine(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") return await textOf(`/proc/${pid}/cmdline`);
  if (process.platform !== "darwin") return undefined;
  const shown = await run("ps", ["-ww", "-o", "command=", "-p", String(pid)]).catch(() => undefined);
  return shown?.stdout.trim().replace(" -D ", "\0-D\0");
}
