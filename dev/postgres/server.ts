import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fchownSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SetupProblem } from "../simulators/setup-problem.ts";
import type { Place } from "./place.ts";
import { choosePort } from "./port.ts";
import { TemporaryProblem } from "./problems.ts";
import { readPidFile } from "./process.ts";
import { findRunning } from "./running.ts";
import { environment, textOf } from "./system.ts";

export type PostgresOptions = {
  dataDir: string;
  /** 0 means any free port. Default: 54320 or, when that is taken, any free port. */
  port?: number;
  /** Settings of postgresql.conf. A reused server keeps its settings. */
  settings?: Record<string, string>;
  database?: string;
  log?: (line: string) => void;
};

const developerSettings = { max_connections: "200", shared_buffers: "128MB", timezone: "UTC", log_timezone: "UTC" };

const temporaryFailure = /lock file|shared memory|Address already in use|could not bind/i;

const logFile = "patchbay.log";

type Running = { pid: number; port: number; reused: boolean };

export async function findOrLaunch(
  place: Place,
  password: string,
  options: PostgresOptions,
  log: (line: string) => void,
): Promise<Running> {
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
      // The port and shared memory of a killed server are released within a second or two.
      if (attempt === 5 || !(error instanceof TemporaryProblem)) throw error;
      await sleep(1_000);
    }
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
  const timeout = AbortSignal.timeout(60_000);
  for (;;) {
    const file = await readPidFile(place.dataDir);
    if (file?.pid === child.pid && file?.ready) {
      child.unref();
      return { pid: file.pid, port };
    }
    if (ended || timeout.aborted) {
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
  // To a file: a pipe would break when the reading process is killed.
  const output = openSync(join(dataDir, logFile), "w", 0o600);
  try {
    if (account) fchownSync(output, account.uid, account.gid);
    // Detached: Ctrl-C in the terminal would otherwise stop it before its users are done.
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
  const message = `Postgres did not start in ${dataDir}. Its last output:\n${output.trim().split("\n").slice(-8).join("\n")}`;
  return temporaryFailure.test(output) ? new TemporaryProblem(message) : new SetupProblem(message);
}
