import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { answer } from "./child.ts";
import { framesOf } from "./http-frames.ts";

export type Load = {
  port: number;
  /** Whole requests, sent in turn. `%n%` becomes another number every time. */
  requests: string[];
  connections: number;
  seconds: number;
  /** It may end before its time, after so many. */
  count?: number;
};

export type Loaded = {
  requests: number;
  seconds: number;
  p50Ms: number;
  p99Ms: number;
  /** Answers other than 2xx: how many of each status, and the first of them. */
  refused: Record<string, number>;
};

/** Each connection keeps one request under way until the time is over; what is under way then is waited for. */
async function run({ port, requests, connections, seconds, count = Number.POSITIVE_INFINITY }: Load): Promise<Loaded> {
  const latencies: number[] = [];
  const refused: Record<string, number> = {};
  const began = performance.now();
  const until = began + seconds * 1000;
  let sent = 0;
  let over = false;

  const line = () =>
    new Promise<void>((done, fail) => {
      let at = 0;
      const socket = connect({ host: "127.0.0.1", port });
      socket.setNoDelay(true);
      const next = () => {
        at = performance.now();
        if (at >= until || sent >= count) {
          over = true;
          return socket.end();
        }
        const text = requests[sent++ % requests.length]!;
        socket.write(text.includes("%n%") ? text.replaceAll("%n%", `${process.pid}-${sent}`) : text, "latin1");
      };
      const read = framesOf((head) => {
        latencies.push(performance.now() - at);
        const status = head.slice(9, 12);
        if (!status.startsWith("2")) refused[status] = (refused[status] ?? 0) + 1;
        next();
      });
      socket.on("connect", next).on("data", read).on("error", fail);
      socket.on("close", () => (over ? done() : fail(new Error("the server hung up"))));
    });
  await Promise.all(Array.from({ length: connections }, line));

  const took = (performance.now() - began) / 1000;
  latencies.sort((a, b) => a - b);
  const part = (share: number) => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
  return { requests: latencies.length, seconds: took, p50Ms: part(0.5), p99Ms: part(0.99), refused };
}

answer({ run });
