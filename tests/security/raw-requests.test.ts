import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { agent, startTestApp } from "../support/app.ts";

const h = await startTestApp();
const { port } = new URL(h.url);

/** Everything that the server sends until it closes the connection, or `ms` have passed. */
function raw(bytes: string | Buffer, ms = 1_500): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1");
    let received = "";
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(received);
    };
    const timer = setTimeout(done, ms);
    socket
      .on("data", (chunk) => (received += chunk.toString("latin1")))
      .on("close", done)
      .on("error", done);
    socket.write(bytes);
  });
}

const statuses = (received: string) =>
  [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
const auth = `Authorization: Bearer ${h.ada.key}`;
const json = "Content-Type: application/json";
const body = JSON.stringify(agent);
const hidden = `GET /api/v1/agents HTTP/1.1\r\nHost: x\r\n${auth}\r\n\r\n`;
const post = (headers: string, content: string, path = "/api/v1/agents") =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\n${auth}\r\n${json}\r\n${headers}\r\n\r\n${content}`;

describe("a request whose length is ambiguous is refused, and what follows it is not read", () => {
  test.each<[string, string]>([
    ["both lengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked", `0\r\n\r\n${hidden}`)],
    ["two lengths", post("Content-Length: 2\r\nContent-Length: 3", `{} ${hidden}`)],
    ["a list of lengths", post("Content-Length: 2, 2", `{}${hidden}`)],
    ["a signed length", post("Content-Length: +2", `{}${hidden}`)],
    ["a hexadecimal length", post("Content-Length: 0x2", `{}${hidden}`)],
    ["a space before the colon", post("Content-Length : 2", `{}${hidden}`)],
    ["chunked twice", post("Transfer-Encoding: chunked, chunked", `0\r\n\r\n${hidden}`)],
    ["chunked not last", post("Transfer-Encoding: chunked, identity", `0\r\n\r\n${hidden}`)],
    ["a misspelt encoding", post("Transfer-Encoding: xchunked", `0\r\n\r\n${hidden}`)],
    ["a folded header", post("Transfer-Encoding:\r\n chunked", `0\r\n\r\n${hidden}`)],
    [
      "a chunk size that overflows",
      post("Transfer-Encoding: chunked", `FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n${hidden}`),
    ],
    ["a chunk size with a sign", post("Transfer-Encoding: chunked", `-2\r\n{}\r\n0\r\n\r\n${hidden}`)],
    ["a bare line feed", post("Content-Length: 2", `{}${hidden}`).replace("Host: x\r\n", "Host: x\n")],
    ["a null byte in a header", post("X-A: a\0b\r\nContent-Length: 2", `{}${hidden}`)],
    ["a carriage return in a header", post("X-A: a\rb\r\nContent-Length: 2", `{}${hidden}`)],
    ["no host", `GET /api/v1/agents HTTP/1.1\r\n${auth}\r\n\r\n`],
    ["two keys", `GET /api/v1/agents HTTP/1.1\r\nHost: a\r\n${auth}\r\nAuthorization: Bearer x\r\n\r\n`],
    ["two clients", `GET /api/v1/agents HTTP/1.1\r\nHost: a\r\n${auth}\r\nX-Client-Id: x\r\nX-Client-Id: y\r\n\r\n`],
    ["two types", post(`Content-Type: text/plain\r\nContent-Length: 2`, "{}")],
    ["two hosts", `GET /api/v1/agents HTTP/1.1\r\nHost: a\r\nHost: b\r\n${auth}\r\n\r\n`],
  ])("%s", async (_, request) => {
    const seen = statuses(await raw(request));
    expect(seen.filter((status) => status < 400 || status >= 500)).toEqual([]);
    expect(seen.length).toBeLessThanOrEqual(1);
  });
});

test("pipelined requests are answered in order, each once", async () => {
  const valid = post(`Content-Length: ${Buffer.byteLength(body)}`, body);
  expect(statuses(await raw(valid + hidden + valid, 12_000))).toEqual([201, 200, 201]);
});

test("a body with a GET or a DELETE does not become the next request", async () => {
  for (const method of ["GET", "DELETE", "HEAD"]) {
    const request = `${method} /api/v1/agents HTTP/1.1\r\nHost: x\r\n${auth}\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`;
    const seen = statuses(await raw(request));
    expect([method, seen.filter((status) => status === 200)]).toEqual([method, []]);
  }
});

test("the head of a request is bounded, and its refusal has the envelope", async () => {
  const received = await raw(`GET /api/v1/agents HTTP/1.1\r\nHost: x\r\nX-A: ${"a".repeat(40_000)}\r\n\r\n`);
  expect(statuses(received)).toEqual([431]);
  expect(received).toContain('"code":"headers_too_large"');
  const many = Array.from({ length: 3_000 }, (_, n) => `a${n}: 1`).join("\r\n");
  expect(statuses(await raw(`GET /health/live HTTP/1.1\r\nHost: x\r\n${many}\r\n\r\n`))[0]).not.toBe(500);
});

test("strange request targets never reach an operation, and never fail", async () => {
  const targets = [
    "http://evil.test/api/v1/agents",
    "//evil.test/api/v1/agents",
    "/api/v1//agents",
    "/api/v1/agents/../admin/clients",
    "/api/v1/%61gents",
    "/api/v1/agents%2f..%2f..%2fadmin%2fclients",
    "/api/v1/agents;x=1",
    "/API/V1/agents",
    "/api/v1/agents\\..\\admin",
    "/api/v1/agents%00",
    "/api/v1/ａgents",
    "/api/v1/agents/%ED%A0%80",
    "/trpc/agents.list,",
    "/trpc/,",
    "/trpc/__proto__",
    "/trpc/constructor",
    "/trpc/agents.__proto__.list",
    "/trpc/agents%2Elist",
    "/trpc/../admin/clients",
    "*",
    "/trpc/agents.list?input=%7B%22__proto__%22%3A1%7D",
    `/trpc/${"agents.list,".repeat(12)}agents.list?batch=1`,
  ];
  for (const target of targets) {
    const received = await raw(`GET ${target} HTTP/1.1\r\nHost: x\r\n${auth}\r\nConnection: close\r\n\r\n`, 4_000);
    const [status] = statuses(received);
    expect([target, status !== undefined && status < 500], received.slice(0, 300)).toEqual([target, true]);
    expect([target, received.includes('"clients"')]).toEqual([target, false]);
  }
});

describe("JSON that parsers read differently", () => {
  test.each<[string, string]>([
    ["a prototype", '{"name":"a","systemPrompt":"b","__proto__":{"admin":true}}'],
    ["a prototype in metadata", '{"name":"a","systemPrompt":"b","metadata":{"__proto__":"x"}}'],
    ["a constructor", '{"name":"a","systemPrompt":"b","constructor":{"prototype":{}}}'],
    ["an escaped prototype", '{"name":"a","systemPrompt":"b","__pr\\u006fto__":1}'],
    ["a number beyond", '{"name":"a","systemPrompt":"b","temperature":1e400}'],
    ["a lone surrogate", '{"name":"\\ud800","systemPrompt":"b"}'],
    ["a null character", '{"name":"a\\u0000","systemPrompt":"b"}'],
    ["a comment", '{"name":"a",/* */"systemPrompt":"b"}'],
    ["NaN", '{"name":"a","systemPrompt":"b","temperature":NaN}'],
    ["a trailing comma", '{"name":"a","systemPrompt":"b",}'],
  ])("%s is refused on both transports", async (_, text) => {
    for (const path of ["/api/v1/agents", "/trpc/agents.create"]) {
      const received = await raw(post(`Content-Length: ${Buffer.byteLength(text)}`, text, path));
      expect([path, ...statuses(received)]).toEqual([path, 400]);
    }
  });
});

describe("idempotency keys with strange bytes", () => {
  test.each(["a\tb", "a b", "\u00fc", "", "x".repeat(300), "a, b"])("%j is refused", async (key) => {
    const request = post(`Idempotency-Key: ${key}\r\nContent-Length: ${Buffer.byteLength(body)}`, body);
    expect(statuses(await raw(Buffer.from(request, "latin1")))).toEqual([400]);
  });

  test("two of them are refused, and never two agents are made", async () => {
    const request = post(
      `Idempotency-Key: one\r\nIdempotency-Key: two\r\nContent-Length: ${Buffer.byteLength(body)}`,
      body,
    );
    expect(statuses(await raw(request))).toEqual([400]);
  });
});

test("a forwarded address or host changes nothing that a caller receives", async () => {
  const headers = { "x-forwarded-for": "10.0.0.1", "x-forwarded-host": "evil.test", forwarded: "host=evil.test" };
  const answer = await h.get("/agents/agent_00000000000000000000000000", { headers });
  expect(answer.status).toBe(404);
  expect(JSON.stringify(answer.body)).not.toContain("evil.test");
});
