import { once } from "node:events";
import { createServer, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { createTRPCClient, httpBatchStreamLink, TRPCClientError } from "@trpc/client";
import { sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { bytesOf, createPatchbayClient, streaming } from "../../edge/client.ts";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { operationsOf } from "../../edge/rest/operations.ts";
import { sendChunks } from "../../edge/rest/stream.ts";
import { ApiError } from "../../routers/core/errors.ts";
import { query, router, stream } from "../../routers/core/procedures.ts";
import { Chunks } from "../../routers/core/reply.ts";
import { rest } from "../../routers/core/rest-metadata.ts";
import { scopes } from "../../routers/core/scopes.ts";
import { streamLimits } from "../../routers/core/shares.ts";
import { bounded } from "../../routers/core/stream.ts";
import { appRouter } from "../../routers/index.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { makeKey } from "../contract/endpoints/core.ts";
import { startTestApp, until } from "../support/app.ts";

/** What the door of sound shall do next, and what it saw. */
let play: () => AsyncIterable<string | Buffer> = () => beeps(3);
const seen = { made: 0, ended: 0, signal: undefined as AbortSignal | undefined };

async function* beeps(count: number, bytes = 1000): AsyncGenerator<Buffer> {
  try {
    for (let n = 0; n < count; n++) {
      seen.made += 1;
      yield Buffer.alloc(bytes, n % 256);
    }
  } finally {
    seen.ended += 1;
  }
}

/** A piece, and then whatever `then` does. */
async function* interrupted(then: () => Promise<unknown>): AsyncGenerator<string> {
  try {
    yield "first";
    await then();
    yield "last";
  } finally {
    seen.ended += 1;
  }
}

const Rows = z.strictObject({
  rows: z.int().min(0).max(10_000_000),
  atOnce: z.int().default(100),
  width: z.int().default(1),
});

const doors = router({
  calls: router({
    export: stream
      .meta(rest("GET", "/calls/export", "calls:read", "Calls as CSV", { produces: "text/csv" }))
      .input(Rows)
      .output(Chunks)
      .query(({ ctx, input: { rows, atOnce, width } }) => {
        async function* lines() {
          yield "number,name\n";
          for (let from = 1; from <= rows; from += atOnce) {
            const page = await ctx.page((tx) =>
              tx.execute<{ n: number; name: string }>(
                sql`select n, repeat('Zoë', ${width}::int) as name from generate_series(${from}::int, ${Math.min(rows, from + atOnce - 1)}::int) n`,
              ),
            );
            yield page.map(({ n, name }) => `${n},${name}\n`).join("");
          }
        }
        return { chunks: lines(), fileName: "calls.csv" };
      }),
    get: query
      .meta(rest("GET", "/calls/{id}", "calls:read", "A call"))
      .input(z.strictObject({ id: z.string() }))
      .output(z.string())
      .query(({ input }) => input.id),
  }),
  voices: router({
    preview: stream
      .meta(rest("GET", "/voices/{id}/preview", "voices:read", "Hear a voice", { produces: "audio/wav" }))
      .input(z.strictObject({ id: z.string() }))
      .output(Chunks)
      .query(({ ctx, input: { id } }) => {
        if (id === "voice_none") throw new ApiError("voice_not_found");
        if (id === "voice_mute")
          throw new ProviderError("unavailable", "The provider is away.", { retryAfterSeconds: 7 });
        seen.signal = ctx.deadline.signal;
        return { chunks: play() };
      }),
  }),
});

const log: string[] = [];
const h = await startTestApp({ router: doors, log });
const csv = (rows: number) => `number,name\n${Array.from({ length: rows }, (_, n) => `${n + 1},Zoë\n`).join("")}`;
const clientOf = (key = h.ada.key) =>
  createPatchbayClient({ url: h.url, apiKey: key }) as unknown as ReturnType<typeof createTRPCClient<typeof doors>>;
const errors = () => log.filter((line) => JSON.parse(line).msg === "a request failed");

/** Asks by hand, and gives the answer as soon as its head is there. */
async function open(
  path: string,
  { method = "GET", key = h.ada.key, signal = undefined as AbortSignal | undefined } = {},
) {
  const req = request(`${h.url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${key}` } }).end();
  signal?.addEventListener("abort", () => req.destroy());
  const [res] = await once(req, "response");
  req.on("error", () => {}); // heard at the response
  return res as import("node:http").IncomingMessage;
}

