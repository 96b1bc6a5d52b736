import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { startChild } from "../load/child.ts";
import { startTestApp, until } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";

/** The server runs in a separate process: a crash would end the requests of all clients. */
const h = await startTestApp({ credits: 10_000 });
const agentId = await makeAgent(h);
for (let n = 0; n < 3; n++) await h.post("/calls", { agentId, medium: { type: "web" } });
const server = await startChild("./server-ours.ts", { ...h.environment, LOG_LEVEL: "silent" });
const port = await server.ask<number>("port");
let gone = false;
server.gone.then(() => {
  gone = true;
});
afterAll(() => server.stop());

const longestMs = 40;
const auth = `host: x\r\nauthorization: Bearer ${h.ada.key}\r\n`;
const input = encodeURIComponent('{"0":{}}');
const call = JSON.stringify({ agentId, medium: { type: "web" } });
const post = (path: string, body: string) =>
  `POST ${path} HTTP/1.1\r\n${auth}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

const requests: [string, string][] = [
  ["a stream of events", `GET /trpc/events.stream?input=%7B%7D HTTP/1.1\r\n${auth}\r\n`],
  ["an export by REST", `GET /api/v1/calls/export HTTP/1.1\r\n${auth}\r\n`],
  [
    "an export by tRPC",
    `GET /trpc/calls.export?batch=1&input=${input} HTTP/1.1\r\n${auth}trpc-accept: application/jsonl\r\n\r\n`,
  ],
  [
    "a batch as a stream",
    `GET /trpc/agents.list,calls.list?batch=1&input=${input} HTTP/1.1\r\n${auth}trpc-accept: application/jsonl\r\n\r\n`,
  ],
  ["a call by REST", post("/api/v1/calls", call)],
  ["a call by tRPC", post("/trpc/calls.create", call)],
  ["half a body by REST", post("/api/v1/calls", call).slice(0, -10)],
  ["half a body by tRPC", post("/trpc/calls.create", call).slice(0, -10)],
];

/** Sends the request and closes the connection after the given time: orderly, or by a reset. */
async function hangUp(request: string, afterMs: number, reset: boolean) {
  const socket = connect(port, "127.0.0.1").on("error", () => {});
  socket.resume().write(request);
  await sleep(afterMs);
  const closed = once(socket, "close");
  if (reset) socket.resetAndDestroy();
  else socket.destroy();
  await closed;
}

test.each(requests)(
  "a client that closes the connection during %s, at any moment, does not crash the server",
  async (_, request) => {
    for (let ms = 0; ms < longestMs && !gone; ms++) await hangUp(request, ms, ms % 2 === 0);
    await sleep(200);
    expect(gone).toBe(false);
    const headers = { authorization: `Bearer ${h.ada.key}` };
    const served = async () => (await fetch(`http://127.0.0.1:${port}/api/v1/agents`, { headers })).ok;
    await until(served, 20); // requests that have started continue for a moment
  },
);
