import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import type { AgentTemplate, CallRequest, Ultravox } from "../../routers/ports/ultravox.ts";
import type { Attempt } from "../../server/adapters/http/client.ts";
import { closeConnections } from "../../server/adapters/http/connections.ts";
import { retryAfter } from "../../server/adapters/http/retry-after.ts";
import { type UltravoxOptions, ultravox } from "../../server/adapters/ultravox/index.ts";
import { verifyUltravoxSignature } from "../../server/adapters/ultravox/webhook.ts";

type Seen = { method: string; url: URL; headers: IncomingMessage["headers"]; body: unknown };
type Answer = (response: ServerResponse, seen: Seen, request: IncomingMessage) => void;

const key = "abcd1234.SECRETSECRETSECRETSECRETSECRET12";
const agentId = "agent_0198c5d0a1b2c3d4e5f6a7b8c9d0e1f2";
const callId = "call_0198c5d0a1b2c3d4e5f6a7b8c9d0e1f2";
const cleanups: (() => Promise<void>)[] = [];

const template: AgentTemplate = {
  systemPrompt: "Be kind to {{name}}.",
  model: null,
  voice: "Mark",
  languageHint: null,
  temperature: 0.5,
  firstSpeaker: "agent",
  greeting: "Hello!",
  recordingEnabled: true,
  maxDurationSeconds: 600,
  joinTimeoutSeconds: 30,
  inactivityMessages: [],
  timeExceededMessage: null,
  tools: [],
};

const dial: CallRequest = {
  callId,
  clientId: "client_1",
  providerAgentId: "upstream-agent",
  medium: { kind: "twilio", to: "+14155550100", from: "+14155550101" },
  variables: { name: "Ada" },
  joinTimeoutSeconds: 30,
  maxDurationSeconds: 90.5,
  recordingEnabled: false,
};

function call(over: object = {}) {
  return {
    callId: "upstream-call",
    created: "2026-08-01T10:00:00.123456Z",
    joined: null,
    ended: null,
    endReason: null,
    billingStatus: "BILLING_STATUS_PENDING",
    billedDuration: null,
    sipDetails: null,
    metadata: { callId },
    joinUrl: "wss://join.example/1",
    summary: null,
    shortSummary: null,
    somethingNew: { from: "the future" },
    ...over,
  };
}

/** A provider that returns its n-th response to the n-th request, and then repeats the last. */
async function provider(...answers: Answer[]) {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const url = new URL(request.url ?? "", "http://provider.test");
    const one = {
      method: request.method ?? "",
      url,
      headers: request.headers,
      body: text ? JSON.parse(text) : undefined,
    };
    seen.push(one);
    (answers[seen.length - 1] ?? answers.at(-1))?.(response, one, request);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The test server has no port");
  return { seen, baseUrl: `http://127.0.0.1:${address.port}` };
}

/** An address without a listener. */
async function nobody(): Promise<string> {
  const { baseUrl } = await provider();
  await cleanups.pop()?.();
  return baseUrl;
}

function reply(status: number, body?: unknown, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
  };
}

const hang: Answer = () => {};
const reset: Answer = (_response, _seen, request) => request.socket.resetAndDestroy();
const resetMidBody: Answer = (response, _seen, request) => {
  response.writeHead(201, { "content-length": "1000" });
  response.write('{"callId": "up');
  setTimeout(() => request.socket.resetAndDestroy(), 20);
};
const slowDrip: Answer = (response) => {
  response.writeHead(201, { "content-type": "application/json" });
  const drip = setInterval(() => response.write(" "), 20);
  response.on("close", () => clearInterval(drip));
};
const hugeBody: Answer = (response) => {
  response.writeHead(201, { "content-type": "application/json" });
  const chunk = Buffer.alloc(1024 * 1024, " ");
  const pour = () => {
    while (!response.destroyed && response.write(chunk)) {}
  };
  response.on("drain", pour);
  pour();
};

function adapter(baseUrl: string, over: Partial<UltravoxOptions> = {}): Ultravox {
  return ultravox({
    baseUrl,
    apiKeyOf: async () => key,
    pace: { attemptTimeoutMs: 5_000, backoffBaseMs: 5 },
    breaker: { failures: 100 },
    ...over,
  });
}

function within(ms = 30_000) {
  return { signal: AbortSignal.timeout(ms) };
}

async function failure(work: Promise<unknown>): Promise<ProviderError> {
  const error = await work.then(
    () => new Error("It worked"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderError)) throw error;
  const chain = [error.message, String(error.cause), JSON.stringify(error), error.stack ?? ""].join("\n");
  expect(chain).not.toContain(key);
  return error;
}

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
  await closeConnections();
});

