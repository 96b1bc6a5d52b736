import { once } from "node:events";
import type { Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openHttp } from "../../server/http.ts";
import { limiter } from "../../server/limiter.ts";
import { RequestGate } from "../../server/request-gate.ts";
import { agent, phone, startTestApp } from "../support/app.ts";

const h = await startTestApp();
const servers: Server[] = [];
const sockets: Socket[] = [];
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close().closeAllConnections();
});

async function serve(own: Partial<typeof h.deps>) {
  const server = openHttp({ ...h.deps, ...own }).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const send = (method: string, path: string, body?: string, key = h.ada.key) =>
    fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(body ? { "content-type": "application/json" } : {}) },
      signal: AbortSignal.timeout(20_000),
      ...(body ? { body } : {}),
    });
  return { port, send };
}

/** Announces a body and sends only a part of it. Resolves with what the server sends. */
async function unfinished(port: number, path: string, part = "{") {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  let received = "";
  socket.on("data", (chunk) => (received += chunk)).on("error", () => {});
  const head = `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${h.ada.key}\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n`;
  socket.write(head + part);
  await sleep(300);
  return () => received;
}

describe("a client with one turn at a time", async () => {
  const one = { alone: 1, besideOthers: { least: 1, most: 1 } };
  const slowMs = 6_000;
  let agentId: string;
  beforeAll(async () => {
    agentId = (await h.post("/agents", agent)).body.data.id;
  });

  test("is served while its other request waits for a provider", async () => {
    const { send } = await serve({ gate: new RequestGate(one) });
    await h.simulator.faults({ create: { slow: 1, slowMs } });
    const call = send("POST", "/api/v1/calls", JSON.stringify({ agentId, medium: phone("+14155550100") }));
    await sleep(1_000);
    const began = performance.now();
    expect((await send("GET", `/api/v1/agents/${agentId}`)).status).toBe(200);
    expect(performance.now() - began, "less than the provider takes").toBeLessThan(slowMs - 2_000);
    expect((await call).status).toBe(201);
  });

  test("is served while its other request waits before it tries the provider again", async () => {
    const { send } = await serve({ gate: new RequestGate(one) });
    await h.simulator.faults({ create: { errors: [{ status: 429, times: 1, retryAfterSeconds: 6 }] } });
    const call = send("POST", "/api/v1/calls", JSON.stringify({ agentId, medium: phone("+14155550100") }));
    await sleep(1_000);
    const began = performance.now();
    expect((await send("GET", `/api/v1/agents/${agentId}`)).status).toBe(200);
    expect(performance.now() - began, "less than the pause").toBeLessThan(slowMs - 2_000);
    expect((await call).status).toBe(201);
  });

  test("is served while its other body has not arrived", async () => {
    const { port, send } = await serve({ gate: new RequestGate(one) });
    await unfinished(port, "/api/v1/agents");
    await unfinished(port, "/trpc/agents.create");
    expect((await send("GET", `/api/v1/agents/${agentId}`)).status).toBe(200);
  });

  test("is served while its stream of events is open", async () => {
    const { send } = await serve({ gate: new RequestGate(one) });
    const stream = await send("GET", "/trpc/events.stream?input=%7B%7D");
    expect(stream.status).toBe(200);
    expect((await send("GET", `/api/v1/agents/${agentId}`)).status).toBe(200);
    await stream.body?.cancel();
  });

  test("gets every result of a batch", async () => {
    const { send } = await serve({ gate: new RequestGate(one) });
    const input = encodeURIComponent(JSON.stringify({ 0: {}, 1: {}, 2: {} }));
    const batches = await Promise.all(
      [1, 2, 3].map(() => send("GET", `/trpc/agents.list,tools.list,calls.list?batch=1&input=${input}`)),
    );
    expect(batches.map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  test("has its turn again after a refusal, a wrong body and a caller that left", async () => {
    const { port, send } = await serve({ gate: new RequestGate(one) });
    expect((await send("POST", "/api/v1/agents", "{")).status).toBe(400);
    expect((await send("GET", "/trpc/nothing")).status).toBe(404);
    expect((await send("GET", "/api/v1/admin/clients")).status).toBe(403);
    await unfinished(port, "/api/v1/agents");
    sockets.at(-1)?.destroy();
    await sleep(100);
    expect((await send("GET", `/api/v1/agents/${agentId}`)).status).toBe(200);
  });
});

test("beyond its places in the queue a client gets 429 with Retry-After, and another client is served", async () => {
  const gate = new RequestGate({ alone: 1, besideOthers: { least: 1, most: 1 }, waitingPerOwner: 2 });
  const { send } = await serve({ gate });
  const held = await gate.enter(h.ada.clientId);
  await send("GET", "/api/v1/agents", undefined, h.bob.key); // its key is verified by now
  const waiting = Array.from({ length: 5 }, () => send("GET", "/api/v1/agents"));
  expect((await send("GET", "/api/v1/agents", undefined, h.bob.key)).status).toBe(200);
  await sleep(200);
  held.end();
  const answers = await Promise.all(waiting);
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 429, 429, 429]);
  expect(answers.find(({ status }) => status === 429)?.headers.get("retry-after")).toBe("1");
});

describe("bodies that cannot be read", () => {
  const tight = { requests: 3, windowSeconds: 60 };

  test.each(["/api/v1/agents", "/trpc/agents.create"])("count against the rate limit on %s", async (path) => {
    const { port, send } = await serve({ limiter: limiter(() => 0, { read: tight, write: tight, dial: tight }) });
    const left = [];
    for (let n = 0; n < 3; n++) {
      const response = await send("POST", path, n === 1 ? "[]" : "{");
      left.push([response.status, response.headers.get("ratelimit")]);
    }
    expect(left).toEqual([2, 1, 0].map((r) => [400, `"write";r=${r};t=60`]));
    expect((await send("POST", path, JSON.stringify(agent))).status).toBe(429);
    const received = await unfinished(port, path);
    expect(received(), "a body is refused before it is read").toMatch(/^HTTP\/1.1 429 /);
  });
});
