import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "./child.ts";
import type { Heard, Noise, NoiseKind } from "./noise-kinds.ts";

const parallelCalls = 40;
const slowEndpoints = 10;
const slowMs = 14_000; // just below the sender's timeout
const streamsPerKey = 20;
const parallelBodies = 3;
const parallelLists = 20;
const unfinishedBodies = 200;
/** The pause between two attempts of one loop, so that fast refusals do not overload this process. */
const pauseMs = 5;

let over = new AbortController();
let running: Promise<void>[] = [];
let received: Heard = {};

const sink = createServer((request, response) => {
  request.resume();
  setTimeout(() => response.end("ok"), slowMs);
}).listen(0, "127.0.0.1");
await once(sink, "listening");
const sinkUrl = `http://127.0.0.1:${(sink.address() as AddressInfo).port}`;

function count(kind: NoiseKind, status: number) {
  const counts = received[kind] ?? {};
  counts[status] = (counts[status] ?? 0) + 1;
  received[kind] = counts;
}

type Request = { method?: string; path: string; key: string; body?: string };

async function send(kind: NoiseKind, { url }: Noise, { method = "GET", path, key, body }: Request) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  try {
    const init = { method, headers, signal: over.signal, ...(body === undefined ? {} : { body }) };
    const response = await fetch(url + path, init);
    count(kind, response.status);
    await response.arrayBuffer();
  } catch {
    if (!over.signal.aborted) count(kind, 0); // also after an incomplete response
  }
}

/** Loops that each have one request in flight, until the end. */
async function loops(parallel: number, one: (n: number) => Promise<void>) {
  let n = 0;
  const loop = async () => {
    while (!over.signal.aborted) {
      await one(n++);
      await sleep(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: parallel }, loop));
}

const keyOf = ({ keys }: Noise, n: number) => keys[n % keys.length]!;

function calls(kind: NoiseKind, noise: Noise, parallel = parallelCalls) {
  const body = JSON.stringify({ agentId: noise.agentId, medium: { type: "web" } });
  return loops(parallel, (n) =>
    send(kind, noise, { method: "POST", path: "/api/v1/calls", key: keyOf(noise, n), body }),
  );
}

/** Endpoints that respond just in time, and calls that create events for them. */
async function webhooks(noise: Noise) {
  for (let n = 0; n < slowEndpoints; n++) {
    const body = JSON.stringify({ url: `${sinkUrl}/${n}`, eventTypes: ["*"] });
    await send("webhooks", noise, { method: "POST", path: "/api/v1/webhooks", key: keyOf(noise, n), body });
  }
  await calls("webhooks", noise, 2);
}

async function streams(noise: Noise) {
  const follow = async (key: string) => {
    while (!over.signal.aborted) {
      await send("streams", noise, { path: "/trpc/events.stream?input=%7B%7D", key });
      await sleep(1_000, undefined, { signal: over.signal }).catch(() => {});
    }
  };
  await Promise.all(noise.keys.flatMap((key) => Array.from({ length: streamsPerKey }, () => follow(key))));
}

/** 800 kB of invalid pairs, on both transports. */
function bodies(noise: Noise) {
  const metadata = Object.fromEntries(Array.from({ length: 75_000 }, (_, n) => [`k${n}`, n % 10]));
  const body = JSON.stringify({ agentId: noise.agentId, medium: { type: "web" }, metadata });
  return loops(parallelBodies, (n) => {
    const path = n % 2 ? "/api/v1/calls" : "/trpc/calls.create";
    return send("bodies", noise, { method: "POST", path, key: keyOf(noise, n), body });
  });
}

function lists(noise: Noise) {
  const paths = ["/api/v1/calls?limit=100", "/api/v1/events?limit=100", "/api/v1/calls?search=bread&limit=100"];
  return loops(parallelLists, (n) => send("lists", noise, { path: paths[n % paths.length]!, key: keyOf(noise, n) }));
}

/** Bodies that are announced and never end: half of them with a key, half without. */
async function unfinished(noise: Noise) {
  const { hostname, port } = new URL(noise.url);
  const hold = async (n: number) => {
    const key = n % 4 < 2 ? `authorization: Bearer ${keyOf(noise, n)}\r\n` : "";
    const path = n % 2 ? "/api/v1/agents" : "/trpc/agents.create";
    const head = `POST ${path} HTTP/1.1\r\nhost: x\r\n${key}content-type: application/json\r\ncontent-length: 900000\r\n\r\n`;
    const socket = connect(Number(port), hostname);
    const stop = () => socket.destroy();
    over.signal.addEventListener("abort", stop);
    socket.on("error", () => {}).on("data", () => {});
    socket.write(`${head}{"name":"${"x".repeat(400_000)}`);
    await new Promise((closed) => socket.once("close", closed));
    over.signal.removeEventListener("abort", stop);
    count("unfinished", 0);
    await sleep(200);
  };
  await Promise.all(
    Array.from({ length: unfinishedBodies }, async (_, n) => {
      while (!over.signal.aborted) await hold(n);
    }),
  );
}

const makers: Record<NoiseKind, (noise: Noise) => Promise<void>> = {
  calls: (noise) => calls("calls", noise),
  webhooks,
  streams,
  bodies,
  lists,
  unfinished,
};

async function stop() {
  over.abort();
  await Promise.all(running);
  running = [];
}

serve(
  {
    start: (noise: Noise) => {
      over = new AbortController();
      received = {};
      running = noise.kinds.map((kind) => makers[kind](noise));
    },
    heard: () => received,
    stop,
  },
  async () => {
    await stop();
    sink.closeAllConnections();
    sink.close();
  },
);
