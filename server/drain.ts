import type { Server, ServerResponse } from "node:http";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";

/** How long open requests may continue after the port is closed. */
export const drainMs = 20_000;

type Tracked = { open: Set<ServerResponse>; stopping: boolean };
const tracked = new WeakMap<Server, Tracked>();

/** Tracks the responses of a server, so that `drain` can close their connections without an error. */
export function trackResponses(server: Server): void {
  const state: Tracked = { open: new Set(), stopping: false };
  tracked.set(server, state);
  server.prependListener("request", (_req, res: ServerResponse) => {
    state.open.add(res);
    res.once("close", () => state.open.delete(res));
    if (state.stopping) isLast(res);
  });
}

/** The connection closes after this response, which announces it: the caller opens another for the next request. */
function isLast(res: ServerResponse): void {
  if (!res.headersSent) res.setHeader("Connection", "close");
}

/**
 * Stops a server without interrupting a request. For `graceMs`, in which load balancers notice that this process is not
 * ready, every response carries `Connection: close`, and new connections are still accepted. Then the port closes, open
 * requests finish, and connections that are idle or too slow are closed.
 */
export async function drain(server: Server, graceMs = 0): Promise<void> {
  const state = tracked.get(server);
  if (state) {
    state.stopping = true;
    for (const res of state.open) isLast(res);
  }
  await sleep(graceMs);
  for (let turn = 0; turn < 3; turn += 1) await nextTurn(); // connections that wait to be accepted would be reset
  const closed = new Promise((resolve) => server.close(resolve));
  const idle = setInterval(() => server.closeIdleConnections(), 50); // a kept-alive connection becomes idle after its response
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearInterval(idle);
  clearTimeout(timer);
}
