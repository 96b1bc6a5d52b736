import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

type Response = ServerResponse<IncomingMessage>;
/** `open`: in the order in which their requests arrived. */
type Tracked = { open: Set<Response>; stopping: boolean };
const tracked = new WeakMap<Server, Tracked>();

/** A server that knows its open responses, so that a connection is closed only after all answers that it owes. */
export function trackingServer(listener: RequestListener): Server {
  const state: Tracked = { open: new Set(), stopping: false };
  const server = createServer((req, res) => {
    if (state.stopping && !becomesLast(state, res)) return;
    state.open.add(res);
    res.once("close", () => state.open.delete(res));
    listener(req, res);
  });
  tracked.set(server, state);
  return server;
}

/** From now on every connection closes after the answers to the requests that it has sent. */
export function closeAfterResponses(server: Server): void {
  const state = tracked.get(server);
  if (!state) return;
  state.stopping = true;
  const lastOf = new Map([...state.open].map((res) => [res.req.socket, res]));
  for (const res of lastOf.values()) announceClose(res);
}

/** Resolves once the requests that have arrived completely on this connection are answered. */
export async function answered(server: Server, socket: Duplex): Promise<void> {
  const owed = [...(tracked.get(server)?.open ?? [])].filter(({ req }) => req.socket === socket && req.complete);
  await Promise.all(owed.map((res) => new Promise((resolve) => res.once("close", resolve))));
}

/**
 * The connection closes after this response, which announces it. Of pipelined requests only the last may announce it: the
 * connection closes after the first response that does, and the others would be executed without an answer. False if an
 * earlier response has announced it already: this request must not be executed, and its sender knows that it was not.
 */
function becomesLast({ open }: Tracked, res: Response): boolean {
  const earlier = [...open].filter(({ req }) => req.socket === res.req.socket);
  if (earlier.some((other) => other.headersSent && other.getHeader("Connection") === "close")) return false;
  for (const other of earlier) if (!other.headersSent) other.removeHeader("Connection");
  announceClose(res);
  return true;
}

function announceClose(res: Response): void {
  if (!res.headersSent) res.setHeader("Connection", "close");
}