describe("a streaming door", () => {
  test("is open so often at once for a key and for a client, and there is room again when one ends, however it ends", async () => {
    play = () => interrupted(() => new Promise(() => {}));
    const keys = [h.ada.key, ...(await Promise.all([1, 2].map(() => makeKey(h, h.ada, scopes)))).map(({ key }) => key)];
    const gone = new AbortController();
    const hang = (key: string) => open("/voices/v/preview", { key, signal: gone.signal });
    for (let n = 0; n < streamLimits.perPrincipal; n++) expect((await hang(keys[0]!)).statusCode).toBe(200);
    expect((await hang(keys[0]!)).statusCode).toBe(429);
    for (let n = streamLimits.perPrincipal; n < streamLimits.perClient; n++)
      expect((await hang(keys[1]!)).statusCode).toBe(200);
    const refused = await h.get("/voices/v/preview", { key: keys[2]! });
    expect(refused).toMatchObject({ status: 429, body: { error: { code: "rate_limit_exceeded" } } });
    expect((await hang(h.bob.key)).statusCode, "another client has its own").toBe(200);
    gone.abort();
    await until(async () => h.deps.streams.taken === 0);
    play = () => beeps(3);
    const ways = [
      () => h.get("/voices/v/preview"),
      () => h.send("HEAD", "/voices/v/preview"),
      () => h.get("/voices/voice_none/preview"),
      () => h.get("/voices/voice_mute/preview"),
      () => h.query("voices.preview", { id: "v" }, { headers: { "trpc-accept": "application/jsonl" } }),
    ];
    for (const way of ways) await way();
    await until(async () => h.deps.streams.taken === 0);
  });

  test("gives the whole file, page by page, with what every answer says", async () => {
    const answer = await h.get("/calls/export?rows=1234");
    expect(answer.status).toBe(200);
    expect(answer.body).toBe(csv(1234));
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": 'attachment; filename="calls.csv"',
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "x-request-id": expect.stringMatching(/^req_/),
      ratelimit: expect.stringContaining("read"),
      "ratelimit-policy": expect.stringContaining("read"),
    });
    expect(answer.headers.has("content-length")).toBe(false);
    expect((await h.get("/calls/export?rows=0")).body).toBe("number,name\n");
  });

  test("gives bytes as they are", async () => {
    play = () => beeps(300);
    const got = await fetch(`${h.url}/api/v1/voices/v/preview`, { headers: { authorization: `Bearer ${h.ada.key}` } });
    expect(got.headers.get("content-type")).toBe("audio/wav");
    expect(got.headers.has("content-disposition")).toBe(false);
    const bytes = Buffer.from(await got.arrayBuffer());
    expect(bytes.equals(Buffer.concat(Array.from({ length: 300 }, (_, n) => Buffer.alloc(1000, n % 256))))).toBe(true);
  });

  test("an empty one is an empty file", async () => {
    play = () => beeps(0);
    expect(await h.get("/voices/v/preview")).toMatchObject({ status: 200, body: null });
  });

  test("answers HEAD with the same head and no body, and stops the source", async () => {
    const ended = seen.ended;
    play = () => beeps(1e9);
    const answer = await h.send("HEAD", "/voices/v/preview");
    expect(answer).toMatchObject({ status: 200, body: null });
    expect(answer.headers.get("content-type")).toBe("audio/wav");
    expect(seen.ended).toBe(ended + 1);
  });

  test("refuses like any other door, in the envelope", async () => {
    const other = await makeKey(h, h.ada, ["agents:read"]);
    const refusals = [
      [await h.get("/calls/export?rows=x"), 400, "input_invalid"],
      [await h.get("/calls/export?rows=1&no=1"), 400, "input_invalid"],
      [await h.get("/calls/export?rows=1", { key: null }), 401, "unauthenticated"],
      [await h.get("/calls/export?rows=1", { key: other.key }), 403, "scope_missing"],
      [await h.post("/calls/export", {}), 405, "method_not_allowed"],
      [await h.get("/voices/voice_none/preview"), 404, "voice_not_found"],
      [await h.get("/voices/voice_mute/preview"), 503, "provider_unavailable"],
    ] as const;
    for (const [{ status, body }, wanted, code] of refusals) {
      expect([status, body.error.code, typeof body.error.requestId]).toEqual([wanted, code, "string"]);
    }
    expect((await h.get("/voices/voice_mute/preview")).headers.get("retry-after")).toBe("7");
  });

  const early: [string, unknown, number, string][] = [
    ["a fault", new ApiError("recording_not_ready"), 409, "recording_not_ready"],
    ["a provider", new ProviderError("refused", "No."), 422, "provider_rejected"],
    ["a bug", new Error("secret"), 500, "internal_error"],
  ];
  test.each(early)("whose first piece fails by %s answers in the envelope", async (_, error, status, code) => {
    // biome-ignore lint/correctness/useYield: it fails before it gives anything
    play = async function* () {
      throw error;
    };
    const answer = await h.get("/voices/v/preview");
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
    expect(JSON.stringify(answer.body)).not.toContain("secret");
  });

  test("that fails later breaks the line, and is logged", async () => {
    const ended = seen.ended;
    const before = errors().length;
    play = () => interrupted(() => Promise.reject(new Error("broke in the middle")));
    await expect(h.get("/voices/v/preview")).rejects.toThrow();
    expect(seen.ended).toBe(ended + 1);
    await until(async () => errors().slice(before).join().includes("broke in the middle"));
  });

  test("that fails later does not look whole to HTTP/1.0 either, which has no other end than the line's", async () => {
    play = () => interrupted(() => Promise.reject(new Error("broke")));
    const { hostname, port } = new URL(h.url);
    const socket = connect(Number(port), hostname);
    socket.write(`GET /api/v1/voices/v/preview HTTP/1.0\r\nAuthorization: Bearer ${h.ada.key}\r\n\r\n`);
    socket.resume();
    const [error] = await once(socket, "error");
    expect(error.code).toBe("ECONNRESET");
  });
});

