import type { Server } from "node:http";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { closeAfterResponses } from "./open-responses.ts";

/** How long open requests may continue after the port is closed. */
export const drainMs = 20_000;

/**
 * Stops a server without interrupting a request. For `graceMs`, in which load balancers notice that this process is not
 * ready, connections end with a response that carries `Connection: close`, and new ones are still accepted. Then the port
 * closes, open requests finish, and connections that are idle or too slow are closed.
 */
export async function drain(server: Server, graceMs = 0): Promise<void> {
  closeAfterResponses(server);
  await sleep(graceMs);
  for (let turn = 0; turn < 3; turn += 1) await nextTurn(); // connections that wait to be accepted would be reset
  const closed = new Promise((resolve) => server.close(resolve));
  const idle = setInterval(() => server.closeIdleConnections(), 50); // a kept-alive connection becomes idle after its response
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearInterval(idle);
  clearTimeout(timer);
}
