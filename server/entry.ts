import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Deps, openDeps } from "./deps.ts";
import { EnvironmentProblem, readEnv } from "./env.ts";
import { openHttp } from "./http.ts";
import { openWorkers } from "./workers.ts";

const drainMs = 20_000;
const lowestNode = 22;

/** Runs a process until it is told to stop: requests and jobs under way are finished first, within bounds. */
export async function run(parts: { http: boolean; workers: boolean }) {
  if (Number(process.versions.node.split(".")[0]) < lowestNode) {
    return refuse(
      `Patchbay needs Node ${lowestNode} or newer; this is ${process.versions.node}. Start it with npm, which brings its own.`,
    );
  }
  const told = Promise.race(["SIGTERM", "SIGINT"].map((name) => once(process, name).then(() => name))); // also while starting
  const deps = open();
  if (!deps) return;
  const { log, env } = deps;
  const server = parts.http ? await listen(openHttp(deps), env) : null;
  const workers = parts.workers ? await openWorkers(deps) : null;
  if (server) log.info({ address: server.address() }, "listening");

  const signal = await told;
  log.info({ signal }, "stopping: what is under way is finished");
  setTimeout(() => process.exit(1), 2 * drainMs).unref(); // whatever hangs, the process ends
  deps.live.end(); // who follows events would never end by himself
  await Promise.all([server && drain(server), workers?.stop()]);
  await deps.close();
  log.info("stopped");
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

/** Takes no new connection, lets the open requests end, then closes what is idle or too slow. */
export async function drain(server: Server) {
  const closed = new Promise((resolve) => server.close(resolve));
  const idle = setInterval(() => server.closeIdleConnections(), 50); // a line kept alive is idle only once it was answered
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearInterval(idle);
  clearTimeout(timer);
}

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

function refuse(message: string): void {
  console.error(message);
  process.exitCode = 1;
}