describe("a create", () => {
  const create = (baseUrl: string, ms?: number) => adapter(baseUrl).createCall("pacc_1", dial, within(ms));

  test.each([
    ["reset before the answer", reset],
    ["reset in the middle of the answer", resetMidBody],
    ["500", reply(500, { detail: "boom" })],
    ["502", reply(502, "<html>bad gateway</html>")],
    ["504", reply(504)],
    ["408", reply(408)],
    ["a redirect", reply(303, undefined, { location: "https://elsewhere.example/" })],
    ["201 with garbage", reply(201, "{{nonsense")],
    ["201 without a body", reply(201)],
    ["201 with a wrong type", reply(201, call({ created: 12 }))],
    ["201 with a huge body", hugeBody],
  ])("is unknown, and not repeated, after: %s", async (_name, answer) => {
    const { baseUrl, seen } = await provider(answer);
    expect((await failure(create(baseUrl))).kind).toBe("unknown");
    expect(seen).toHaveLength(1);
  });

  test.each([
    ["a provider that hangs", hang],
    ["a slow drip", slowDrip],
  ])("waits for %s until the deadline, no longer, and is unknown", async (_name, answer) => {
    const { baseUrl, seen } = await provider(answer);
    const startedAt = performance.now();
    expect((await failure(create(baseUrl, 1_000))).kind).toBe("unknown");
    expect(performance.now() - startedAt).toBeGreaterThan(950);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(seen).toHaveLength(1);
  });

  test("reads no more of a response than the limit, and reports it", async () => {
    const { baseUrl } = await provider(hugeBody);
    expect((await failure(create(baseUrl))).message).toBe("No clear answer from Ultravox: its answer is too large");
  });

  test("is unavailable without a listener", async () => {
    const attempts: Attempt[] = [];
    const nobodyHome = adapter(await nobody(), { log: (attempt) => attempts.push(attempt) });
    expect((await failure(nobodyHome.createCall("pacc_1", dial, within()))).kind).toBe("unavailable");
    expect(attempts.map(({ attempt, status, outcome }) => ({ attempt, status, outcome }))).toEqual([
      { attempt: 1, status: null, outcome: "unavailable" },
      { attempt: 2, status: null, outcome: "unavailable" },
      { attempt: 3, status: null, outcome: "unavailable" },
    ]);
  });

  test("is unavailable, not unknown, when the deadline passes before the connection is up", async () => {
    const sockets: Socket[] = [];
    const silent = createTcpServer((socket) => sockets.push(socket.on("error", () => {})));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    cleanups.push(async () => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    const address = silent.address();
    if (address === null || typeof address === "string") throw new Error("The test server has no port");
    const startedAt = performance.now();
    expect((await failure(create(`https://127.0.0.1:${address.port}`, 200))).kind).toBe("unavailable");
    expect(performance.now() - startedAt).toBeLessThan(4_000); // connecting is given up after 5 s
  });

  test("is repeated after 429, three times at most", async () => {
    const { baseUrl, seen } = await provider(reply(429, { detail: "busy" }));
    const error = await failure(create(baseUrl));
    expect(error).toMatchObject({ kind: "unavailable", status: 429 });
    expect(seen).toHaveLength(3);
  });

  test("is unknown after 503, and not repeated: it may have been done", async () => {
    const { baseUrl, seen } = await provider(reply(503, { detail: "busy" }));
    const error = await failure(create(baseUrl));
    expect(error).toMatchObject({ kind: "unknown", status: 503 });
    expect(seen).toHaveLength(1);
  });

  test("is done when the repeat succeeds", async () => {
    const { baseUrl, seen } = await provider(
      reply(429, undefined, { "retry-after": "0" }),
      reply(429),
      reply(201, call()),
    );
    expect(await create(baseUrl)).toMatchObject({ providerCallId: "upstream-call", callId });
    expect(seen).toHaveLength(3);
  });

  test("is unknown when the repeat after a 429 is lost", async () => {
    const { baseUrl, seen } = await provider(reply(429), reset);
    expect((await failure(create(baseUrl))).kind).toBe("unknown");
    expect(seen).toHaveLength(2);
  });

  test("waits for Retry-After in seconds", async () => {
    const { baseUrl, seen } = await provider(reply(429, undefined, { "retry-after": "1" }), reply(201, call()));
    const startedAt = performance.now();
    await create(baseUrl);
    expect(performance.now() - startedAt).toBeGreaterThan(990);
    expect(seen).toHaveLength(2);
  });

  test("fails immediately on a Retry-After beyond the limit, in either form, and returns the delay", async () => {
    for (const header of ["3600", new Date(Date.now() + 3_600_000).toUTCString()]) {
      const { baseUrl, seen } = await provider(reply(429, undefined, { "retry-after": header }));
      const startedAt = performance.now();
      const error = await failure(create(baseUrl));
      expect(error.kind).toBe("unavailable");
      expect(error.retryAfterSeconds).toBeGreaterThan(3_500);
      expect(error.retryAfterSeconds).toBeLessThanOrEqual(3_600);
      expect(performance.now() - startedAt).toBeLessThan(10_000);
      expect(seen).toHaveLength(1);
    }
  });

  test("gives up at the deadline when Retry-After lies beyond it", async () => {
    const { baseUrl, seen } = await provider(reply(429, undefined, { "retry-after": "5" }));
    const startedAt = performance.now();
    expect(await failure(create(baseUrl, 1_000))).toMatchObject({ kind: "unavailable", retryAfterSeconds: 5 });
    expect(performance.now() - startedAt).toBeLessThan(4_500);
    expect(seen).toHaveLength(1);
  });

  test("after the deadline nothing is sent", async () => {
    const { baseUrl, seen } = await provider(reply(201, call()));
    const late = adapter(baseUrl).createCall("pacc_1", dial, { signal: AbortSignal.abort() });
    expect((await failure(late)).kind).toBe("unavailable");
    expect(seen).toHaveLength(0);
  });

  test("a key that cannot be read, or arrives too late, means that nothing was sent", async () => {
    const { baseUrl, seen } = await provider(reply(201, call()));
    const sealed = adapter(baseUrl, { apiKeyOf: () => Promise.reject(new Error("KMS is down")) });
    expect((await failure(sealed.createCall("pacc_1", dial, within()))).kind).toBe("unavailable");
    const slow = adapter(baseUrl, { apiKeyOf: () => new Promise(() => {}) });
    expect((await failure(slow.createCall("pacc_1", dial, within(50)))).kind).toBe("unavailable");
    expect(seen).toHaveLength(0);
  });

  test.each([
    [
      400,
      { metadata: ["keys may not start with ultravox."] },
      "Ultravox refused: metadata: keys may not start with ultravox.",
    ],
    [400, { callTemplate: { voice: ["No such voice."] } }, "Ultravox refused: callTemplate: voice: No such voice."],
    [400, { non_field_errors: ["Both are set."] }, "Ultravox refused: Both are set."],
    [403, { detail: `Invalid API key ${key}` }, "Ultravox refused: Invalid API key [secret]"],
    [422, "just words", "Ultravox refused: just words"],
    [404, "<html>not found</html>", "Ultravox refused: status 404"],
    [413, undefined, "Ultravox refused: status 413"],
    [400, { "a\0": ["no\0such \ud800voice"] }, "Ultravox refused: a\ufffd: no\ufffdsuch \ufffdvoice"],
    [400, { detail: "😀".repeat(200) }, `Ultravox refused: ${"😀".repeat(149)}\ufffd…`],
  ])("a %i with %j is refused in words", async (status, body, message) => {
    const { baseUrl, seen } = await provider(reply(status, body));
    expect(await failure(create(baseUrl))).toMatchObject({ kind: "refused", status, message });
    expect(seen).toHaveLength(1);
  });

  test("a refusal whose body breaks off is still a refusal", async () => {
    const { baseUrl } = await provider((response, _seen, request) => {
      response.writeHead(400, { "content-length": "1000" });
      response.write("{");
      setTimeout(() => request.socket.destroy(), 20);
    });
    expect(await failure(create(baseUrl))).toMatchObject({ kind: "refused", status: 400 });
  });

  test("the password of a trunk is masked, even when the provider echoes it", async () => {
    const { baseUrl } = await provider(reply(400, { detail: "wrong password hunter2-hunter2" }));
    const medium = { kind: "sip", to: "+1", from: "+2", username: "u", password: "hunter2-hunter2" } as const;
    const asked = adapter(baseUrl, { sipTrunk: "t.example" }).createCall("pacc_1", { ...dial, medium }, within());
    expect((await failure(asked)).message).toBe("Ultravox refused: wrong password [secret]");
  });
});

describe("what may be repeated", () => {
  test.each([
    ["reset", reset],
    ["hang", hang],
    ["429", reply(429)],
    ["500", reply(500)],
    ["502", reply(502)],
    ["503", reply(503)],
    ["504", reply(504)],
  ])("a read goes on after: %s", async (_name, answer) => {
    const { baseUrl, seen } = await provider(answer, answer, reply(200, call()));
    const patient = adapter(baseUrl, { pace: { attemptTimeoutMs: 2_000, backoffBaseMs: 5 } });
    expect(await patient.getCall("pacc_1", "c", within())).toMatchObject({ providerCallId: "upstream-call" });
    expect(seen).toHaveLength(3);
  });

  test("a read that never succeeds is unavailable after three tries; a change is unknown", async () => {
    const { baseUrl, seen } = await provider(reset);
    expect((await failure(adapter(baseUrl).getCall("pacc_1", "c", within()))).kind).toBe("unavailable");
    expect(seen).toHaveLength(3);
    expect((await failure(adapter(baseUrl).updateAgent("pacc_1", "a", template, within()))).kind).toBe("unknown");
    expect(seen).toHaveLength(6);
  });

  test("a change that was once in doubt stays in doubt after a 503", async () => {
    const { baseUrl } = await provider(reset, reply(503));
    expect((await failure(adapter(baseUrl).updateAgent("pacc_1", "a", template, within()))).kind).toBe("unknown");
  });

  test("three hanging attempts end each at its own limit, and all at the deadline", async () => {
    const deadline = new AbortController();
    let endedAt = 0;
    const { baseUrl, seen } = await provider(hang, () => {
      endedAt = performance.now();
      deadline.abort();
    });
    const uv = adapter(baseUrl, { pace: { attemptTimeoutMs: 3_000, backoffBaseMs: 5 } });
    await failure(uv.getCall("pacc_1", "c", { signal: deadline.signal }));
    expect(performance.now() - endedAt).toBeLessThan(2_500);
    expect(seen).toHaveLength(2);
  });

  test("a response of the wrong type names the field, and the request is not repeated", async () => {
    const { baseUrl, seen } = await provider(reply(200, call({ billedDuration: 42 })));
    const error = await failure(adapter(baseUrl).getCall("pacc_1", "c", within()));
    expect(error).toMatchObject({ kind: "unavailable", message: expect.stringContaining("billedDuration") });
    expect(seen).toHaveLength(1);
  });

  test("a redirect is not followed, and the key is sent to no other host", async () => {
    const elsewhere = await provider(reply(200, call()));
    const { baseUrl, seen } = await provider(reply(302, undefined, { location: `${elsewhere.baseUrl}/api/calls/c` }));
    expect((await failure(adapter(baseUrl).getCall("pacc_1", "c", within()))).kind).toBe("unavailable");
    expect(seen).toHaveLength(1);
    expect(elsewhere.seen).toHaveLength(0);
  });

  test("proxies named by the environment are ignored", async () => {
    const { baseUrl, seen } = await provider(reply(200, call()));
    const proxy = await provider(reply(200, call()));
    process.env.HTTP_PROXY = proxy.baseUrl;
    try {
      await adapter(baseUrl).getCall("pacc_1", "c", within());
    } finally {
      delete process.env.HTTP_PROXY;
    }
    expect([seen.length, proxy.seen.length]).toEqual([1, 0]);
  });

  test("Retry-After is read as seconds or as a date, and never trusted beyond a day", () => {
    const now = Date.parse("2026-08-01T10:00:00Z");
    expect(retryAfter("7", now)).toBe(7);
    expect(retryAfter(["1.2", "9"], now)).toBe(2);
    expect(retryAfter("Sat, 01 Aug 2026 10:00:30 GMT", now)).toBe(30);
    expect(retryAfter("Sat, 01 Aug 2026 09:00:00 GMT", now)).toBe(0);
    expect(retryAfter("99999999999999", now)).toBe(86_400);
    expect(retryAfter("soon", now)).toBeUndefined();
    expect(retryAfter(undefined, now)).toBeUndefined();
  });
});

describe("the breaker", () => {
  const breaker = { failures: 3, halfOpenAfterMs: 5_000 };
  beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
  afterEach(() => void vi.useRealTimers());

  test("opens after failures in a row, lets nothing through, and closes after a good probe", async () => {
    let isHealthy = false;
    const { baseUrl, seen } = await provider((response, ...rest) =>
      (isHealthy ? reply(201, call()) : reply(500))(response, ...rest),
    );
    const uv = adapter(baseUrl, { breaker });
    for (let n = 0; n < 3; n += 1) await failure(uv.createCall("pacc_1", dial, within()));
    expect(seen).toHaveLength(3);

    const rejected = await failure(uv.createCall("pacc_1", dial, within()));
    expect(rejected).toMatchObject({ kind: "unavailable", retryAfterSeconds: 5 });
    expect(seen).toHaveLength(3);

    expect((await failure(uv.createCall("pacc_2", dial, within()))).kind).toBe("unknown");
    expect(seen).toHaveLength(4);

    vi.setSystemTime(Date.now() + 5_000);
    isHealthy = true;
    await uv.createCall("pacc_1", dial, within());
    await uv.createCall("pacc_1", dial, within());
    expect(seen).toHaveLength(6);
  });

  test("opens again after a failed probe, and during a probe refuses the others immediately", async () => {
    const probed = Promise.withResolvers<void>();
    const { baseUrl, seen } = await provider(reply(500), reply(500), reply(500), () => probed.resolve());
    const uv = adapter(baseUrl, { breaker });
    for (let n = 0; n < 3; n += 1) await failure(uv.createCall("pacc_1", dial, within()));
    vi.setSystemTime(Date.now() + 5_000);
    const deadline = new AbortController();
    const probe = failure(uv.createCall("pacc_1", dial, { signal: deadline.signal }));
    await probed.promise; // and it is not answered before the deadline
    expect((await failure(uv.createCall("pacc_1", dial, within()))).kind).toBe("unavailable");
    deadline.abort();
    expect((await probe).kind).toBe("unknown");
    expect((await failure(uv.createCall("pacc_1", dial, within()))).kind).toBe("unavailable");
    expect(seen).toHaveLength(4);
  });

  test("refusals, rate limits and unexpected responses do not open it", async () => {
    for (const answer of [reply(400), reply(429, undefined, { "retry-after": "60" }), reply(201, "nonsense")]) {
      const { baseUrl, seen } = await provider(answer);
      const uv = adapter(baseUrl, { breaker });
      for (let n = 0; n < 6; n += 1) await failure(uv.createCall("pacc_1", dial, within()));
      expect(seen).toHaveLength(6);
    }
  });

  test("a change that was in doubt before the breaker opened is unknown", async () => {
    const { baseUrl, seen } = await provider(reset);
    const uv = adapter(baseUrl, { breaker: { ...breaker, failures: 2 } });
    expect((await failure(uv.updateAgent("pacc_1", "a", template, within()))).kind).toBe("unknown");
    expect(seen).toHaveLength(2);
  });
});

describe("the enums of Ultravox", () => {
  test("an agent is made under our id, with durations as protobuf strings", async () => {
    const { baseUrl, seen } = await provider(reply(201, { agentId: "a1", publishedRevisionId: "r1", name: agentId }));
    const made = await adapter(`${baseUrl}/`).createAgent("pacc_1", { id: agentId, template }, within());
    expect(made).toEqual({ providerAgentId: "a1", revisionId: "r1", name: agentId });
    expect(seen[0]).toMatchObject({ method: "POST", url: { pathname: "/api/agents" }, headers: { "x-api-key": key } });
    expect(seen[0]?.body).toEqual({
      name: agentId,
      callTemplate: {
        systemPrompt: "Be kind to {{name}}.",
        model: "ultravox-v0.7",
        temperature: 0.5,
        voice: "Mark",
        recordingEnabled: true,
        maxDuration: "600s",
        joinTimeout: "30s",
        firstSpeakerSettings: { agent: { text: "Hello!" } },
      },
    });
  });

  test("an update states what is unset too, and lets the person speak first with a fallback", async () => {
    const { baseUrl, seen } = await provider(reply(200, { agentId: "a1", publishedRevisionId: null, name: agentId }));
    const changed: AgentTemplate = {
      ...template,
      voice: null,
      temperature: null,
      firstSpeaker: "user",
      greeting: null,
    };
    await adapter(baseUrl).updateAgent("pacc_1", "a/1", changed, within());
    expect(seen[0]).toMatchObject({ method: "PATCH", url: { pathname: "/api/agents/a%2F1" } });
    expect(seen[0]?.body).toMatchObject({
      callTemplate: {
        voice: "",
        languageHint: "",
        temperature: 0,
        firstSpeakerSettings: { user: { fallback: { delay: "3s" } } },
      },
    });
  });

  test("a gone agent is deleted", async () => {
    const { baseUrl, seen } = await provider(reset, reply(404, { detail: "Not found." }));
    await adapter(baseUrl).deleteAgent("pacc_1", "a1", within());
    expect(seen.map(({ method }) => method)).toEqual(["DELETE", "DELETE"]);
  });

  test.each([
    [{ kind: "web" }, { webRtc: {} }],
    [dial.medium, { twilio: { outgoing: { to: "+14155550100", from: "+14155550101" } } }],
    [{ kind: "telnyx", to: "+1", from: "+2" }, { telnyx: { outgoing: { to: "+1", from: "+2" } } }],
    [{ kind: "plivo", to: "+1", from: "+2" }, { plivo: { outgoing: { to: "+1", from: "+2" } } }],
    [
      { kind: "sip", to: "+1", from: "+2" },
      { sip: { outgoing: { to: "sip:+1@t.example", from: "sip:+2@t.example" } } },
    ],
    [
      { kind: "sip", to: "sip:ada@pbx.example", from: "+2", username: "u", password: "p" },
      { sip: { outgoing: { to: "sip:ada@pbx.example", from: "sip:+2@t.example", username: "u", password: "p" } } },
    ],
  ] as [CallRequest["medium"], object][])("a call over %j", async (medium, body) => {
    const { baseUrl, seen } = await provider(reply(201, call({ joinUrl: null })));
    await adapter(baseUrl, { sipTrunk: "t.example" }).createCall("pacc_1", { ...dial, medium }, within());
    expect(seen[0]?.url.pathname).toBe("/api/agents/upstream-agent/calls");
    expect(seen[0]?.body).toEqual({
      templateContext: { name: "Ada" },
      metadata: { callId, clientId: "client_1" },
      medium: body,
      joinTimeout: "30s",
      maxDuration: "90.5s",
      recordingEnabled: false,
    });
  });

  test("a number is not dialled over SIP without a trunk", async () => {
    const { baseUrl, seen } = await provider(reply(201, call()));
    const medium = { kind: "sip", to: "+1", from: "+2" } as const;
    const asked = adapter(baseUrl).createCall("pacc_1", { ...dial, medium }, within());
    expect((await failure(asked)).kind).toBe("refused");
    expect(seen).toHaveLength(0);
  });

  test("a list is read to its end by the cursor alone, on our own host", async () => {
    const elsewhere = await provider(reply(200, { results: [], next: null }));
    const other = call({ callId: "other", metadata: { callId: `${callId}x` } });
    const { baseUrl, seen } = await provider(
      reply(200, { results: [call(), other], next: `${elsewhere.baseUrl}/evil?cursor=c%3D1&pageSize=1`, total: 3 }),
      reply(200, { results: [call({ callId: "second" }), call({ callId: "bare", metadata: null })], next: null }),
    );
    const since = new Date("2026-08-01T10:00:00Z");
    const found = await adapter(baseUrl).findCalls("pacc_1", callId, since, within());
    expect(found.map((each) => each.providerCallId)).toEqual(["upstream-call", "second"]);
    expect(seen.map(({ url }) => Object.fromEntries(url.searchParams))).toEqual([
      { "metadata.callId": callId, fromDate: "2026-08-01T09:55:00.000Z", pageSize: "100" },
      { "metadata.callId": callId, fromDate: "2026-08-01T09:55:00.000Z", pageSize: "100", cursor: "c=1" },
    ]);
    expect(elsewhere.seen).toHaveLength(0);
  });

  test("agents are found by their exact name", async () => {
    const named = (name: string) => ({ agentId: name, publishedRevisionId: null, name });
    const { baseUrl, seen } = await provider(
      reply(200, { results: [named(agentId), named(`${agentId}0`)], next: null }),
    );
    const found = await adapter(baseUrl).findAgents("pacc_1", agentId, within());
    expect(found.map(({ name }) => name)).toEqual([agentId]);
    expect(seen[0]?.url.searchParams.get("search")).toBe(agentId);
  });

  test.each([
    ["goes in a circle", 2, () => "http://x.example/?cursor=same"],
    ["has a next page without a cursor", 1, () => "http://x.example/?page=2"],
    ["never ends", 200, (n: number) => `http://x.example/?cursor=${n}`],
  ])("a list that %s is an error, never half a list", async (_name, requests, next) => {
    const { baseUrl, seen } = await provider((response, ...rest) =>
      reply(200, { results: [], next: next(seen.length) })(response, ...rest),
    );
    const error = await failure(adapter(baseUrl).listMessages("pacc_1", "c", within(50_000)));
    expect(error.kind).toBe("unavailable");
    expect(seen).toHaveLength(requests);
  });

  test("messages come from all stages", async () => {
    const results = [
      { role: "MESSAGE_ROLE_AGENT", text: "Hi", timespan: { start: "0s", end: "1.25s" } },
      { role: "MESSAGE_ROLE_TOOL_CALL", text: "{}", toolName: "look", invocationId: "i" },
      { role: "MESSAGE_ROLE_UNSPECIFIED", text: "?" },
      { role: "MESSAGE_ROLE_USER", wallClockTimespan: { start: "2s" } },
    ];
    const { baseUrl, seen } = await provider(reply(200, { results, next: null }));
    expect(await adapter(baseUrl).listMessages("pacc_1", "c", within())).toEqual([
      { role: "agent", text: "Hi", toolName: null, startSeconds: 0, endSeconds: 1.25 },
      { role: "tool_call", text: "{}", toolName: "look", startSeconds: null, endSeconds: null },
      { role: "user", text: "", toolName: null, startSeconds: 2, endSeconds: null },
    ]);
    expect(seen[0]?.url.searchParams.get("mode")).toBe("in_call");
  });

  test("a hang-up is done, or returns that the call is not joined; a call that does not exist is null", async () => {
    const { baseUrl, seen } = await provider(
      reply(204),
      reply(422, { detail: "Call not joined" }),
      reply(404),
      reply(404),
    );
    const uv = adapter(baseUrl);
    expect(await uv.hangUp("pacc_1", "c", within())).toBe("done");
    expect(await uv.hangUp("pacc_1", "c", within())).toBe("not_joined");
    expect((await failure(uv.hangUp("pacc_1", "c", within()))).kind).toBe("refused");
    expect(await uv.getCall("pacc_1", "c", within())).toBeNull();
    expect(seen[0]).toMatchObject({ url: { pathname: "/api/calls/c/send_data_message" }, body: { type: "hang_up" } });
  });

  test.each([
    ["PENDING", "42s", "pending", null],
    ["UNSPECIFIED", null, "pending", null],
    ["INVENTED_LATER", "42s", "final", 42],
    ["INVENTED_LATER", null, "final", 0],
    ["BILLED", "42s", "final", 42],
    ["BILLED", "5.5s", "final", 6],
    ["FREE_ZERO_EFFECTIVE_DURATION", null, "final", 0],
    ["FREE_MINUTES", "6s", "final", 6],
    ["REFUNDED", "12s", "refunded", 12],
  ])("billing %s with %s is %s", (status, billedDuration, billing, billedSeconds) => {
    const billed = call({ billingStatus: `BILLING_STATUS_${status}`, billedDuration });
    const body = Buffer.from(JSON.stringify({ event: "call.billed", call: billed }));
    expect(adapter("http://x.example").readEvent(body).call).toMatchObject({ billing, billedSeconds });
  });

  test.each(["BILLED", "PENDING", "INVENTED_LATER"])(
    "a bill longer than a day is none yet, with status %s",
    (status) => {
      const long = "999999999999s";
      for (const durations of [
        { billedDuration: long },
        { billedDuration: "6s", sipDetails: { billedDuration: long } },
      ]) {
        const billed = call({ billingStatus: `BILLING_STATUS_${status}`, ended: "2026-08-01T10:00:00Z", ...durations });
        const body = Buffer.from(JSON.stringify({ event: "call.billed", call: billed }));
        const seen = adapter("http://x.example").readEvent(body).call;
        expect(seen).toMatchObject({ billing: "pending", billedSeconds: null, sipBilledSeconds: null });
        expect(seen.endedAt).not.toBeNull();
      }
    },
  );

  test("an ended telephone call has a reason in our enum", () => {
    const ended = call({
      joined: "2026-08-01T10:00:05",
      ended: "2026-08-01T12:00:35+02:00",
      endReason: "unjoined",
      sipDetails: { billedDuration: "18s", terminationReason: "SIP_TERMINATION_CANCELED" },
    });
    const uv = adapter("http://x.example");
    expect(uv.readEvent(Buffer.from(JSON.stringify({ event: "call.ended", call: ended })))).toEqual({
      event: "call.ended",
      call: {
        providerCallId: "upstream-call",
        callId,
        createdAt: new Date("2026-08-01T10:00:00.123Z"),
        joinedAt: new Date("2026-08-01T10:00:05Z"),
        endedAt: new Date("2026-08-01T10:00:35Z"),
        endReason: "unjoined",
        billedSeconds: null,
        billing: "pending",
        sipBilledSeconds: 18,
        sipReason: "cancelled",
        joinUrl: "wss://join.example/1",
        summary: null,
        shortSummary: null,
        providerAgentId: null,
        recordingEnabled: false,
        medium: "web",
        isInbound: false,
        fromRaw: null,
        toRaw: null,
      },
    });
  });

  test.each(["", "nonsense", "[]", '{"event":"call.completed"}', JSON.stringify({ event: "call.ended", call: {} })])(
    "%j is no event",
    (text) => {
      const uv = adapter("http://x.example");
      expect(() => uv.readEvent(Buffer.from(text))).toThrow(expect.objectContaining({ name: "ZodError" }));
    },
  );
});

describe("a webhook's signature", () => {
  const rawBody = Buffer.from('{"event":"call.ended","call":{"summary":"caf\u00e9"}}');
  const now = new Date("2026-08-01T10:00:00Z");
  const secrets = [
    { accountId: "pacc_1", secretId: "old", secret: "first-secret" },
    { accountId: "pacc_1", secretId: "new", secret: "zweites-Geheimnis-\u00fc" },
    { accountId: "pacc_2", secretId: "theirs", secret: "third-secret" },
  ];
  const at = "2026-08-01T09:59:30.000000+00:00";
  let given: Parameters<typeof verifyUltravoxSignature>[0];

  function sign(secret: string, timestamp = at, body = rawBody): string {
    const message = Buffer.concat([body, Buffer.from(timestamp)]);
    return createHmac("sha256", Buffer.from(secret, "utf8")).update(message).digest("hex");
  }
  const verify = (over: Partial<typeof given>) => verifyUltravoxSignature({ ...given, ...over });
  const valid = { verdict: "valid", accountId: "pacc_1", secretId: "old" };

  beforeEach(() => {
    const toleranceSeconds = { past: 60, future: 5 };
    given = { rawBody, timestampHeader: at, signatureHeader: sign("first-secret"), secrets, now, toleranceSeconds };
  });

  test("the official recipe: body first, then the timestamp", () => {
    expect(verify({})).toEqual(valid);
    const reversed = createHmac("sha256", "first-secret").update(at).update(rawBody).digest("hex");
    expect(verify({ signatureHeader: reversed }).verdict).toBe("refused");
  });

  test("a vector computed elsewhere", () => {
    // printf '%s' '{"event":"call.ended"}2026-08-01T10:00:00Z' | openssl dgst -sha256 -hmac k
    expect(
      verify({
        rawBody: Buffer.from('{"event":"call.ended"}'),
        timestampHeader: "2026-08-01T10:00:00Z",
        signatureHeader: "81116ee82b2b5676ff1fb543fb37efd3f9c7164d90182427fd5a6d2efe0afd31",
        secrets: [{ accountId: "pacc_9", secretId: "s", secret: "k" }],
      }),
    ).toEqual({ verdict: "valid", accountId: "pacc_9", secretId: "s" });
  });

  test("names the account and the secret that signed", () => {
    expect(verify({ signatureHeader: sign("zweites-Geheimnis-\u00fc") })).toMatchObject({ secretId: "new" });
    expect(verify({ signatureHeader: sign("third-secret") })).toMatchObject({
      accountId: "pacc_2",
      secretId: "theirs",
    });
    const rotated = `${"0".repeat(64)} , ${sign("zweites-Geheimnis-\u00fc")}`;
    expect(verify({ signatureHeader: rotated })).toMatchObject({ secretId: "new" });
    expect(verify({ signatureHeader: `${sign("third-secret")},${sign("first-secret")}` })).toEqual(valid);
  });

  test("hex may be in capitals", () => {
    expect(verify({ signatureHeader: sign("first-secret").toUpperCase() })).toEqual(valid);
  });

  test.each([
    ["missing", undefined],
    ["empty", ""],
    ["commas", ",,,"],
    ["truncated", sign("first-secret").slice(0, 62)],
    ["odd", sign("first-secret").slice(0, 63)],
    ["too long", `${sign("first-secret")}00`],
    ["not hex", "z".repeat(64)],
    ["another secret's", sign("not-ours")],
    ["another body's", sign("first-secret", at, Buffer.from("{}"))],
    ["another timestamp's", sign("first-secret", "2026-08-01T09:59:31.000000+00:00")],
  ])("refuses a signature that is %s", (_name, signatureHeader) => {
    expect(verify({ signatureHeader }).verdict).toBe("refused");
  });

  test("refuses without a timestamp, without secrets and with an empty secret", () => {
    expect(verify({ timestampHeader: undefined }).verdict).toBe("refused");
    expect(verify({ secrets: [] }).verdict).toBe("refused");
    const empty = [{ accountId: "pacc_1", secretId: "old", secret: "" }];
    expect(verify({ secrets: empty, signatureHeader: sign("") }).verdict).toBe("refused");
    expect(verify({ secrets: secrets.slice(2) }).verdict).toBe("refused");
  });

  test.each([
    ["2026-08-01T09:59:00Z", "valid"],
    ["2026-08-01T09:58:59.999Z", "stale"],
    ["2026-08-01T10:00:05Z", "valid"],
    ["2026-08-01T10:00:05.001Z", "stale"],
    ["2026-08-01T11:59:30+02:00", "valid"],
    ["2026-08-01T09:59:30", "valid"],
    ["2026-08-01 09:59:30.123456", "valid"],
    ["2026-08-01T08:00:00", "stale"],
    ["yesterday", "refused"],
    ["1754042370", "refused"],
    ["2026-13-45T10:00:00Z", "refused"],
  ])("a timestamp of %s is %s", (timestampHeader, verdict) => {
    const zone = process.env.TZ;
    process.env.TZ = "America/New_York";
    const signatureHeader = sign("first-secret", timestampHeader);
    expect(verify({ timestampHeader, signatureHeader }).verdict).toBe(verdict);
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });
});