describe("while bytes go out", () => {
  const idle = async () => {
    const [row] = await h.owner`select count(*)::int as n from pg_stat_activity
      where datname = current_database() and usename = 'patchbay_tenant' and state like 'idle in transaction%'`;
    return row!.n as number;
  };

  test("no transaction is open, and more readers than there are connections leave one for everybody else", async () => {
    const stop = new AbortController();
    const readers = await Promise.all(
      Array.from({ length: 10 }, () => open("/calls/export?rows=1000000&width=2000", { signal: stop.signal })),
    );
    for (const reader of readers) reader.pause(); // they hold their streams and read nothing
    for (let n = 0; n < 10; n++) {
      expect((await h.get("/calls/call_1")).status).toBe(200);
    }
    await until(async () => (await idle()) === 0);
    expect(readers.map(({ complete }) => complete)).toEqual(Array(10).fill(false));
    for (const reader of readers) reader.on("error", () => {});
    stop.abort();
  });

  test("no more is made than is read", async () => {
    const before = seen.made;
    const stop = new AbortController();
    play = () => beeps(1e9, 64 * 1024);
    const reader = await open("/voices/v/preview", { signal: stop.signal });
    reader.on("error", () => {});
    reader.pause();
    let last = -1;
    await until(async () => {
      const made = seen.made - before;
      const still = made > 0 && made === last;
      last = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return still;
    });
    expect(seen.made - before).toBeLessThan(500); // what the kernel's buffers hold, and not a gigabyte
    stop.abort();
  });

  test("a caller who hangs up stops the work, and is no error of ours", async () => {
    const [ended, before] = [seen.ended, errors().length];
    const stop = new AbortController();
    play = () => interrupted(() => new Promise(() => {})); // a source that would stand still for ever
    const reader = await open("/voices/v/preview", { signal: stop.signal });
    reader.on("error", () => {});
    await once(reader, "data");
    expect(seen.signal?.aborted).toBe(false);
    stop.abort();
    await until(async () => seen.signal?.aborted);
    play = () => beeps(1e9, 64 * 1024);
    const second = new AbortController();
    const running = await open("/voices/v/preview", { signal: second.signal });
    running.on("error", () => {}).pause();
    second.abort();
    await until(async () => seen.ended > ended);
    await h.get("/calls/call_1");
    expect(errors().slice(before)).toEqual([]);
  });

  test("a key that is revoked opens no further page", async () => {
    const { id, key } = await makeKey(h, h.ada, ["calls:read"]);
    const reader = await open("/calls/export?rows=1000000&width=2000", { key });
    const end = once(reader, "error");
    reader.pause();
    await h.owner`update api_keys set revoked_at = now() where id = ${id}`;
    let size = 0;
    reader.on("data", (chunk) => {
      size += chunk.length;
    });
    reader.resume();
    expect((await end)[0]).toMatchObject({ code: "ECONNRESET" });
    expect(size).toBeLessThan(60_000_000);
  });

  test("a line on which nothing moves is cut, whichever side stands still", async () => {
    const signal = new AbortController().signal;
    const server = createServer((req, res) => {
      const chunks = req.url === "/source" ? interrupted(() => new Promise(() => {})) : beeps(1e9, 64 * 1024);
      sendChunks(res, { chunks: { chunks }, contentType: "audio/wav", headers: {}, signal, idleMs: 100 }).catch(
        () => {},
      );
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    for (const path of ["/source", "/reader"]) {
      const socket = connect(port, "127.0.0.1").on("error", () => {});
      const asked = once(server, "request");
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      if (path === "/source") socket.resume();
      else socket.pause();
      await asked;
      await until(async () => new Promise<boolean>((resolve) => server.getConnections((_, n) => resolve(n === 0))));
      socket.destroy();
    }
    server.close();
  });
});

describe("on /trpc", () => {
  test("the typed client reads the same bytes", async () => {
    const { chunks, fileName } = await clientOf().calls.export.query({ rows: 500 });
    expect(fileName).toBe("calls.csv");
    const got: Uint8Array[] = [];
    for await (const piece of bytesOf({ chunks })) got.push(piece);
    expect(Buffer.concat(got).toString()).toBe(csv(500));
    play = () => beeps(300);
    const sound: Uint8Array[] = [];
    for await (const piece of bytesOf(await clientOf().voices.preview.query({ id: "v" }))) sound.push(piece);
    expect(Buffer.concat(sound).length).toBe(300_000);
    expect(sound[255]).toEqual(new Uint8Array(1000).fill(255));
  });

  test("who asks plainly is told how to ask", async () => {
    const { status, body } = await h.query("calls.export", { rows: 1 });
    expect([status, body.error.data.code]).toEqual([400, "header_invalid"]);
    expect(body.error.message).toContain("httpBatchStreamLink");
  });

  test("a refusal has its code, and a failure in the middle is an error in the middle", async () => {
    const refused = await clientOf()
      .voices.preview.query({ id: "voice_none" })
      .catch((error) => error);
    expect(refused).toBeInstanceOf(TRPCClientError);
    expect(refused.data).toMatchObject({ code: "voice_not_found", httpStatus: 404 });
    const stranger = await clientOf("pb_live_nobody")
      .voices.preview.query({ id: "v" })
      .catch((error) => error);
    expect(stranger.data).toMatchObject({ code: "unauthenticated", httpStatus: 401 });
    play = () => interrupted(() => Promise.reject(new ProviderError("unavailable", "It broke.")));
    const pieces: string[] = [];
    const broken = (async () => {
      for await (const piece of bytesOf(await clientOf().voices.preview.query({ id: "v" }))) {
        pieces.push(Buffer.from(piece).toString());
      }
    })();
    await expect(broken).rejects.toThrow();
    expect(pieces).toEqual(["first"]);
  });

  test("who stops reading stops the work", async () => {
    const [ended, before] = [seen.ended, errors().length];
    play = () => beeps(1e9, 64 * 1024);
    const stop = new AbortController();
    const { chunks } = await clientOf().voices.preview.query({ id: "v" }, { signal: stop.signal });
    const reading = (async () => {
      for await (const _ of bytesOf({ chunks })) stop.abort();
    })();
    await reading.catch(() => {});
    await until(async () => seen.ended > ended);
    expect(await clientOf().calls.get.query({ id: "call_1" })).toBe("call_1");
    expect(errors().slice(before)).toEqual([]);
  });

  test("an ordinary procedure may be asked over the same link", async () => {
    const client = createTRPCClient<typeof doors>({
      links: [httpBatchStreamLink({ url: `${h.url}/trpc`, headers: { authorization: `Bearer ${h.ada.key}` } })],
    });
    expect(await client.calls.get.query({ id: "call_1" })).toBe("call_1");
  });
});

test("a stream has an end, whoever still sends", async () => {
  const ended = seen.ended;
  const read = async () => {
    for await (const _ of bounded(
      { chunks: interrupted(() => new Promise(() => {})) },
      AbortSignal.timeout(50),
      (e) => e,
    ));
  };
  await expect(read()).rejects.toMatchObject({ name: "TimeoutError" });
  const stuck = async () => {
    for await (const _ of bounded({ chunks: beeps(1e9) }, AbortSignal.timeout(50), (e) => e))
      await new Promise(setImmediate);
  };
  await expect(stuck()).rejects.toMatchObject({ name: "TimeoutError" });
  await until(async () => seen.ended > ended);
});

test("openapi.json says what comes instead of the envelope, and the typed client knows every such door", () => {
  const { paths } = openApiDocument(doors, { baseUrl: "https://x.test/api/v1", version: "1" });
  const answer = (path: string) => paths[path]!.get!.responses["200"];
  expect(answer("/calls/export")).toMatchObject({ content: { "text/csv": { schema: { type: "string" } } } });
  expect(Object.keys((answer("/voices/{id}/preview") as { content: object }).content)).toEqual(["audio/wav"]);
  expect(JSON.stringify(paths["/calls/export"])).toContain("X-Request-Id");
  const known = operationsOf(appRouter).filter(({ meta }) => meta.produces);
  expect(known.map(({ procedure }) => procedure).filter((name) => !streaming.has(name))).toEqual([]);
});
