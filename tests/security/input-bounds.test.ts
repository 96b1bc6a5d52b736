import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { operationsOf } from "../../edge/rest/operations.ts";
import { appRouter, internalRouter } from "../../routers/index.ts";
import { agent, serviceToken, startTestApp, until } from "../support/app.ts";
import { hugeBodies } from "../support/bad-bodies.ts";
import { unboundedIn } from "../support/bounds.ts";

type Procedure = { _def: { inputs: z.core.$ZodType[] } };

const procedures = [appRouter, internalRouter]
  .flatMap(({ _def }) => Object.entries(_def.procedures as unknown as Record<string, Procedure>))
  .flatMap(([name, { _def }]) => (_def.inputs[0] ? [[name, _def.inputs[0]] as const] : []));

const h = await startTestApp({ env: { RATE_LIMIT_MULTIPLIER: "100" } });
const operator = await h.operator();

describe("every input schema", () => {
  test.each(procedures)("of %s limits every text, number, list, record and free JSON", (_, schema) => {
    expect(unboundedIn(schema)).toEqual([]);
  });
});

describe("an invalid body of almost a megabyte", () => {
  const operations = [...operationsOf(appRouter), ...operationsOf(internalRouter)].filter(
    ({ takesBody, input }) => takesBody && input,
  );

  test.each(operations.map((operation) => [operation.procedure, operation] as const))(
    "gets a short 4xx from %s",
    async (procedure, operation) => {
      const { access } = operation.meta;
      const key = access === "operator" ? operator : access === "service" ? serviceToken : await h.token(h.ada);
      const path = operation.rest.path.replace(/\{\w+\}/g, "x");
      const [last] = hugeBodies(operation.input!).slice(-1);
      const bodies = [...hugeBodies(operation.input!).slice(0, 8), last!];
      for (const [what, text] of bodies) {
        const responses = [await h.send(operation.rest.method, path, text, { key })];
        if (access !== "service") responses.push(await h.mutate(procedure, text, { key }));
        for (const { status, body } of responses) {
          expect([what, status >= 400 && status < 500, JSON.stringify(body).length < 8_000]).toEqual([
            what,
            true,
            true,
          ]);
        }
      }
    },
  );

  test("gets at most 20 details, and the message counts the other problems", async () => {
    const metadata = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`wrong name ${n}`, n]));
    for (const { body } of [
      await h.post("/agents", { ...agent, metadata }),
      await h.mutate("agents.create", { ...agent, metadata }),
    ]) {
      const { details } = body.error.data ?? body.error;
      expect(details.length).toBeLessThanOrEqual(20);
      expect(body.error.message).toMatch(/There are \d+ more problems, which are not listed\.$/);
    }
  });

  test("is measured before it is validated", async () => {
    const metadata = Object.fromEntries(Array.from({ length: 900 }, (_, n) => [`wrong name ${n}`, n]));
    for (const { status, body } of [
      await h.post("/agents", { ...agent, metadata }),
      await h.mutate("agents.create", { ...agent, metadata }),
    ]) {
      const { details } = body.error.data ?? body.error;
      expect([status, details]).toEqual([400, [{ path: "metadata", message: "Use at most 50 pairs. You gave 900." }]]);
    }
  });

  test("in a batch of ten stays under 64 kB", async () => {
    const control = "\u0001".repeat(250);
    const wrong = { ...agent, ...Object.fromEntries(Array.from({ length: 30 }, (_, n) => [control + n, 1])) };
    const batch = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [n, wrong]));
    const names = new Array(10).fill("agents.create").join();
    const { status, body } = await h.send("POST", `/trpc/${names}?batch=1`, batch);
    expect(status).toBe(400);
    expect(body).toHaveLength(10);
    expect(Buffer.byteLength(JSON.stringify(body))).toBeLessThan(64_000);
  });
});

