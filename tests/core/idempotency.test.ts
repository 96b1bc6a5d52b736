import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { grantCredits } from "../../routers/billing/ledger.ts";
import { scopes } from "../../routers/core/scopes.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { openHttp } from "../../server/http.ts";
import { limiter } from "../../server/limiter.ts";
import { agent, phone, startTestApp, type TestResponse, until } from "../support/app.ts";

const h = await startTestApp({ credits: 100_000 });
const reception = (await h.post("/agents", agent)).body.data.id;

const hook = { url: "https://example.com/hook", eventTypes: ["call.*"] };
const otherHook = { ...hook, url: "https://example.com/other" };
const call = (to = "+14155550100") => ({ agentId: reception, medium: phone(to) });
let keys = 0;
const fresh = () => `test-${++keys}`;

describe("a request sent again with its key", () => {
  const requests: [string, number, (key: string) => Promise<TestResponse>][] = [
    ["a command", 201, (key) => h.post("/webhooks", hook, { idempotencyKey: key })],
    ["an outbound", 201, (key) => h.post("/calls", call(), { idempotencyKey: key })],
    ["a change", 200, (key) => h.patch(`/agents/${reception}`, { name: "Renamed" }, { idempotencyKey: key })],
  ];

  test.each(requests)(
    "of %s returns the same response with the replay header, and does nothing",
    async (_, status, ask) => {
      const key = fresh();
      const first = await ask(key);
      expect(first).toMatchObject({ status, body: { meta: { requestId: first.headers.get("x-request-id") } } });
      expect(first.headers.get("idempotency-replayed")).toBeNull();
      const before = await traces();
      for (let n = 0; n < 2; n++) {
        const again = await ask(key);
        expect(again.status).toBe(status);
        expect(JSON.stringify(again.body)).toBe(JSON.stringify(first.body));
        expect(again.headers.get("idempotency-replayed")).toBe("true");
        expect(again.headers.get("x-request-id")).toMatch(/^req_/);
        expect(again.headers.get("x-request-id")).not.toBe(first.body.meta.requestId);
      }
      expect(await traces()).toEqual(before);
    },
  );

  test("without data in the first response returns none, on both transports", async () => {
    const { id } = (await h.post("/webhooks", hook)).body.data;
    const [one, two] = [fresh(), fresh()];
    expect(await h.remove(`/webhooks/${id}`, { idempotencyKey: one })).toMatchObject({ status: 204, body: null });
    const again = await h.remove(`/webhooks/${id}`, { idempotencyKey: one });
    expect(again).toMatchObject({ status: 204, body: null });
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    const { id: other } = (await h.post("/webhooks", hook)).body.data;
    const removed = await h.mutate("webhooks.remove", { id: other }, { idempotencyKey: two });
    const repeated = await h.mutate("webhooks.remove", { id: other }, { idempotencyKey: two });
    expect(repeated.headers.get("idempotency-replayed")).toBe("true");
    expect([repeated.status, repeated.body]).toEqual([200, removed.body]);
  });

  test("finds its response through the other transport too, and however the key is written", async () => {
    const key = fresh();
    const first = await h.mutate("webhooks.create", hook, { idempotencyKey: key });
    const { data } = first.body.result;
    const ways = [{ idempotencyKey: key }, { idempotencyKey: `"${key}"` }, { headers: { "x-idempotency-key": key } }];
    for (const ask of ways) {
      const rest = await h.post("/webhooks", { eventTypes: hook.eventTypes, url: hook.url }, ask);
      expect(rest).toMatchObject({
        status: 201,
        body: { data, meta: { requestId: first.headers.get("x-request-id") } },
      });
      const trpc = await h.mutate("webhooks.create", hook, ask);
      expect(trpc).toMatchObject({ status: 200, body: { result: { data } } });
      for (const again of [rest, trpc]) expect(again.headers.get("idempotency-replayed")).toBe("true");
    }
  });

  test("takes nothing of the rate limit", async () => {
    const key = fresh();
    const left = ({ headers }: TestResponse) => Number(/r=(\d+)/.exec(headers.get("ratelimit")!)![1]);
    await h.post("/webhooks", hook, { idempotencyKey: key });
    const { spend } = h.deps.limiter;
    h.deps.limiter.spend = limiter(() => 1_000_000).spend; // its window does not end in between
    try {
      const before = left(await h.post("/webhooks", {}));
      for (let n = 0; n < 3; n++) {
        const again = await h.post("/webhooks", hook, { idempotencyKey: key });
        expect(again.headers.get("idempotency-replayed")).toBe("true");
      }
      expect(left(await h.post("/webhooks", {}))).toBe(before - 1);
    } finally {
      h.deps.limiter.spend = spend;
    }
  });

  test("with another body, or to another endpoint, is refused, and the stored response stays", async () => {
    for (const [door, first, other] of [
      ["/webhooks", hook, otherHook],
      ["/calls", call(), call("+14155550101")],
    ] as const) {
      const key = fresh();
      const made = await h.post(door, first, { idempotencyKey: key });
      const before = await traces();
      const changed = await h.post(door, other, { idempotencyKey: key });
      expect(changed).toMatchObject({ status: 422, body: { error: { code: "idempotency_key_reused" } } });
      const elsewhere = await h.post("/auth/api-keys", { name: "CI", scopes: ["calls:read"] }, { idempotencyKey: key });
      expect(elsewhere).toMatchObject({ status: 422, body: { error: { code: "idempotency_key_reused" } } });
      expect((await h.post(door, first, { idempotencyKey: key })).body).toEqual(made.body);
      expect(await traces()).toEqual(before);
    }
  });

  test("means nothing to another principal or another client", async () => {
    const key = fresh();
    const asks = [{ key: h.ada.key }, { key: await h.token(h.ada) }, { key: h.bob.key }];
    const made: TestResponse[] = [];
    for (const [n, ask] of asks.entries()) {
      made.push(await h.post("/webhooks", { ...hook, description: `${n}` }, { ...ask, idempotencyKey: key }));
    }
    expect(made.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(new Set(made.map(({ body }) => body.data.id)).size).toBe(3);
  });

  test("is executed again once the key has expired, also with another body", async () => {
    for (const [door, first, other] of [
      ["/webhooks", hook, otherHook],
      ["/calls", call(), call("+14155550101")],
    ] as const) {
      const key = fresh();
      const one = await h.post(door, first, { idempotencyKey: key });
      const [stored] =
        await h.owner`select extract(epoch from expires_at - created_at)::int as seconds from idempotency_keys where key = ${key}`;
      expect(stored!.seconds).toBe(24 * 3600);
      await h.owner`update idempotency_keys set expires_at = now() - interval '1 second' where key = ${key}`;
      const two = await h.post(door, other, { idempotencyKey: key });
      expect(two.status).toBe(201);
      expect(two.body.data.id).not.toBe(one.body.data.id);
      const again = await h.post(door, other, { idempotencyKey: key });
      expect(again.body).toEqual(two.body);
    }
  });
});

describe("while the first is still running", () => {
  test("a call with its key is refused immediately, and gets the same response afterwards", async () => {
    const key = fresh();
    const { ultravox } = h.deps.providers;
    const { createCall } = ultravox;
    const gate = Promise.withResolvers<void>();
    ultravox.createCall = async (...asked) => {
      await gate.promise;
      return createCall(...asked);
    };
    const slow = h.post("/calls", call("+14155550101"), { idempotencyKey: key }).finally(() => {
      ultravox.createCall = createCall;
    });
    await until(async () => (await h.owner`select from idempotency_keys where key = ${key}`).length === 1);
    const busy = await h.post("/calls", call("+14155550101"), { idempotencyKey: key });
    expect(busy).toMatchObject({ status: 409, body: { error: { code: "idempotency_in_progress" } } });
    expect(busy.headers.get("retry-after")).toBe("1");
    const viaTrpc = await h.mutate("calls.create", call("+14155550101"), { idempotencyKey: key });
    expect(viaTrpc).toMatchObject({ status: 409, body: { error: { data: { code: "idempotency_in_progress" } } } });
    expect(viaTrpc.headers.get("retry-after")).toBe("1");
    const changed = await h.post("/calls", call(), { idempotencyKey: key });
    expect(changed).toMatchObject({ status: 422, body: { error: { code: "idempotency_key_reused" } } });
    gate.resolve();
    const first = await slow;
    expect(first.status).toBe(201);
    expect((await h.post("/calls", call("+14155550101"), { idempotencyKey: key })).body).toEqual(first.body);
    expect((await h.simulator.status()).accepted.byCallId[first.body.data.id]).toBe(1);
  });

  test("a command with its key is refused immediately, and after the commit all get the response", async () => {
    const key = fresh();
    const reserved = await h.owner.reserve();
    await reserved`begin`;
    await reserved`lock table webhook_endpoints in exclusive mode`;
    const stuck = h.post("/webhooks", hook, { idempotencyKey: key });
    await until(async () => {
      const waiting = await h.owner`select from pg_locks where not granted and relation = 'webhook_endpoints'::regclass
        and database = (select oid from pg_database where datname = current_database())`;
      return waiting.length > 0;
    });
    const busy = await h.post("/webhooks", hook, { idempotencyKey: key });
    expect(busy).toMatchObject({ status: 409, body: { error: { code: "idempotency_in_progress" } } });
    await reserved`rollback`;
    reserved.release();
    const first = await stuck;
    expect(first.status).toBe(201);
    const replays = await Promise.all(
      Array.from({ length: 20 }, () => h.post("/webhooks", hook, { idempotencyKey: key })),
    );
    for (const again of replays) expect(again).toMatchObject({ status: 201, body: first.body });
  });

  const stampedes: [string, object][] = [
    ["/calls", call("+14155550008")],
    ["/webhooks", { ...hook, description: "stampede" }],
  ];
  test.each(stampedes)("a hundred concurrent requests with one key do the work of %s once", async (door, body) => {
    const key = fresh();
    const before = await traces();
    const answers = await Promise.all(Array.from({ length: 100 }, () => h.post(door, body, { idempotencyKey: key })));
    const replayed = ({ headers }: TestResponse) => headers.get("idempotency-replayed") === "true";
    const done = answers.filter((answer) => answer.status === 201 && !replayed(answer));
    expect(done).toHaveLength(1);
    for (const answer of answers) {
      if (answer.status === 201) expect(answer.body).toEqual(done[0]!.body);
      else expect(answer).toMatchObject({ status: 409, body: { error: { code: "idempotency_in_progress" } } });
    }
    const { id } = done[0]!.body.data;
    const after = await traces();
    expect(after.audit - before.audit).toBe(1);
    if (door !== "/calls") return expect(after.endpoints - before.endpoints).toBe(1);
    expect((await h.simulator.status()).accepted.byCallId[id]).toBe(1);
    expect([after.holds - before.holds, after.accepted - before.accepted]).toEqual([1, 1]);
  });
});

describe("a key that was rotated", () => {
  const rotate = async (id: string, by: string, graceSeconds: number) =>
    (await h.post(`/auth/api-keys/${id}/rotate`, { graceSeconds }, { key: by })).body.data as {
      id: string;
      key: string;
    };

  test.each([
    ["with a grace", 3600],
    ["at once", 0],
  ])("%s is answered by its successors as before: one call, one command, one change", async (_, graceSeconds) => {
    const first = (await h.post("/auth/api-keys", { name: "A", scopes: [...scopes] })).body.data;
    const requests: [string, string, object][] = [
      ["POST", "/calls", call("+14155550102")],
      ["POST", "/webhooks", hook],
      ["PATCH", `/agents/${reception}`, { name: "Rotated" }],
      ["PUT", "/auth/providers/elevenlabs", { secret: { apiKey: "sk_good_elevenlabs_key_123456" } }],
    ];
    const keys = requests.map(() => fresh());
    const ask = (key: string) =>
      Promise.all(
        requests.map(([method, path, body], index) =>
          h.send(method, path, body, { key, idempotencyKey: keys[index]! }),
        ),
      );
    const made = await ask(first.key);
    for (const { status } of made) expect(status).toBeLessThan(300);
    const before = await traces();
    const second = await rotate(first.id, h.ada.key, graceSeconds);
    const third = await rotate(second.id, second.key, graceSeconds);
    for (const key of [second, third, ...(graceSeconds ? [first] : [])].slice(graceSeconds ? 0 : 1)) {
      for (const [index, answer] of (await ask(key.key)).entries()) {
        expect(answer).toMatchObject({ status: made[index]!.status, body: made[index]!.body });
        expect(answer.headers.get("idempotency-replayed")).toBe("true");
      }
    }
    const after = await traces();
    expect([after.holds, after.accepted, after.endpoints]).toEqual([before.holds, before.accepted, before.endpoints]);
    const other = await h.post("/calls", call("+14155550103"), { key: third.key, idempotencyKey: keys[0]! });
    expect(other).toMatchObject({ status: 422, body: { error: { code: "idempotency_key_reused" } } });
    const actors = await h.owner`select distinct actor from audit_log where actor in (${second.id}, ${third.id})`;
    expect(
      actors.map(({ actor }) => actor),
      "who did it is still the key that did",
    ).toEqual([second.id]);
  });

  test("holds its request while it runs, also for the successor, who gets its answer", async () => {
    const first = (await h.post("/auth/api-keys", { name: "A", scopes: [...scopes] })).body.data;
    const key = fresh();
    const { ultravox } = h.deps.providers;
    const { createCall } = ultravox;
    const gate = Promise.withResolvers<void>();
    ultravox.createCall = async (...asked) => {
      await gate.promise;
      return createCall(...asked);
    };
    const slow = h.post("/calls", call("+14155550104"), { key: first.key, idempotencyKey: key }).finally(() => {
      ultravox.createCall = createCall;
    });
    await until(async () => (await h.owner`select from idempotency_keys where key = ${key}`).length === 1);
    const successor = await rotate(first.id, first.key, 3600);
    const again = () => h.post("/calls", call("+14155550104"), { key: successor.key, idempotencyKey: key });
    expect(await again()).toMatchObject({ status: 409, body: { error: { code: "idempotency_in_progress" } } });
    gate.resolve();
    const placed = await slow;
    expect(placed.status).toBe(201);
    expect(await again()).toMatchObject({ status: 201, body: placed.body });
    const [row] =
      await h.owner`select actor from audit_log where action = 'calls.create' and subject_id = ${placed.body.data.id}`;
    expect(row!.actor).toBe(first.id);
  });
});

describe("a create whose process died", () => {
  test("is looked up within the minute, and until it is settled its key returns 202 with the resource", async () => {
    const key = fresh();
    const ask = { idempotencyKey: key };
    const { ultravox } = h.deps.providers;
    const { createCall } = ultravox;
    ultravox.createCall = async () => {
      throw new ProviderError("unknown", "The process died here.");
    };
    const died = await h.post("/calls", call("+14155550105"), ask).finally(() => {
      ultravox.createCall = createCall;
    });
    const { id } = died.body.data;
    // As a process leaves it that is killed between its two transactions.
    await h.owner`update calls set status = 'queued' where id = ${id}`;
    const [job] =
      await h.owner`select extract(epoch from run_at - now())::int as seconds from graphile_worker._private_jobs
      where payload->'body'->>'intentId' = (select id from intents where subject_id = ${id})`;
    expect(job!.seconds).toBeLessThanOrEqual(40);
    expect(await h.post("/calls", call("+14155550105"), ask)).toMatchObject({ status: 409 });

    await h.owner`update idempotency_keys set lease_until = now() - interval '1 second' where key = ${key}`;
    const before = await traces();
    for (let n = 0; n < 2; n++) {
      const told = await h.post("/calls", call("+14155550105"), ask);
      expect(told).toMatchObject({ status: 202, body: { data: { id, status: "unknown" }, meta: died.body.meta } });
    }
    const viaTrpc = await h.mutate("calls.create", call("+14155550105"), ask);
    expect(viaTrpc).toMatchObject({ status: 202, body: { result: { data: { id, status: "unknown" } } } });
    expect(await h.post("/calls", call("+14155550106"), ask)).toMatchObject({ status: 422 });
    expect(await traces(), "nothing is dialled, held or written again").toEqual(before);
  });
});

describe("what did not happen is not remembered", () => {
  test("a request that could not be paid for succeeds with its key once it can", async () => {
    const poor = await seedClient(h.deps, { name: "Poor", subject: "auth0|poor", credits: 1 });
    const { id: agentId } = (await h.post("/agents", agent, { key: poor.key })).body.data;
    const ask = { key: poor.key, idempotencyKey: fresh() };
    const place = () => h.post("/calls", { agentId, medium: phone("+14155550100") }, ask);
    for (let n = 0; n < 2; n++)
      expect(await place()).toMatchObject({ status: 402, body: { error: { code: "credits_insufficient" } } });
    await h.deps.db.asClient({ clientId: poor.clientId }, (tx) => grantCredits(tx, "more", 1_000_000_000, "More"));
    const placed = await place();
    expect(placed).toMatchObject({ status: 201 });
    expect(placed.headers.get("idempotency-replayed")).toBeNull();
  });

  test("nor is one about a thing that was not there", async () => {
    const { id } = (await h.post("/webhooks", hook)).body.data;
    await h.owner`update webhook_endpoints set deleted_at = now() where id = ${id}`;
    const ask = { idempotencyKey: fresh() };
    const change = () => h.patch(`/webhooks/${id}`, { description: "There" }, ask);
    expect((await change()).status).toBe(404);
    await h.owner`update webhook_endpoints set deleted_at = null where id = ${id}`;
    expect(await change()).toMatchObject({ status: 200, body: { data: { description: "There" } } });
  });

  test("nor one that was not understood: it does not even claim the key", async () => {
    const ask = { idempotencyKey: fresh() };
    expect((await h.post("/webhooks", { ...hook, surprise: 1 }, ask)).status).toBe(400);
    expect((await h.mutate("webhooks.create", { url: 5 }, ask)).status).toBe(400);
    expect(await h.owner`select from idempotency_keys where key = ${ask.idempotencyKey}`).toHaveLength(0);
    expect((await h.post("/webhooks", hook, ask)).status).toBe(201);
  });

  test("but a refusal of the provider is: the agent was written, and is not written again", async () => {
    const ask = { idempotencyKey: fresh() };
    await h.simulator.faults({ create: { errors: [{ status: 400 }] }, applyTo: "agents" });
    const refused = await h.post("/agents", agent, ask);
    expect(refused).toMatchObject({ status: 422, body: { error: { code: "provider_rejected" } } });
    const before = await traces();
    const again = await h.post("/agents", agent, ask);
    expect(again).toMatchObject({
      status: 422,
      body: { error: { ...refused.body.error, requestId: expect.anything() } },
    });
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(await traces()).toEqual(before);
  });
});

describe("a key", () => {
  test("has its response sealed: none of its secrets is readable in the database", async () => {
    const key = fresh();
    const made = await h.post("/auth/api-keys", { name: "CI", scopes: ["calls:read"] }, { idempotencyKey: key });
    const secret = made.body.data.key;
    const [row] =
      await h.owner`select k::text as text, encode(answer, 'escape') as bytes from idempotency_keys k where key = ${key}`;
    expect(row!.bytes.length).toBeGreaterThan(100);
    for (const part of [secret, secret.slice(12), made.body.data.id, "calls:read"]) {
      expect(row!.bytes).not.toContain(part);
      expect(row!.text).not.toContain(part);
      expect(row!.text).not.toContain(Buffer.from(part).toString("hex"));
    }
    expect(
      (await h.post("/auth/api-keys", { name: "CI", scopes: ["calls:read"] }, { idempotencyKey: key })).body,
    ).toEqual(made.body);
  });

  test("is of 1 to 255 visible characters, and anything else is refused before anything is done", async () => {
    const before = await traces();
    for (const bad of ["", " ", '""', "a b", "x".repeat(256), "ü", '"a b"']) {
      const headers = { "idempotency-key": bad };
      for (const answer of [
        await h.post("/webhooks", hook, { headers }),
        await h.mutate("webhooks.create", hook, { headers }),
      ]) {
        expect([bad, answer.status, (answer.body.error.data ?? answer.body.error).code]).toEqual([
          bad,
          400,
          "header_invalid",
        ]);
      }
    }
    expect(await traces()).toEqual(before);
    expect((await h.post("/webhooks", hook, { idempotencyKey: `"${"x".repeat(255)}"` })).status).toBe(201);
  });

  test("on a GET is ignored", async () => {
    const key = fresh();
    for (const path of ["/agents", "/webhooks"]) {
      const answer = await h.get(path, { idempotencyKey: key });
      expect(answer.status).toBe(200);
      expect(answer.headers.get("idempotency-replayed")).toBeNull();
    }
    expect((await h.query("agents.list", {}, { idempotencyKey: "not a key" })).status).toBe(200);
    expect(await h.owner`select from idempotency_keys where key = ${key}`).toHaveLength(0);
  });

  test("covers one mutation: with a batch of several nothing is done, however the batch is written", async () => {
    const before = await traces();
    const body = { 0: hook, 1: otherHook };
    for (const comma of [",", "%2C", "%2c"]) {
      const path = `/trpc/webhooks.create${comma}webhooks.create?batch=1`;
      const answer = await h.send("POST", path, body, { idempotencyKey: fresh() });
      expect(answer.status).toBe(400);
      for (const { error } of answer.body)
        expect(error.data).toMatchObject({ code: "batch_not_allowed", requestId: expect.stringMatching(/^req_/) });
    }
    expect(await traces()).toEqual(before);
    const alone = { idempotencyKey: fresh() };
    expect((await h.send("POST", "/trpc/webhooks.create?batch=1", { 0: hook }, alone)).body).toMatchObject([
      { result: { data: { url: hook.url } } },
    ]);
    expect((await h.send("POST", "/trpc/webhooks.create,webhooks.create?batch=1", body)).body).toHaveLength(2);
  });
});

describe("the rate limit", () => {
  test("of a client is above those of its keys: more keys give no more requests, and a replay is uncounted", async () => {
    const tight = { requests: 4, windowSeconds: 10 };
    const limits = { read: tight, write: tight, dial: tight };
    const deps = { ...h.deps, limiter: limiter(() => 1_000_000, limits) };
    const server = openHttp(deps).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`;
    const ask = async (key: string, idempotencyKey?: string) => {
      const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
      const response = await fetch(
        idempotencyKey ? `${url}/webhooks` : `${url}/agents`,
        idempotencyKey
          ? { method: "POST", body: JSON.stringify(hook), headers: { ...headers, "idempotency-key": idempotencyKey } }
          : { headers },
      );
      return { status: response.status, limit: response.headers.get("ratelimit"), body: await response.json() };
    };
    const made = await Promise.all(
      Array.from({ length: 4 }, () =>
        h.post("/auth/api-keys", { name: "K", scopes: ["agents:read", "webhooks:write"] }),
      ),
    );
    const [one, two, three, four] = made.map(({ body }) => body.data.key as string);
    const counts = [];
    for (const key of [one!, two!, three!]) for (let n = 0; n < 4; n++) counts.push((await ask(key)).status);
    expect(counts).toEqual(Array(12).fill(200));
    const refused = await ask(four!);
    expect(refused).toMatchObject({
      status: 429,
      limit: '"read_client";r=0;t=10',
      body: { error: { code: "rate_limit_exceeded" } },
    });
    expect(await ask(await h.token(h.ada)), "members count too").toMatchObject({ status: 429 });
    expect(await ask(h.bob.key), "another client has its own").toMatchObject({ status: 200, limit: '"read";r=3;t=10' });

    const idempotencyKey = fresh();
    for (let n = 0; n < 9; n++) expect(await ask(one!, idempotencyKey)).toMatchObject({ status: 201 });
    for (let n = 0; n < 3; n++) expect(await ask(one!, fresh())).toMatchObject({ status: 201 });
    expect(await ask(one!, fresh())).toMatchObject({ status: 429, limit: '"write";r=0;t=10' });
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });

  test("of a person holds over all the clients that they act for", () => {
    const tight = { requests: 2, windowSeconds: 10 };
    const { spend } = limiter(() => 0, { read: tight, write: tight, dial: tight });
    for (const client of ["client_1", "client_2"]) expect(spend("user_1", "read", client).refusal).toBeUndefined();
    expect(spend("user_1", "read", "client_3").refusal).toMatchObject({ errorCode: "rate_limit_exceeded" });
    expect(spend("user_2", "read", "client_1").refusal).toBeUndefined();
  });

  test("does not follow a system clock that jumps forward and back", () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    try {
      const tight = { requests: 1, windowSeconds: 60 };
      const { spend } = limiter(undefined, { read: tight, write: tight, dial: tight });
      const now = Date.now();
      vi.setSystemTime(now + 86_400_000);
      spend("key_1", "read", "client_1");
      vi.setSystemTime(now);
      expect(spend("key_1", "read", "client_1").refusal!.retryAfterSeconds).toBeLessThanOrEqual(60);
    } finally {
      vi.useRealTimers();
    }
  });

  test("is in every response in the form of the standard, and refuses with Retry-After, on both transports", async () => {
    let now = 1_000_000;
    const tight = { requests: 3, windowSeconds: 10 };
    const limits = { read: tight, write: tight, dial: { requests: 1, windowSeconds: 60 } };
    const server = openHttp({ ...h.deps, limiter: limiter(() => now, limits) }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const ask = async (path: string, key = h.ada.key, body?: object) => {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
      const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
      const response = await fetch(url, { headers, ...(body ? { method: "POST", body: JSON.stringify(body) } : {}) });
      const [limit, policy, wait] = ["ratelimit", "ratelimit-policy", "retry-after"].map((name) =>
        response.headers.get(name),
      );
      return { status: response.status, limit, policy, wait, body: await response.json() };
    };
    const trpc = `/trpc/agents.list?input=${encodeURIComponent("{}")}`;
    const policy = '"read";q=3;w=10';
    expect(await ask("/api/v1/agents")).toMatchObject({ status: 200, limit: '"read";r=2;t=10', policy, wait: null });
    now += 4500;
    expect(await ask(trpc)).toMatchObject({ status: 200, limit: '"read";r=1;t=6', policy, wait: null });
    expect(await ask("/api/v1/auth/me")).toMatchObject({ status: 200, limit: '"read";r=0;t=6', policy });
    const refused = { status: 429, limit: '"read";r=0;t=6', policy, wait: "6" };
    expect(await ask("/api/v1/agents")).toMatchObject({ ...refused, body: { error: { code: "rate_limit_exceeded" } } });
    expect(await ask(trpc)).toMatchObject({ ...refused, body: { error: { data: { code: "rate_limit_exceeded" } } } });
    expect(await ask("/api/v1/agents", h.bob.key), "another principal has its own").toMatchObject({ status: 200 });
    expect(await ask("/api/v1/webhooks", h.ada.key, hook), "so has another class").toMatchObject({
      status: 201,
      policy: '"write";q=3;w=10',
    });
    expect(await ask("/api/v1/calls", h.ada.key, call())).toMatchObject({ status: 201, policy: '"dial";q=1;w=60' });
    const before = await traces();
    expect(await ask("/api/v1/calls", h.ada.key, call())).toMatchObject({ status: 429, wait: "60" });
    expect(await traces()).toEqual(before);
    now += 5500;
    expect(await ask("/api/v1/agents")).toMatchObject({ status: 200, limit: '"read";r=2;t=10' });
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
});

/** Everything that doing a thing leaves behind. */
async function traces() {
  const [row] = await h.owner`select
    (select count(*)::int from events) as events,
    (select count(*)::int from audit_log) as audit,
    (select count(*)::int from agent_versions) as versions,
    (select count(*)::int from webhook_endpoints) as endpoints,
    (select count(*)::int from calls) as calls,
    (select count(*)::int from holds) as holds,
    (select count(*)::int from ledger_transactions) as transactions,
    (select count(*)::int from intents) as intents`;
  const accepted: number = (await h.simulator.status()).accepted.total;
  return { ...(row as unknown as Record<"events" | "audit" | "endpoints" | "holds", number>), accepted };
}
