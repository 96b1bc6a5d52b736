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

const maxRetryMs = 10_000;

/** Runs a process until a signal stops it: open requests and running jobs finish first, within a grace period. */
export async function run(parts: { http: boolean; workers: boolean }) {
  const stopSignal = Promise.race(["SIGTERM", "SIGINT"].map((name) => once(process, name).then(() => name))); // also while starting
  const deps = open();
  if (!deps) return;
  const { log, env } = deps;
  const ending = Promise.race([stopSignal, firstFatal(deps)]);
  const server = parts.http ? await listen(openHttp(deps), env).catch(refusePort) : null;
  if (parts.http && !server) return deps.close();
  if (server) log.info({ address: server.address() }, "listening");
  const workers = parts.workers ? await startJobs(deps, ending) : null;

  const signal = await ending;
  log.info({ signal }, "stopping; open requests and running jobs finish first");
  const graceMs = signal === "SIGINT" ? 0 : env.SHUTDOWN_GRACE_SECONDS * 1000; // in a terminal there is no load balancer
  setTimeout(() => process.kill(process.pid, "SIGKILL"), graceMs + 2 * drainMs).unref(); // ends the process even if it hangs
  deps.stopping.abort();
  deps.live.end(); // event streams do not end by themselves
  await Promise.all([server && drain(server, graceMs), workers?.stop()]);
  await deps.close();
  log.info("stopped");
  await logWritten();
}

/**
 * Resolves at the first error that nothing has caught. The state of the process is unknown then, so it ends, but as after a
 * signal: the other requests and jobs have done nothing wrong.
 */
function firstFatal({ log }: Deps): Promise<string> {
  return new Promise((resolve) => {
    process.on("uncaughtException", (error, origin) => {
      log.fatal({ err: error, origin, alert: true }, "uncaught error; the process stops");
      process.exitCode = 1;
      resolve(origin);
    });
  });
}

/** Retries until the database is available; meanwhile requests are served, and health reports it. null: stopped first. */
async function startJobs(deps: Deps, stopSignal: Promise<unknown>): Promise<Workers | null> {
  const stopped = stopSignal.then(() => true);
  for (let retryMs = 500; ; retryMs = Math.min(2 * retryMs, maxRetryMs)) {
    try {
      return await openWorkers(deps);
    } catch (error) {
      deps.log.error(
        { err: error, retry_in_ms: retryMs },
        "workers not started; is the database running and migrated?",
      );
    }
    if (await Promise.race([stopped, sleep(retryMs, false)])) return null;
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

/** Reports an unavailable port in one sentence, with what to change. */
function refusePort(error: NodeJS.ErrnoException & { port?: number; address?: string }): null {
  const reasons = {
    EADDRINUSE: "is already in use",
    EACCES: "is not allowed for this user",
    EADDRNOTAVAIL: "is not an address of this machine",
  };
  if (!(error.code && error.code in reasons)) throw error;
  const reason = reasons[error.code as keyof typeof reasons];
  refuse(`${error.address}:${error.port} ${reason}. Set HOST or PORT to another value.`);
  return null;
}

function refuse(message: string): void {
  console.error(message);
  process.exitCode = 1;
}