describe("on both transports alike", () => {
  const nested = (levels: number) => `${"[".repeat(levels)}1${"]".repeat(levels)}`;
  const schema = (value: string) =>
    `{"name":"a","systemPrompt":"x","outputSchema":{"type":"object","properties":{"a":{"enum":${value}}}}}`;
  const both = async (body: string) => [await h.post("/agents", body), await h.mutate("agents.create", body)];
  const failed = ({ status, body }: Awaited<ReturnType<typeof h.post>>) => {
    const { code, details } = body.error.data ?? body.error;
    return { status, code, path: details?.[0]?.path };
  };

  test("nesting beyond 64 levels is refused, and the path is named", async () => {
    for (const response of await both(schema(nested(2_500)))) {
      expect(failed(response)).toMatchObject({ status: 400, code: "json_invalid" });
      expect(failed(response).path).toMatch(/^outputSchema\.properties\.a\.enum\.0\.0/);
    }
    for (const response of await both(schema(nested(50)))) {
      expect(failed(response)).toEqual({ status: 400, code: "input_invalid", path: "outputSchema" });
    }
    const input = encodeURIComponent(`{"metadata":${nested(200)}}`);
    expect(failed(await h.get(`/trpc/agents.list?input=${input}`))).toMatchObject({
      status: 400,
      code: "json_invalid",
    });
  });

  test.each(["__proto__", "constructor", "prototype", "\\u005f_proto__"])("the name %s is refused", async (name) => {
    for (const response of await both(`{"name":"a","systemPrompt":"x","metadata":{"${name}":"1"}}`)) {
      expect(failed(response)).toMatchObject({ status: 400, code: "input_invalid" });
      expect(failed(response).path).toMatch(/^metadata\./);
    }
    const input = encodeURIComponent(`{"${name}":1}`);
    expect(failed(await h.get(`/trpc/agents.list?input=${input}`)).status).toBe(400);
  });

  test("a number out of range is refused", async () => {
    for (const response of await both(`{"name":"a","systemPrompt":"x","temperature":1e999}`)) {
      expect(failed(response)).toEqual({ status: 400, code: "input_invalid", path: "temperature" });
    }
  });

  test("bytes that are not UTF-8, and a body of another type, are refused", async () => {
    for (const path of ["/api/v1/agents", "/trpc/agents.create"]) {
      const send = (body: Uint8Array<ArrayBuffer> | string, type: string) =>
        fetch(h.url + path, {
          method: "POST",
          body,
          headers: { authorization: `Bearer ${h.ada.key}`, "content-type": type },
        }).then(({ status }) => status);
      expect(await send(Uint8Array.from([0x7b, 0xff, 0x7d]), "application/json")).toBe(400);
      for (const type of ["multipart/form-data; boundary=x", "application/octet-stream", "text/plain"]) {
        expect(await send("{}", type)).toBe(415);
      }
    }
  });
});

describe("a body that never ends", () => {
  const open: Socket[] = [];
  async function begin(path: string, headers: string[], body: string): Promise<Socket & { seen: string }> {
    const socket = connect(Number(new URL(h.url).port), "127.0.0.1") as Socket & { seen: string };
    open.push(socket);
    socket.seen = "";
    socket.on("data", (chunk) => (socket.seen += chunk)).on("error", () => {});
    await once(socket, "connect");
    const head = [`POST ${path} HTTP/1.1`, "Host: x", "Content-Type: application/json", ...headers];
    socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
    return socket;
  }

  test.each(["/api/v1/agents", "/trpc/agents.create"])(
    "without authentication gets 401 on %s and the connection is closed",
    async (path) => {
      for (const framing of ["Content-Length: 900000", "Transfer-Encoding: chunked"]) {
        const before = Date.now();
        const socket = await begin(path, [framing], framing.startsWith("T") ? '5\r\n{"a":' : '{"a":');
        await until(async () => socket.seen.includes("401"), 5);
        await until(async () => socket.closed || socket.destroyed, 10);
        expect(Date.now() - before).toBeLessThan(9_000);
      }
    },
  );

  test("that announces too many bytes is refused before it is read", async () => {
    const socket = await begin(
      "/trpc/agents.create",
      [`Authorization: Bearer ${h.ada.key}`, "Content-Length: 2000000"],
      "{",
    );
    await until(async () => socket.seen.includes("413"), 5);
    await until(async () => socket.closed || socket.destroyed, 10);
  });
});

test("a prompt full of spaces between braces does not block the process", async () => {
  const began = performance.now();
  const { status } = await h.post("/agents", { ...agent, systemPrompt: `{{${" ".repeat(40_000)}x` });
  expect(status).toBe(201);
  expect(performance.now() - began).toBeLessThan(15_000);
});
