import { once } from "node:events";
import { createServer, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { initTRPC, TRPCError } from "@trpc/server";
import { createExpressMiddleware } from "@trpc/server/adapters/express";
import express from "express";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { docsRouter } from "../../edge/openapi/docs.ts";
import { restRouter } from "../../edge/rest/router.ts";
import { ApiError, errorCodes } from "../../routers/core/errors.ts";
import type { Reply } from "../../routers/core/reply.ts";
import { type Meta, rest } from "../../routers/core/rest-metadata.ts";

type Context = { requestId: string; reply: Reply };
const t = initTRPC.context<Context>().meta<Meta>().create();
const Thing = z.object({ id: z.string() });
const page = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable(), hasMore: z.boolean() });

const filters = z.strictObject({
  limit: z.int().min(1).max(100).default(20),
  rate: z.number().nullable().optional(),
  active: z.boolean().optional(),
  big: z.bigint().optional(),
  since: z.date().optional(),
  kind: z.enum(["a", "b"]).array().optional(),
  level: z.literal([1, 2]).optional(),
  size: z.union([z.literal("max"), z.int()]).prefault("max"),
  ids: z.array(z.int()).max(3).optional(),
  name: z.string().trim().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
});
const order = z.strictObject({
  qty: z.int(),
  flag: z.boolean(),
  note: z.string().nullable().optional(),
  more: z.unknown().optional(),
});

let aborted = false;
let waiting = false;
let over = Promise.withResolvers<void>();
const seen: string[] = [];

const router = t.router({
  things: t.router({
    echo: t.procedure
      .meta(rest("GET", "/things/echo", "agents:read", "Echo"))
      .input(filters)
      .output(z.unknown())
      .query(({ input }) => ({ ...input, ...(input.big === undefined ? {} : { big: `${input.big}n` }) })),
    // Registered before the fixed names that it would shadow in a list of patterns.
    get: t.procedure
      .meta(rest("GET", "/things/{id}", "agents:read", "Get"))
      .input(z.strictObject({ id: z.string() }))
      .output(Thing)
      .query(({ input }) => input),
    types: t.procedure
      .meta(rest("GET", "/things/types", "agents:read", "Types"))
      .output(z.string())
      .query(() => "types"),
    list: t.procedure
      .meta(rest("GET", "/things", "agents:read", "List"))
      .input(z.strictObject({ limit: z.int().default(20) }))
      .output(page(Thing))
      .query(() => ({ items: [{ id: "t1" }], nextCursor: "next", hasMore: true })),
    create: t.procedure
      .meta(rest("POST", "/things", "agents:write", "Create"))
      .input(order)
      .output(z.unknown())
      .mutation(({ input }) => input),
    update: t.procedure
      .meta(rest("PATCH", "/things/{id}/parts/{part}", "agents:write", "Update"))
      .input(z.strictObject({ id: z.string(), part: z.int(), name: z.string().optional() }))
      .output(z.unknown())
      .mutation(({ input }) => input),
    remove: t.procedure
      .meta(rest("DELETE", "/things/{id}", "agents:write", "Remove"))
      .input(z.strictObject({ id: z.string(), force: z.boolean().optional() }))
      .output(z.void())
      .mutation(() => undefined),
    test: t.procedure
      .meta(rest("POST", "/things/{id}/test", "agents:write", "Test"))
      .input(z.strictObject({ id: z.string() }))
      .output(Thing)
      .mutation(({ input }) => input),
    replay: t.procedure
      .meta(rest("POST", "/things/replay", "agents:write", "Replay"))
      .output(z.string())
      .mutation(({ ctx }) => {
        Object.assign(ctx.reply, { status: 202, firstRequestId: "req_first" });
        ctx.reply.headers.RateLimit = '"write";r=1;t=1';
        return "again";
      }),
    fail: t.procedure
      .meta(rest("GET", "/fail/{how}", "agents:read", "Fail"))
      .input(z.strictObject({ how: z.string() }))
      .output(Thing)
      .query(({ input }) => {
        if (input.how === "fault") throw new ApiError("rate_limit_exceeded", undefined, { retryAfterSeconds: 1.2 });
        if (input.how === "token") throw new ApiError("unauthenticated");
        if (input.how === "trpc") throw new TRPCError({ code: "CONFLICT", message: "secret conflict" });
        if (input.how === "output") return Object.assign({ id: "x" }, { id: undefined as unknown as string });
        throw new Error("secret password");
      }),
    wait: t.procedure
      .meta(rest("GET", "/wait", "agents:read", "Wait"))
      .output(z.null())
      .query(async ({ signal }) => {
        signal?.addEventListener("abort", () => {
          aborted = true;
        });
        waiting = true;
        await over.promise;
        return null;
      }),
  }),
});

