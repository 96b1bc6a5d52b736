import "./node-version.ts";
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Workers } from "../jobs/runtime/worker.ts";
import { type Deps, openDeps } from "./deps.ts";
import { drain, drainMs } from "./drain.ts";
import { EnvironmentProblem, readEnv } from "./env.ts";
import { openHttp } from "./http.ts";
import { logWritten } from "./log.ts";
import { openWorkers } from "./workers.ts";

const longestPauseMs = 10_000;

/** Runs a process until it is told to stop: requests and jobs under way are finished first, within bounds. */
export async function run(parts: { http: boolean; workers: boolean }) {
  const told = Promise.race(["SIGTERM", "SIGINT"].map((name) => once(process, name).then(() => name))); // also while starting
  const deps = open();
  if (!deps) return;
  const { log, env } = deps;
  const server = parts.http ? await listen(openHttp(deps), env).catch(refusePort) : null;
  if (parts.http && !server) return deps.close();
  if (server) log.info({ address: server.address() }, "listening");
  const workers = parts.workers ? await beginWork(deps, told) : null;

  const signal = await told;
  log.info({ signal }, "stopping: what is under way is finished");
  const graceMs = signal === "SIGINT" ? 0 : env.SHUTDOWN_GRACE_SECONDS * 1000; // at a keyboard there is no balancer
  setTimeout(() => process.kill(process.pid, "SIGKILL"), graceMs + 2 * drainMs).unref(); // whatever hangs, the process ends
  deps.stopping.abort();
  deps.live.end(); // who follows events would never end by himself
  await Promise.all([server && drain(server, graceMs), workers?.stop()]);
  await deps.close();
  log.info("stopped");
  await logWritten();
}

/** Begins when the database can be asked; until then requests are answered, and health tells. null: told to stop first. */
async function beginWork(deps: Deps, told: Promise<unknown>): Promise<Workers | null> {
  const stopped = told.then(() => true);
  for (let pauseMs = 500; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    try {
      return await openWorkers(deps);
    } catch (error) {
      deps.log.error({ err: error, again_in_ms: pauseMs }, "workers not started: is the database there, and migrated?");
    }
    if (await Promise.race([stopped, sleep(pauseMs, false)])) return null;
  }
}

function open(): Deps | undefined {
  try {
    return openDeps(readEnv(process.env));
  } catch (error) {
    if (!(error instanceof EnvironmentProblem)) throw error;
    refuse(error.message);
  }
}

export async function listen(server: Server, { HOST, PORT }: { HOST: string; PORT: number }): Promise<Server> {
  server.listen(PORT, HOST);
  await once(server, "listening");
  return server;
}

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

/** A port that cannot be had is said in a sentence, with what to change. */
function refusePort(error: NodeJS.ErrnoException & { port?: number; address?: string }): null {
  const why = { EADDRINUSE: "is taken", EACCES: "is not allowed to this user", EADDRNOTAVAIL: "is not this machine's" };
  if (!(error.code && error.code in why)) throw error;
  refuse(`${error.address}:${error.port} ${why[error.code as keyof typeof why]}: choose another with HOST and PORT.`);
  return null;
}

function refuse(message: string): void {
  console.error(message);
  process.exitCode = 1;
}
