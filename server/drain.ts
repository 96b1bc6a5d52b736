import type { Server, ServerResponse } from "node:http";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";

/** How long requests under way may go on once the port is closed. */
export const drainMs = 20_000;

type Tracked = { open: Set<ServerResponse>; stopping: boolean };
const tracked = new WeakMap<Server, Tracked>();

/** From now on it is known which answers are under way, so that `drain` can end their connections politely. */
export function trackResponses(server: Server): void {
  const state: Tracked = { open: new Set(), stopping: false };
  tracked.set(server, state);
  server.prependListener("request", (_req, res: ServerResponse) => {
    state.open.add(res);
    res.once("close", () => state.open.delete(res));
    if (state.stopping) isLast(res);
  });
}

/** The connection ends after this answer, and the answer says so: the caller takes another one for the next request. */
function isLast(res: ServerResponse): void {
  if (!res.headersSent) res.setHeader("Connection", "close");
}

/**
 * Stops a server without cutting a request. First every answer says `Connection: close`, for as long as balancers need to
 * see that this process is not ready any more: new connections are still taken. Then the port closes, open requests end,
 * and what is idle or too slow is closed.
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
  const idle = setInterval(() => server.closeIdleConnections(), 50); // one kept alive is idle only once it was answered
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearInterval(idle);
  clearTimeout(timer);
}
