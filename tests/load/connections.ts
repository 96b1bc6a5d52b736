import { connect, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { framesOf } from "./http-frames.ts";

/** The response of request `n`: its head, the bytes of its body, and the duration. */
export type Seen = (n: number, response: { head: string; length: number; ms: number }) => void;

type Sending = { port: number; connections: number; request: (n: number) => string; seen: Seen };
type Free = (n: number, dueAt: number) => void;

const drainMs = 60_000;

/**
 * A closed loop: each connection has one request in flight until the time or count is reached, then waits for the last. It
 * measures throughput. Its latencies are those of a saturated server.
 */
export async function sendAsFastAsPossible(sending: Sending, bounds: { seconds: number; count: number }) {
  const until = performance.now() + bounds.seconds * 1000;
  let sent = 0;
  const loop = (connection: Connection) =>
    new Promise<void>((done, failed) => {
      connection.failed = failed;
      connection.free = () => {
        const now = performance.now();
        if (now >= until || sent >= bounds.count) return done();
        connection.send(sent++, now);
      };
      connection.free();
    });
  await withConnections(sending, (connections) => Promise.all(connections.map(loop)));
  return sent;
}

/**
 * An open loop: requests are due at a constant rate, independent of the responses, and a latency counts from the due time. A
 * server that stops for a second shows many slow requests, not one.
 */
export async function sendAtPace(sending: Sending, { perSecond, count }: { perSecond: number; count: number }) {
  await withConnections(sending, async (connections) => {
    const waiting: { n: number; dueAt: number }[] = [];
    const free: Free[] = [];
    let left = count;
    const all = Promise.withResolvers<void>();
    for (const connection of connections) {
      connection.failed = all.reject;
      const take: Free = (n, dueAt) => connection.send(n, dueAt);
      connection.free = () => {
        left -= 1;
        const next = waiting.shift();
        if (next) take(next.n, next.dueAt);
        else free.push(take);
        if (left === 0) all.resolve();
      };
      free.push(take);
    }
    const began = performance.now();
    const dueAt = (n: number) => began + (n * 1000) / perSecond;
    for (let n = 0; n < count; ) {
      for (; n < count && dueAt(n) <= performance.now(); n++) {
        const take = free.pop();
        if (take) take(n, dueAt(n));
        else waiting.push({ n, dueAt: dueAt(n) });
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const late = setTimeout(() => all.reject(new Error(`${left} requests had no response in time`)), drainMs);
    await all.promise.finally(() => clearTimeout(late));
  });
}

type Connection = {
  send(n: number, from: number): void;
  free: () => void;
  failed: (error: Error) => void;
};

async function withConnections(sending: Sending, work: (connections: Connection[]) => Promise<unknown>) {
  const sockets: Socket[] = [];
  try {
    const opening = Array.from({ length: sending.connections }, () => open(sending, sockets));
    await work(await Promise.all(opening));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

function open({ port, request, seen }: Sending, sockets: Socket[]): Promise<Connection> {
  return new Promise((opened, refused) => {
    const socket = connect({ host: "127.0.0.1", port });
    sockets.push(socket);
    socket.setNoDelay(true);
    let under = { n: 0, from: 0 };
    const connection: Connection = {
      send(n, from) {
        under = { n, from };
        socket.write(request(n), "latin1");
      },
      free: () => {},
      failed: refused,
    };
    const read = framesOf((head, length) => {
      seen(under.n, { head, length, ms: performance.now() - under.from });
      connection.free();
    });
    socket.once("connect", () => opened(connection));
    socket.on("data", (chunk) => {
      try {
        read(chunk);
      } catch (error) {
        connection.failed(error as Error);
      }
    });
    socket.on("error", (error) => connection.failed(error));
    socket.on("close", () => connection.failed(new Error("the server closed a connection")));
  });
}

/** Percentiles of latencies, in milliseconds. */
export function spreadOf(latencies: readonly number[]) {
  const sorted = latencies.toSorted((a, b) => a - b);
  const part = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50Ms: part(0.5), p95Ms: part(0.95), p99Ms: part(0.99), slowestMs: part(1) };
}