let made = 0;
const app = express().disable("x-powered-by");
app.use(
  docsRouter({
    scalarFile: new URL("../../node_modules/@scalar/api-reference/dist/browser/standalone.js", import.meta.url)
      .pathname,
  }),
);
app.use(
  "/trpc",
  createExpressMiddleware({ router, createContext: () => ({ requestId: "trpc", reply: { headers: {} } }) }),
);
app.use(
  "/api/v1",
  restRouter({
    router,
    createContext: ({ req, reply }): Context => {
      if (req.headers.authorization === "Bearer nobody") throw new ApiError("unauthenticated");
      return { requestId: `req_${++made}`, reply };
    },
    maxBodyBytes: 2_000,
    onError: ({ fault }) => seen.push(fault.errorCode),
  }),
);
const server = createServer(app);
let origin = "";

beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

type Init = Omit<RequestInit, "body"> & { json?: unknown; body?: RequestInit["body"] };

async function call(method: string, path: string, { json, headers, ...init }: Init = {}) {
  const typed = json === undefined ? {} : { "content-type": "application/json" };
  const body = json === undefined ? init.body : JSON.stringify(json);
  const answer = await fetch(`${origin}/api/v1${path}`, {
    ...init,
    method,
    body: body ?? null,
    headers: { ...typed, ...headers },
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, text, body: text ? JSON.parse(text) : undefined };
}
const post = (body: unknown) => call("POST", "/things", { json: body });
const raw = (body: RequestInit["body"], type = "application/json") =>
  call("POST", "/things", { body, headers: { "content-type": type } });
const echo = async (query: string) => (await call("GET", `/things/echo?${query}`)).body;

/** Speaks HTTP by hand, for what a well-behaved client cannot be made to send. */
async function wire(text: string): Promise<string> {
  const socket = connect(Number(new URL(origin).port), "127.0.0.1");
  socket.write(text);
  let got = "";
  socket.on("data", (chunk) => {
    got += chunk;
    if (got.includes("}}")) socket.end();
  });
  await once(socket, "close");
  return got;
}

describe("an answer", () => {
  test("has the envelope and the headers of every response", async () => {
    const { status, headers, body } = await call("GET", "/things/abc");
    expect({ status, body }).toEqual({
      status: 200,
      body: { data: { id: "abc" }, meta: { requestId: `req_${made}` } },
    });
    expect(Object.fromEntries(headers)).toMatchObject({
      "content-type": "application/json; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "x-request-id": `req_${made}`,
    });
    expect(Number(headers.get("content-length"))).toBeGreaterThan(0);
  });

  test("to a list moves the cursor into meta", async () => {
    const { body } = await call("GET", "/things");
    expect(body).toEqual({
      data: [{ id: "t1" }],
      meta: { requestId: `req_${made}`, nextCursor: "next", hasMore: true },
    });
  });

  test("has the status of its metadata: 201 for a create, 204 without a body for a delete", async () => {
    expect((await post({ qty: 1, flag: true })).status).toBe(201);
    const removed = await call("DELETE", "/things/abc?force=true");
    expect(removed).toMatchObject({ status: 204, text: "" });
    expect(removed.headers.get("x-request-id")).toBe(`req_${made}`);
    expect(removed.headers.has("content-type")).toBe(false);
  });

  test("that is a replay carries the first request's id in the body and the new one in the header", async () => {
    const { status, headers, body } = await call("POST", "/things/replay");
    expect({ status, body }).toEqual({ status: 202, body: { data: "again", meta: { requestId: "req_first" } } });
    expect(headers.get("idempotency-replayed")).toBe("true");
    expect(headers.get("x-request-id")).toBe(`req_${made}`);
    expect(headers.get("ratelimit")).toBe('"write";r=1;t=1');
  });

  test("whose caller has closed the connection aborts the work", async () => {
    [aborted, waiting, over] = [false, false, Promise.withResolvers<void>()];
    const controller = new AbortController();
    const gone = call("GET", "/wait", { signal: controller.signal }).catch(() => "gone");
    await expect.poll(() => waiting, { timeout: 20_000 }).toBe(true);
    controller.abort();
    expect(await gone).toBe("gone");
    await expect.poll(() => aborted, { timeout: 20_000 }).toBe(true);
    over.resolve();
    aborted = false;
    await call("GET", "/wait");
    expect(aborted).toBe(false);
  });
});

describe("a path", () => {
  test("with a fixed name wins over a parameter, whatever the order of registration", async () => {
    expect((await call("GET", "/things/types")).body.data).toBe("types");
    expect((await call("GET", "/things/typesx")).body.data).toEqual({ id: "typesx" });
  });

  test("falls back to the parameter if the fixed name matches nothing", async () => {
    expect((await call("POST", "/things/types/test")).body.data).toEqual({ id: "types" });
  });

  test("has its parameters percent-decoded, an encoded slash included, and read by their type", async () => {
    expect((await call("GET", "/things/a%2Fb%20%C3%BC")).body.data).toEqual({ id: "a/b ü" });
    expect((await call("PATCH", "/things/x/parts/7", { json: { name: "n" } })).body.data).toEqual({
      id: "x",
      part: 7,
      name: "n",
    });
    expect((await call("PATCH", "/things/x/parts/7x", { json: {} })).body.error.details[0].path).toBe("part");
  });

  test("with a malformed percent escape is refused", async () => {
    for (const path of ["/things/%zz", "/things/%E0%A4%A", "/things/%"]) {
      expect((await call("GET", path)).body.error).toMatchObject({ code: "input_invalid" });
    }
  });

  test("is case-sensitive, and indifferent to one slash at the end", async () => {
    expect((await call("GET", "/Things")).status).toBe(404);
    expect((await call("GET", "/things/")).status).toBe(200);
    expect((await call("GET", "/things//")).status).toBe(404);
  });

  test("that does not exist returns 404 route_not_found", async () => {
    for (const path of ["/nothing", "/", "", "/things/a/b/c/d", "/__proto__", "/constructor"]) {
      expect((await call("GET", path)).body.error.code).toBe("route_not_found");
    }
  });

  test("with a wrong method returns 405 with Allow; OPTIONS returns Allow too", async () => {
    const wrong = await call("PUT", "/things/abc");
    expect(wrong).toMatchObject({ status: 405, body: { error: { code: "method_not_allowed" } } });
    expect(wrong.headers.get("allow")).toBe("GET, HEAD, DELETE, OPTIONS");
    const asked = await call("OPTIONS", "/things");
    expect(asked).toMatchObject({ status: 204, text: "" });
    expect(asked.headers.get("allow")).toBe("GET, HEAD, POST, OPTIONS");
    expect((await call("OPTIONS", "/nothing")).status).toBe(404);
  });

  test("answers HEAD like GET without the body", async () => {
    const head = await call("HEAD", "/things/abc");
    expect(head).toMatchObject({ status: 200, text: "" });
    expect(Number(head.headers.get("content-length"))).toBeGreaterThan(20);
    expect((await call("HEAD", "/things/abc/test")).status).toBe(405);
  });
});

describe("a query string", () => {
  test("is read by the type of each field, through whatever wraps it", async () => {
    const query =
      "limit=5&rate=-1.5&active=false&big=12345678901234567890&kind=a&kind=b&level=2&size=7&ids=1&name=%20x%20&since=2026-08-01T10:00:00Z";
    expect((await echo(query)).data).toEqual({
      limit: 5,
      rate: -1.5,
      active: false,
      big: "12345678901234567890n",
      kind: ["a", "b"],
      level: 2,
      size: 7,
      ids: [1],
      name: "x",
      since: "2026-08-01T10:00:00.000Z",
    });
    expect((await echo("")).data).toEqual({ limit: 20, size: "max" });
  });

  test.each([
    "limit=",
    "limit=5x",
    "limit=0x5",
    "limit=1e3",
    "limit=%205",
    "limit=05",
    "limit=Infinity",
    "limit=1.5",
    "limit=101",
  ])("does not take %s for a number within bounds", async (query) => {
    expect(await echo(query)).toMatchObject({ error: { code: "input_invalid", details: [{ path: "limit" }] } });
  });

  test.each([
    "active=1",
    "active=TRUE",
    "active=",
    "since=2026-02-30T10:00:00Z",
    "since=yesterday",
    "big=1.0",
    "level=3",
    "ids=1,2",
    "kind[]=a",
  ])("refuses %s by name", async (query) => {
    const name = query.split("=")[0]!;
    const { error } = await echo(query);
    expect(error.code).toBe("input_invalid");
    expect(error.details[0].path.split(".")[0]).toBe(name);
  });

  test("refuses a repeated scalar, an unknown name and a broken escape", async () => {
    expect((await echo("limit=1&limit=2")).error.message).toBe("limit: Send it only once.");
    expect((await echo("nope=1&nope=2")).error.details).toEqual([{ path: "nope", message: "There is no such field." }]);
    expect((await echo("name=%zz")).error.code).toBe("input_invalid");
    expect((await call("GET", "/things/types?x=1")).body.error.details[0].path).toBe("x");
    expect((await call("GET", "/things/abc?id=other")).body.error.details[0].path).toBe("id");
  });

  test("reads a metadata filter as repeated key:value", async () => {
    expect((await echo("metadata=tier:gold&metadata=site:https://x.y")).data.metadata).toEqual({
      tier: "gold",
      site: "https://x.y",
    });
    expect((await echo("metadata=gold")).error.details[0].path).toBe("metadata");
    expect((await echo("metadata=a:1&metadata=a:2")).error.details[0].path).toBe("metadata.a");
  });

  test("cannot name a prototype", async () => {
    for (const query of [
      "__proto__=x",
      "constructor=x",
      "prototype=x",
      "__proto__[polluted]=x",
      "metadata=__proto__:x",
    ]) {
      expect((await echo(query)).error.code).toBe("input_invalid");
    }
    expect(({} as { polluted?: string }).polluted).toBeUndefined();
  });

  test("has no place on a POST, nor a body on a GET or DELETE", async () => {
    const { status, body } = await call("POST", "/things?qty=1", { json: { qty: 1, flag: true } });
    expect({ status, details: body.error.details }).toMatchObject({ status: 400, details: [{ path: "qty" }] });
    expect((await call("POST", "/things?", { json: { qty: 1, flag: true } })).status).toBe(201);
    expect((await call("DELETE", "/things/abc", { json: {} })).body.error.message).toBe(
      "A DELETE request takes no body.",
    );
    const answer = await wire("GET /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    expect(answer).toContain("A GET request takes no body.");
  });
});

describe("a body", () => {
  const viaTrpc = async (procedure: string, input: unknown) =>
    (
      await fetch(`${origin}/trpc/${procedure}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(input),
      })
    ).status;
  const asked = async (input: unknown) =>
    (await fetch(`${origin}/trpc/things.echo?input=${encodeURIComponent(JSON.stringify(input))}`)).status;

  async function nothingIsCoerced() {
    for (const bad of [
      { qty: "5", flag: true },
      { qty: null, flag: true },
      { qty: 5, flag: "false" },
      { qty: 5, flag: null },
      { qty: true, flag: 1 },
    ]) {
      expect((await post(bad)).body.error.code).toBe("input_invalid");
      expect(await viaTrpc("things.create", bad)).toBe(400);
    }
    expect(await asked({ limit: "5" })).toBe(400);
    expect(await asked({ active: "false" })).toBe(400);
    expect(await asked({ limit: 5 })).toBe(200);
  }

  test("is never coerced, on either transport, before and after a query string was", async () => {
    await nothingIsCoerced();
    expect((await echo("limit=5&active=false&level=1&ids=3")).data).toMatchObject({ limit: 5, active: false });
    expect((await post({ qty: 5, flag: false })).status).toBe(201);
    await nothingIsCoerced();
  });

  test("is parsed strictly: an unknown field is refused by name, and so is one that the path has", async () => {
    const unknown = await post({ qty: 1, flag: true, nope: 1 });
    expect(unknown.body.error).toMatchObject({
      code: "input_invalid",
      details: [{ path: "nope", message: "There is no such field." }],
    });
    const twice = await call("PATCH", "/things/x/parts/1", { json: { id: "x" } });
    expect(twice.body.error.details[0].path).toBe("id");
    expect((await call("POST", "/things/replay", { json: { any: 1 } })).body.error.details[0].path).toBe("any");
  });

  test("may be absent or empty, and is then an empty object", async () => {
    expect((await call("POST", "/things/abc/test")).status).toBe(200);
    expect(
      (await call("POST", "/things/abc/test", { body: "", headers: { "content-type": "text/plain" } })).status,
    ).toBe(200);
    expect((await post({})).body.error.details.map(({ path }: { path: string }) => path)).toEqual(["qty", "flag"]);
  });

  test("may name its charset, if that is UTF-8", async () => {
    const good = JSON.stringify({ qty: 1, flag: true, note: "zoë" });
    for (const type of [
      "application/json; charset=utf-8",
      'Application/JSON;charset="UTF-8"',
      "application/json; charset=utf8",
    ]) {
      expect(await raw(good, type)).toMatchObject({ status: 201, body: { data: { note: "zoë" } } });
    }
    for (const type of [
      "application/json; charset=latin1",
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonx",
    ]) {
      expect((await raw(good, type)).body.error.code).toBe("media_type_unsupported");
    }
    expect((await call("POST", "/things", { body: new Blob([good]) })).body.error.code).toBe("media_type_unsupported");
    const zipped = await call("POST", "/things", {
      body: good,
      headers: { "content-type": "application/json", "content-encoding": "gzip" },
    });
    expect(zipped.status).toBe(415);
  });

  test("that is not a JSON object in UTF-8 is refused without quoting it", async () => {
    for (const bad of [
      '{"qty":',
      "nonsense",
      "[]",
      "null",
      '"x"',
      "5",
      '\uFEFF{"qty":1}',
      new Uint8Array([0x7b, 0xff, 0x7d]),
      "[".repeat(900),
    ]) {
      const { status, body } = await raw(bad);
      expect({ status, code: body.error.code }).toEqual({ status: 400, code: "json_invalid" });
      expect(body.error.message).not.toMatch(/position|token/i);
    }
  });

  test("nested deeper than 64 levels is refused", async () => {
    const nested = (levels: number) => `{"qty":1,"flag":true,"more":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    expect((await raw(nested(63))).status).toBe(201);
    expect((await raw(nested(64))).body.error.code).toBe("json_invalid");
  });

  test("cannot name a prototype at any depth", async () => {
    for (const bad of [
      '{"__proto__":{"polluted":1}}',
      '{"more":[{"constructor":{"prototype":{"polluted":1}}}]}',
      '{"\\u005f_proto__":1}',
    ]) {
      expect((await raw(bad)).body.error.message).toMatch(/not allowed/);
    }
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test("that is too large is refused, by its announced length or as it arrives", async () => {
    expect((await raw(`{"note":"${"x".repeat(3_000)}"}`)).body.error.code).toBe("payload_too_large");
    const stream = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 30; i++) controller.enqueue(new TextEncoder().encode(" ".repeat(100)));
        controller.close();
      },
    });
    const streamed = await call("POST", "/things", {
      body: stream,
      duplex: "half",
      headers: { "content-type": "application/json" },
    } as Init);
    expect(streamed).toMatchObject({ status: 413, body: { error: { code: "payload_too_large" } } });
    const announced = await wire(
      "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{",
    );
    expect(announced).toMatch(/^HTTP\/1.1 413/);
  });

  test("that drips in is given up, and the line is cut", async () => {
    const createContext = ({ reply }: { reply: Reply }) => ({ requestId: "r", reply });
    const hasty = createServer(express().use(restRouter({ router, createContext, bodyDeadlineSeconds: 0.2 })));
    hasty.listen(0, "127.0.0.1");
    await once(hasty, "listening");
    const drip = request(`http://127.0.0.1:${(hasty.address() as AddressInfo).port}/things`, {
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    drip.on("error", () => undefined);
    drip.write("{");
    const [answer] = await once(drip, "response");
    expect(answer.statusCode).toBe(400);
    answer.resume();
    const start = Date.now();
    await once(drip, "close");
    expect(Date.now() - start).toBeLessThan(15_000);
    hasty.close();
  });

  test("is not read without authentication", async () => {
    const stranger = await call("POST", "/things", {
      body: "{bad",
      headers: { "content-type": "application/json", authorization: "Bearer nobody" },
    });
    expect(stranger.status).toBe(401);
  });
});

describe("a failure", () => {
  test("always has the envelope, from every layer", async () => {
    const failures = await Promise.all([
      call("GET", "/nothing"),
      call("PUT", "/things"),
      call("GET", "/things/%zz"),
      call("GET", "/things?limit=x"),
      call("GET", "/things", { headers: { authorization: "Bearer nobody" } }),
      call("GET", "/fail/bug"),
      call("GET", "/fail/fault"),
      call("GET", "/fail/trpc"),
      call("GET", "/fail/output"),
      raw("{"),
      raw("{}", "text/xml"),
      raw(" ".repeat(3_000)),
    ]);
    for (const { status, headers, body } of failures) {
      const { code, message, requestId, docUrl } = body.error;
      expect(status).toBe(errorCodes[code as keyof typeof errorCodes].status);
      expect({ docUrl, requestId }).toEqual({
        docUrl: expect.stringMatching(`/docs/errors#${code}$`),
        requestId: headers.get("x-request-id"),
      });
      expect(message.length).toBeGreaterThan(5);
      expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
    }
    expect(failures.map(({ status }) => status)).toEqual([404, 405, 400, 400, 401, 500, 429, 500, 500, 400, 415, 413]);
  });

  test("of ours hides its cause", async () => {
    for (const how of ["bug", "trpc", "output"]) {
      const { status, text, body } = await call("GET", `/fail/${how}`);
      expect({ status, code: body.error.code }).toEqual({ status: 500, code: "internal_error" });
      expect(text).not.toMatch(/secret|stack|expected string/i);
    }
    expect(seen).toContain("internal_error");
  });

  test("has Retry-After and WWW-Authenticate where they apply", async () => {
    expect((await call("GET", "/fail/fault")).headers.get("retry-after")).toBe("2");
    expect((await call("GET", "/fail/token")).headers.get("www-authenticate")).toBe("Bearer");
  });

  test("before there is a context has the caller's own request id, if that is well-formed", async () => {
    const id = async (given: string) =>
      (await call("GET", "/nothing", { headers: { "x-request-id": given } })).body.error.requestId;
    expect(await id("mine-1")).toBe("mine-1");
    expect(await id("not mine")).toMatch(/^req_/);
  });
});

describe("an invalid operation", () => {
  const open = (meta: Meta, input: z.ZodType) =>
    restRouter({
      router: t.router({
        x: t.procedure
          .meta(meta)
          .input(input)
          .query(() => null),
      }),
      createContext: ({ reply }) => ({ requestId: "r", reply }),
    });
  test("stops the start", () => {
    expect(() => open(rest("GET", "/x/{id}", null, "X"), z.strictObject({}))).toThrow("{id}");
    expect(() => open(rest("GET", "/x", null, "X"), z.strictObject({ a: z.object({}) }))).toThrow("type object");
    expect(() => open(rest("GET", "/x", null, "X"), z.string())).toThrow("must be an object");
    expect(() => open(rest("GET", "/x/a{id}", null, "X"), z.strictObject({ id: z.string() }))).toThrow("whole segment");
  });
});

describe("the reference page", () => {
  const get = (path: string, headers = {}) => fetch(`${origin}${path}`, { headers, redirect: "manual" });
  test("loads from us and forbids every other host", async () => {
    const answer = await get("/docs");
    expect(await answer.text()).toContain('src="./docs/scalar.js"');
    const policy = answer.headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/https?:|\*/);
    expect((await get("/docs/")).headers.get("location")).toBe("../docs");
  });

  test("serves the script zipped, and not again to who has it", async () => {
    const first = await get("/docs/scalar.js");
    expect(first.headers.get("content-encoding")).toBe("gzip");
    expect((await first.text()).length).toBeGreaterThan(1_000_000);
    expect(
      (await get("/docs/scalar.js", { "if-none-match": first.headers.get("etag")!, "cache-control": "max-age=0" }))
        .status,
    ).toBe(304);
  });

  test("explains every error code at its own anchor", async () => {
    const guide = await (await get("/docs/errors")).text();
    for (const code of Object.keys(errorCodes)) expect(guide).toContain(`id="${code}"`);
  });
});
