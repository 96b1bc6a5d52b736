import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { sql } from "drizzle-orm";
import { Webhook } from "standardwebhooks";
import { afterAll, describe, expect, test } from "vitest";
import { eventExamples } from "../../db/event-examples.ts";
import { catalogue, eventTypes } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { deliveryErrors } from "../../routers/core/webhook-error-codes.ts";
import { appRouter } from "../../routers/index.ts";
import { startTestApp, until } from "../support/app.ts";
import { openReceiver } from "../support/receiver.ts";

const h = await startTestApp();
const receiver = await openReceiver();
afterAll(() => receiver.close());
const bobs = { key: h.bob.key };

let named = 0;
/** Creates an endpoint; `received` returns the requests that it got. */
async function make(more: object = {}) {
  const path = `/hook-${++named}`;
  const made = await h.post("/webhooks", { url: receiver.url + path, eventTypes: ["call.*"], ...more });
  expect(made.status).toBe(201);
  return { ...made.body.data, path: `/webhooks/${made.body.data.id}`, received: () => receiver.at(path) };
}

const row = async (id: string) => (await h.owner`select * from webhook_endpoints where id = ${id}`)[0]!;
const shown = async (path: string) => (await h.get(path)).body.data;
const idleInTransaction = async () => {
  const [found] = await h.owner`select count(*)::int as n from pg_stat_activity
    where datname = current_database() and usename = 'patchbay_tenant' and state like 'idle in transaction%'`;
  return found!.n as number;
};
/** Sends a test, and returns the result and the request that the receiver got. */
async function sent(endpoint: Awaited<ReturnType<typeof make>>, body: object = {}) {
  const result = await h.post(`${endpoint.path}/test`, body);
  expect(result.status).toBe(200);
  return { trial: result.body.data, received: endpoint.received().at(-1)! };
}
const opens = (secret: string, { body, headers }: { body: string; headers: Record<string, string> }) => {
  try {
    return Boolean(new Webhook(secret).verify(body, headers));
  } catch {
    return false;
  }
};

/** The missed range of an endpoint that is disabled. */
const missing = { createdAfter: expect.any(String), createdBefore: null };

describe("an endpoint", () => {
  test("stores all fields, and returns them without secrets", async () => {
    const headers = { Authorization: "Bearer of-the-crm-4711", "x-tenant": "acme" };
    const made = await make({ headers, payload: "thin", ratePerSecond: 50, description: "CRM" });
    const { secret, path, received: _, ...endpoint } = made;
    expect(endpoint).toMatchObject({
      headerNames: ["Authorization", "x-tenant"],
      payload: "thin",
      ratePerSecond: 50,
      signing: "v1",
      publicKey: null,
      previousSecrets: [],
      disabledAt: null,
      missed: null,
      health: {
        status: "healthy",
        consecutiveFailures: 0,
        failingSince: null,
        lastSuccessAt: null,
        lastFailureAt: null,
      },
    });
    expect(secret).toMatch(/^whsec_/);
    expect(await shown(path)).toEqual(endpoint);
    expect((await row(endpoint.id)).headers.includes(Buffer.from("of-the-crm"))).toBe(false);
    expect(await make()).toMatchObject({ headerNames: [], payload: "full", ratePerSecond: null });
  });

  test("shows who created it, a person or a key, and the list can be filtered by that", async () => {
    const byKey = await make();
    expect(byKey.createdBy).toBe(h.ada.keyId);
    const ask = { key: await h.token(h.ada) };
    const body = { url: `${receiver.url}/by-a-person`, eventTypes: ["call.*"] };
    const byPerson = (await h.post("/webhooks", body, ask)).body.data;
    expect(byPerson.createdBy).toBe(h.ada.userId);
    const path = `/webhooks/${byPerson.id}`;
    expect((await h.patch(path, { description: "Of a key now?" })).body.data.createdBy).toBe(h.ada.userId);
    expect((await h.post(`${path}/rotate-secret`, {})).body.data.createdBy).toBe(h.ada.userId);
    expect((await shown(path)).createdBy).toBe(h.ada.userId);
    const listed = async (createdBy: string) => (await h.get(`/webhooks?createdBy=${createdBy}`)).body;
    expect((await listed(h.ada.userId)).data).toMatchObject([{ id: byPerson.id, createdBy: h.ada.userId }]);
    expect((await listed(h.ada.keyId)).data).toContainEqual(await shown(byKey.path));
    expect((await listed(newId("user"))).data).toEqual([]);
    expect((await listed("somebody")).error).toMatchObject({ code: "input_invalid", details: [{ path: "createdBy" }] });
    expect((await h.post("/webhooks", { ...body, createdBy: h.bob.userId })).status).toBe(400);
  });

  test("from before its creator was stored shows null", async () => {
    const { id, path } = await make();
    await h.owner`update webhook_endpoints set created_by = null where id = ${id}`;
    expect((await shown(path)).createdBy).toBeNull();
  });

  test("updates each field, and keeps omitted ones", async () => {
    const { path } = await make({ headers: { "x-a": "1", "x-b": "2" } });
    const change = { description: "New", eventTypes: ["agent.*"], payload: "thin", ratePerSecond: 5 };
    expect((await h.patch(path, change)).body.data).toMatchObject({ ...change, headerNames: ["x-a", "x-b"] });
    expect((await h.patch(path, { headers: { "x-c": "3" } })).body.data).toMatchObject({ headerNames: ["x-c"] });
    const bare = await h.patch(path, { headers: {}, ratePerSecond: null });
    expect(bare.body.data).toMatchObject({ ...change, headerNames: [], ratePerSecond: null });
    expect((await h.patch(path, { url: "ftp://example.com/" })).body.error.code).toBe("webhook_url_forbidden");
  });

  test("is unchanged when one part of an update is refused", async () => {
    const { path, id } = await make({ headers: { "x-a": "1" } });
    const before = await row(id);
    expect((await h.patch(path, { headers: { "x-b": "2" }, url: "ftp://example.com/" })).status).toBe(422);
    expect(await row(id)).toEqual(before);
  });

  const line = "of one\r\nof another";
  const refused: [string, Record<string, string>, string][] = [
    ["a reserved header", { "Webhook-Signature": "v1,x" }, "headers.Webhook-Signature"],
    ["the content type", { "content-type": "text/plain" }, "headers.content-type"],
    ["the user agent", { "User-Agent": "me" }, "headers.User-Agent"],
    ["a connection header", { host: "example.com" }, "headers.host"],
    ["an invalid name", { "x y": "1" }, "headers.x y"],
    ["a value with a line break", { "x-a": line }, "headers.x-a"],
    ["a value that is too long", { "x-a": "a".repeat(2001) }, "headers.x-a"],
    ["a duplicate", { "x-a": "1", "X-A": "2" }, "headers.X-A"],
    ["too many", Object.fromEntries(Array.from({ length: 21 }, (_, n) => [`x-${n}`, "1"])), "headers"],
  ];
  test.each(refused)("refuses as a header %s, with its path", async (_, headers, path) => {
    const { path: endpoint } = await make();
    for (const answer of [
      await h.post("/webhooks", { url: receiver.url, headers }),
      await h.patch(endpoint, { headers }),
    ]) {
      expect(answer.body.error).toMatchObject({ code: "input_invalid", details: [{ path }] });
    }
  });

  test("takes twenty headers of two thousand characters", async () => {
    const headers = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`x-${n}`, "a".repeat(2000)]));
    expect((await make({ headers })).headerNames).toHaveLength(20);
  });

  test("refuses an invalid rate", async () => {
    for (const ratePerSecond of [0, 1001, 1.5]) {
      const answer = await h.post("/webhooks", { url: receiver.url, ratePerSecond });
      expect(answer.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "ratePerSecond" }] });
    }
  });

  test("shows its health", async () => {
    const { path, id } = await make();
    await h.owner`update webhook_endpoints set consecutive_failures = 7, failing_since = '2026-11-22T10:00:00Z',
      last_failure_at = '2026-11-22T10:15:00Z', last_success_at = '2026-11-22T09:00:00Z' where id = ${id}`;
    expect((await shown(path)).health).toEqual({
      status: "failing",
      consecutiveFailures: 7,
      failingSince: "2026-11-22T10:00:00.000Z",
      lastFailureAt: "2026-11-22T10:15:00.000Z",
      lastSuccessAt: "2026-11-22T09:00:00.000Z",
    });
  });

  test("that is disabled shows since when; enabled again, it resets its health and shows what it missed", async () => {
    const { path, id } = await make();
    await h.owner`update webhook_endpoints set consecutive_failures = 7, failing_since = now() where id = ${id}`;
    const off = (await h.patch(path, { status: "disabled" })).body.data;
    expect(off).toMatchObject({
      ...{ status: "disabled", disabledReason: "Disabled by request.", disabledCode: "request" },
    });
    const [event] = (await h.get(`/events?type=webhook.endpoint.disabled&subjectId=${id}`)).body.data;
    expect(event.data).toEqual({ id, url: off.url, reason: "Disabled by request.", code: "request" });
    expect(off).toMatchObject({ disabledAt: expect.any(String), missed: missing });
    expect(off.health).toMatchObject({ status: "disabled", consecutiveFailures: 7 });
    expect((await h.patch(path, { status: "disabled" })).body.data.missed).toEqual(off.missed);

    const on = (await h.patch(path, { status: "enabled" })).body.data;
    expect(on).toMatchObject({ status: "enabled", disabledReason: null, disabledCode: null, disabledAt: null });
    expect(on.health).toMatchObject({ status: "healthy", consecutiveFailures: 0, failingSince: null });
    expect(on.missed).toEqual({ createdAfter: off.missed.createdAfter, createdBefore: expect.any(String) });
    expect((await h.patch(path, { status: "enabled" })).body.data.missed).toEqual(on.missed);

    const again = (await h.patch(path, { status: "disabled" })).body.data;
    expect(again.missed).toEqual({ createdAfter: off.missed.createdAfter, createdBefore: null });
    await h.patch(path, { status: "enabled" });
    expect((await h.patch(path, { missed: null })).body.data.missed).toBeNull();
    expect((await h.patch(path, { status: "enabled" })).body.data.missed).toBeNull();
  });

  test("forgets what it missed with `missed: null`; while it is disabled, it misses events from then on", async () => {
    const { path } = await make();
    const off = (await h.patch(path, { status: "disabled" })).body.data;
    const still = (await h.patch(path, { missed: null })).body.data.missed;
    expect(still.createdBefore).toBeNull();
    expect(still.createdAfter > off.missed.createdAfter).toBe(true);
    const on = (await h.patch(path, { status: "enabled", missed: null })).body.data;
    expect(on).toMatchObject({ status: "enabled", disabledAt: null, missed: null });
    expect((await shown(path)).missed).toBeNull();
    const again = (await h.patch(path, { status: "disabled", missed: null })).body.data;
    expect(again.missed).toEqual(missing);
  });

  test("that is created disabled can be tested, and misses events from its creation on", async () => {
    const made = await make({ status: "disabled" });
    expect(made).toMatchObject({
      ...{ status: "disabled", disabledReason: "Disabled by request.", disabledAt: expect.any(String) },
      ...{ missed: missing, health: { status: "disabled" } },
      secret: expect.stringMatching(/^whsec_/),
    });
    await sent(made);
    expect(
      await h.owner`select from events where type = 'webhook.endpoint.disabled' and subject_id = ${made.id}`,
    ).toEqual([]);
    const on = (await h.patch(made.path, { status: "enabled" })).body.data;
    expect(on).toMatchObject({
      status: "enabled",
      disabledReason: null,
      missed: { createdAfter: made.missed.createdAfter },
    });
    expect(await make({ status: "enabled" })).toMatchObject({ status: "enabled", disabledAt: null, missed: null });
  });

  test("is listed by status", async () => {
    const [on, off] = [await make(), await make({ status: "disabled" })];
    const listed = async (query: string) => {
      const answer = await h.get(`/webhooks?limit=100&${query}`);
      return answer.body.data.map(({ id }: { id: string }) => id);
    };
    expect(await listed("status=enabled")).toContain(on.id);
    expect(await listed("status=enabled")).not.toContain(off.id);
    expect(await listed("status=disabled")).toContain(off.id);
    expect(await listed("status=disabled")).not.toContain(on.id);
    expect((await h.get("/webhooks?status=broken")).body.error).toMatchObject({ details: [{ path: "status" }] });
  });

  test("shows whether it is paused: by a pause of the endpoint, of its client, or of all", async () => {
    const [one, other] = [await make(), await make()];
    const theirs = (await h.post("/webhooks", { url: receiver.url }, bobs)).body.data;
    const key = await h.operator();
    const pause = (scope: string) => h.send("PUT", `/admin/deliveries/pauses/${scope}`, { reason: "Moved." }, { key });
    const resume = (scope: string) => h.remove(`/admin/deliveries/pauses/${scope}`, { key });
    const paused = async () => {
      const mine = await Promise.all([one, other].map(async ({ path }) => (await shown(path)).paused));
      return [...mine, (await h.get(`/webhooks/${theirs.id}`, bobs)).body.data.paused];
    };
    expect(await paused()).toEqual([false, false, false]);
    for (const [scope, are] of [
      [one.id, [true, false, false]],
      [h.ada.clientId, [true, true, false]],
      [theirs.id, [false, false, true]],
      ["all", [true, true, true]],
    ] as const) {
      expect((await pause(scope)).status).toBe(200);
      expect(await paused()).toEqual(are);
      const list = (await h.get("/webhooks?limit=100")).body.data;
      expect(list.find(({ id }: { id: string }) => id === one.id).paused).toBe(are[0]);
      expect((await h.patch(one.path, { description: "Held?" })).body.data.paused).toBe(are[0]);
      await resume(scope);
    }
    expect(await paused()).toEqual([false, false, false]);
    await pause(one.id);
    const rows = await h.deps.db.asClient({ clientId: h.bob.clientId }, (tx) =>
      tx.execute(sql`select scope from delivery_pauses`),
    );
    expect(rows).toEqual([]);
    await resume(one.id);
  });

  test("keeps no secret after it is deleted", async () => {
    const { path, id } = await make({ headers: { "x-a": "1" } });
    await h.post(`${path}/rotate-secret`, {});
    expect((await h.remove(path)).status).toBe(204);
    expect(await row(id)).toMatchObject({ previous_secrets: [], headers: null, header_names: [] });
    expect((await row(id)).secret).toHaveLength(0);
    for (const call of [h.post(`${path}/rotate-secret`, {}), h.post(`${path}/test`, {}), h.get(`${path}/replays`)]) {
      expect((await call).body.error.code).toBe("webhook_not_found");
    }
  });
});

describe("rotation", () => {
  test("shows the new secret once, and both sign until the overlap is over", async () => {
    const endpoint = await make();
    const first = endpoint.secret;
    const answer = await h.post(`${endpoint.path}/rotate-secret`, {}, { idempotencyKey: "rotate-1" });
    const second = answer.body.data.secret;
    expect(second).toMatch(/^whsec_/);
    expect(second).not.toBe(first);
    const again = await h.post(`${endpoint.path}/rotate-secret`, {}, { idempotencyKey: "rotate-1" });
    expect(again.body.data).toEqual(answer.body.data);

    const { secret: _, ...stands } = answer.body.data;
    expect(await shown(endpoint.path)).toEqual(stands);
    const [{ expiresAt }] = stands.previousSecrets;
    expect(Date.parse(expiresAt) - Date.parse(stands.updatedAt)).toBeGreaterThan(23.9 * 3_600_000);
    expect(Date.parse(expiresAt) - Date.parse(stands.updatedAt)).toBeLessThan(24.1 * 3_600_000);

    const { received } = await sent(endpoint);
    expect(received.headers["webhook-signature"]!.split(" ")).toHaveLength(2);
    expect([opens(first, received), opens(second, received)]).toEqual([true, true]);

    await h.owner`update webhook_endpoints set previous_secrets =
      jsonb_set(previous_secrets, '{0,until}', to_jsonb('2026-01-01T00:00:00.000Z'::text)) where id = ${endpoint.id}`;
    expect((await shown(endpoint.path)).previousSecrets).toEqual([]);
    const later = (await sent(endpoint)).received;
    expect([opens(first, later), opens(second, later)]).toEqual([false, true]);
    const third = (await h.post(`${endpoint.path}/rotate-secret`, { overlapHours: 1 })).body.data;
    expect(third.previousSecrets).toHaveLength(1);
    expect((await row(endpoint.id)).previous_secrets).toHaveLength(1);
  });

  test("without an overlap the old secret stops signing immediately", async () => {
    const endpoint = await make();
    const { secret } = (await h.post(`${endpoint.path}/rotate-secret`, { overlapHours: 0 })).body.data;
    const { received } = await sent(endpoint);
    expect([opens(endpoint.secret, received), opens(secret, received)]).toEqual([false, true]);
    expect(await row(endpoint.id)).toMatchObject({ previous_secrets: [] });
  });

  test("without an overlap all earlier secrets stop signing, whatever their overlap", async () => {
    const endpoint = await make();
    const rotate = async (overlapHours: number) =>
      (await h.post(`${endpoint.path}/rotate-secret`, { overlapHours })).body.data;
    const second = await rotate(168);
    const third = await rotate(24);
    expect(third.previousSecrets).toHaveLength(2);
    const last = await rotate(0);
    expect(last.previousSecrets).toEqual([]);
    const { received } = await sent(endpoint);
    expect(received.headers["webhook-signature"]!.split(" ")).toHaveLength(1);
    const known = [endpoint, second, third, last].map(({ secret }) => opens(secret, received));
    expect(known).toEqual([false, false, false, true]);
  });

  test("at most ten secrets sign, under concurrent rotations", async () => {
    const { path, id } = await make();
    const answers = await Promise.all(Array.from({ length: 14 }, () => h.post(`${path}/rotate-secret`, {})));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(9);
    for (const { status, body } of answers)
      if (status !== 200) expect(body.error.code).toBe("webhook_secret_limit_reached");
    expect((await row(id)).previous_secrets).toHaveLength(9);
    const refused = answers.find(({ status }) => status !== 200)!;
    expect(refused.body.error.message).toContain("`overlapHours: 0`");
    // A lost secret can always be replaced.
    expect((await h.post(`${path}/rotate-secret`, { overlapHours: 0 })).status).toBe(200);
    expect((await row(id)).previous_secrets).toHaveLength(0);
    expect((await h.post(`${path}/rotate-secret`, {})).status).toBe(200);
    for (const overlapHours of [-1, 169]) {
      expect((await h.post(`${path}/rotate-secret`, { overlapHours })).body.error.code).toBe("input_invalid");
    }
  });

  test("changes between a shared secret and a public key, and each signs in its own format", async () => {
    const endpoint = await make();
    const { publicKey, secret, signing } = (await h.post(`${endpoint.path}/rotate-secret`, { signing: "v1a" })).body
      .data;
    expect({ secret, signing }).toEqual({ secret: null, signing: "v1a" });
    const { received } = await sent(endpoint);
    expect(opens(endpoint.secret, received)).toBe(true);
    expect(byPublicKey(publicKey, received)).toBe(true);
    const back = (await h.post(`${endpoint.path}/rotate-secret`, { signing: "v1", overlapHours: 0 })).body.data;
    expect(back).toMatchObject({ signing: "v1", publicKey: null, secret: expect.stringMatching(/^whsec_/) });
    const after = (await sent(endpoint)).received;
    expect([opens(back.secret, after), byPublicKey(publicKey, after)]).toEqual([true, false]);
  });

  test("a public key is always shown, and the private key never", async () => {
    const endpoint = await make({ signing: "v1a" });
    expect(endpoint).toMatchObject({ secret: null, signing: "v1a", publicKey: expect.stringMatching(/^whpk_/) });
    expect(await shown(endpoint.path)).toMatchObject({ publicKey: endpoint.publicKey });
    const { received } = await sent(endpoint);
    expect(received.headers["webhook-signature"]).toMatch(/^v1a,/);
    expect(byPublicKey(endpoint.publicKey, received)).toBe(true);
    expect(byPublicKey(endpoint.publicKey, { ...received, body: `${received.body} ` })).toBe(false);
  });
});

/** Verifies with only the public key and RFC 8032. */
function byPublicKey(shown: string, { body, headers }: { body: string; headers: Record<string, string> }): boolean {
  const raw = Buffer.from(shown.replace(/^whpk_/, ""), "base64");
  const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
  const key = createPublicKey({ key: spki, format: "der", type: "spki" });
  const text = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  const signatures = headers["webhook-signature"]!.split(" ").filter((one) => one.startsWith("v1a,"));
  return signatures.some((one) => verify(null, text, key, Buffer.from(one.slice(4), "base64")));
}

describe("a test event", () => {
  test("is sent like a delivery, and returns the request and the response", async () => {
    const endpoint = await make({ headers: { Authorization: "Bearer of-the-crm-4711" } });
    const { trial, received } = await sent(endpoint);
    expect(received.headers).toMatchObject({
      authorization: "Bearer of-the-crm-4711",
      "content-type": "application/json",
    });
    expect(opens(endpoint.secret, received)).toBe(true);
    const event = JSON.parse(received.body);
    expect(event).toMatchObject({
      id: received.headers["webhook-id"],
      type: "webhook.test",
      clientId: h.ada.clientId,
      subject: { type: "webhook", id: endpoint.id, sequence: 1 },
      data: { id: endpoint.id, message: expect.any(String) },
    });
    const { latencyMs, ...answered } = trial;
    expect(latencyMs).toEqual(expect.any(Number));
    expect(answered).toMatchObject({ delivered: true, status: 200, error: null, response: "ok" });
    expect(trial.request).toEqual({
      url: endpoint.url,
      body: received.body,
      headers: {
        Authorization: "[hidden]",
        "content-type": "application/json",
        "user-agent": received.headers["user-agent"],
        "webhook-id": event.id,
        "webhook-timestamp": received.headers["webhook-timestamp"],
        "webhook-signature": "[hidden]",
      },
    });
  });

  test.each(eventTypes)("can be any event type: %s", async (eventType) => {
    const example: Record<string, unknown> = eventExamples[eventType];
    expect(catalogue[eventType].data.strict().parse(example)).toEqual(example);
    const endpoint = await anyEndpoint();
    const event = JSON.parse((await sent(endpoint, { eventType })).received.body);
    const data = eventType === "webhook.test" ? { ...example, id: endpoint.id } : example;
    const id = eventType === "webhook.test" ? endpoint.id : (example.id ?? h.ada.clientId);
    expect(event).toMatchObject({ type: eventType, data, subject: { type: catalogue[eventType].subject, id } });
  });

  test("has no data if the payload is thin, and is still signed", async () => {
    const endpoint = await make({ payload: "thin" });
    const { received } = await sent(endpoint, { eventType: "call.ended" });
    expect(Object.keys(JSON.parse(received.body))).toEqual(["id", "type", "createdAt", "clientId", "subject"]);
    expect(opens(endpoint.secret, received)).toBe(true);
  });

  test("reaches a disabled endpoint, stores nothing, and is audited", async () => {
    const endpoint = await make();
    await h.patch(endpoint.path, { status: "disabled" });
    const before = await row(endpoint.id);
    await sent(endpoint);
    expect(endpoint.received()).toHaveLength(1);
    expect(await h.owner`select from deliveries where endpoint_id = ${endpoint.id}`).toHaveLength(0);
    expect(await h.owner`select from events where type = 'webhook.test'`).toHaveLength(0);
    expect(await row(endpoint.id)).toEqual(before);
    const audit = await h.owner`select from audit_log where action = 'webhooks.test' and subject_id = ${endpoint.id}`;
    expect(audit).toHaveLength(1);
  });

  test("that fails returns a result", async () => {
    const path = `/hook-${named + 1}`;
    receiver.answer(path, (response) => response.writeHead(503).end("not now"));
    const failing = await make();
    const answered = (await h.post(`${failing.path}/test`, {})).body.data;
    expect(answered).toMatchObject({ delivered: false, status: 503, error: null, response: "not now" });

    receiver.answer(path, (response) => response.writeHead(302, { location: "/elsewhere" }).end());
    const led = (await h.post(`${failing.path}/test`, {})).body.data;
    expect(led).toMatchObject({ delivered: false, status: 302, error: "redirect_not_followed" });

    const deaf = await make({ url: "http://127.0.0.1:9/" });
    const none = (await h.post(`${deaf.path}/test`, {})).body.data;
    expect(none).toMatchObject({ delivered: false, status: null, error: "connection_failed", response: null });
  });

  test("holds no transaction open during the request", async () => {
    const path = `/hook-${named + 1}`;
    let ended = Promise.resolve(false);
    receiver.answer(path, async (response) => {
      const none = until(async () => (await idleInTransaction()) === 0, 10); // fails if a transaction waits for this response
      ended = none.then(() => true).catch(() => false);
      await ended;
      response.end("ok");
    });
    await sent(await make());
    expect(await ended).toBe(true);
  });

  test("masks own headers that the receiver echoes", async () => {
    const path = `/hook-${named + 1}`;
    receiver.answer(path, (response, { headers }) => response.end(`received ${headers.authorization}`));
    const endpoint = await make({ headers: { authorization: "Bearer of-the-crm-4711" } });
    const { trial } = await sent(endpoint);
    expect(trial.response).toBe("received [secret]");
    const audit = JSON.stringify(await h.owner`select input from audit_log where action like 'webhooks.%'`);
    expect(audit).toContain("hook-");
    expect(audit).not.toContain("of-the-crm");
  });

  let one: Awaited<ReturnType<typeof make>> | undefined;
  async function anyEndpoint() {
    one ??= await make();
    return one;
  }
});

describe("deliveries", async () => {
  /** Inserts deliveries of an endpoint, each with its own event. */
  async function stock(endpoint: string, rows: Record<string, unknown>[], clientId = h.ada.clientId) {
    const ids: { id: string; eventId: string; subjectId: string }[] = [];
    for (const { at = new Date(), type = "call.ended", ...columns } of rows) {
      const [id, eventId, subjectId] = [newId("delivery"), newId("event"), newId("call")];
      await h.owner`insert into events (client_id, id, type, subject_type, subject_id, sequence, data, created_at)
        values (${clientId}, ${eventId}, ${type as string}, 'call', ${subjectId}, 1, '{}', ${at as Date})`;
      await h.owner`insert into event_counters (client_id, subject_id, sequence) values (${clientId}, ${subjectId}, 1)`;
      await h.owner`insert into deliveries ${h.owner({
        ...{ client_id: clientId, id, endpoint_id: endpoint, event_id: eventId, event_type: type as string },
        ...{ event_created_at: at as Date, status: "dead", attempts: 10, ...columns },
      })}`;
      await h.owner`update deliveries d set event_created_at = e.created_at from events e where e.id = d.event_id and d.id = ${id}`;
      ids.push({ id, eventId, subjectId });
    }
    return ids;
  }

  const ids = (answer: { body: { data: { id: string }[] } }) => answer.body.data.map(({ id }) => id);

  test("are filtered by every field, for one endpoint or all", async () => {
    const [one, other] = [await make(), await make()];
    const mine = await stock(one.id, [
      { last_status: 503 },
      { last_error: "timeout", type: "call.failed" },
      { status: "delivered", last_status: 200 },
      { status: "pending", next_attempt_at: new Date() },
    ]);
    const [theirs] = await stock(other.id, [{ last_status: 503 }]);
    const both = async (query: string) => {
      const all = ids(await h.get(`/webhooks/deliveries?limit=100&${query}`));
      const own = ids(await h.get(`${one.path}/deliveries?limit=100&${query}`));
      expect(ids(await h.get(`/webhooks/deliveries?limit=100&endpointId=${one.id}&${query}`))).toEqual(own);
      return { all, own };
    };
    const [dead, late, done, waiting] = mine.map(({ id }) => id);
    expect(await both("status=dead")).toEqual({ all: [theirs!.id, late, dead], own: [late, dead] });
    expect(await both("lastStatus=503")).toEqual({ all: [theirs!.id, dead], own: [dead] });
    expect(await both("lastError=timeout")).toEqual({ all: [late], own: [late] });
    expect(await both("eventType=call.failed")).toEqual({ all: [late], own: [late] });
    expect(await both("status=delivered")).toEqual({ all: [done], own: [done] });
    expect(await both(`eventId=${mine[3]!.eventId}`)).toEqual({ all: [waiting], own: [waiting] });
    expect(await both(`subjectId=${mine[3]!.subjectId}`)).toEqual({ all: [waiting], own: [waiting] });
    expect(await both(`eventId=${theirs!.eventId}`)).toEqual({ all: [theirs!.id], own: [] });
    const first = ids(await h.get("/webhooks/deliveries?limit=2"));
    expect(first).toEqual([theirs!.id, waiting]);
  });

  test("are filtered by creation time", async () => {
    const { path, id } = await make();
    const [early] = await stock(id, [{}]);
    const created = async (delivery: string) => (await h.get(`/webhooks/deliveries/${delivery}`)).body.data.createdAt;
    await new Promise((passed) => setTimeout(passed, 20));
    const between = new Date().toISOString();
    await new Promise((passed) => setTimeout(passed, 20));
    const [late] = await stock(id, [{}]);
    expect((await created(early!.id)) < between).toBe(true);
    expect(ids(await h.get(`${path}/deliveries?createdAfter=${between}`))).toEqual([late!.id]);
    expect(ids(await h.get(`${path}/deliveries?createdBefore=${between}`))).toEqual([early!.id]);
    const elsewhere = encodeURIComponent("2026-11-01T00:00:00+01:00");
    expect(ids(await h.get(`${path}/deliveries?createdAfter=${elsewhere}`))).toEqual([late!.id, early!.id]);
  });

  test("of a deleted endpoint are still found", async () => {
    const { path, id } = await make();
    const [mine] = await stock(id, [{ status: "delivered" }]);
    expect((await h.remove(path)).status).toBe(204);
    expect(ids(await h.get(`/webhooks/deliveries?endpointId=${id}`))).toEqual([mine!.id]);
    expect((await h.get(`${path}/deliveries`)).body.error.code).toBe("webhook_not_found");
    expect((await h.get(`/webhooks/deliveries?endpointId=${id}`, bobs)).body.error.code).toBe("webhook_not_found");
    const none = await h.get(`/webhooks/deliveries?endpointId=${newId("endpoint")}`);
    expect(none.body.error.code).toBe("webhook_not_found");
  });

  test("are filtered by a type or a pattern, and an unknown pattern is refused", async () => {
    const { path, id } = await make();
    const [ended, failed] = await stock(id, [
      { type: "call.ended" },
      { type: "call.failed" },
      { type: "agent.created" },
    ]);
    const found = async (eventType: string) => ids(await h.get(`${path}/deliveries?eventType=${eventType}`));
    expect(await found("call.*")).toEqual([failed!.id, ended!.id]);
    expect(await found("call.ended")).toEqual([ended!.id]);
    expect(await found("voice.*")).toEqual([]);
    expect(await found("*")).toHaveLength(3);
    const first = await h.get(`${path}/deliveries?eventType=call.*&limit=1`);
    const rest = await h.get(`${path}/deliveries?eventType=call.*&limit=1&cursor=${first.body.meta.nextCursor}`);
    expect([...ids(first), ...ids(rest)]).toEqual([failed!.id, ended!.id]);
    const bad = await h.get(`${path}/deliveries?eventType=calls.*`);
    expect(bad.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "eventType" }] });
  });

  test("are filtered by an error code, and every code is documented", async () => {
    const answer = await h.get("/webhooks/deliveries?lastError=teapot");
    expect(answer.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "lastError" }] });
    const words = Object.keys(deliveryErrors);
    for (const word of words) expect((await h.get(`/webhooks/deliveries?lastError=${word}`)).status).toBe(200);
    const text = readFileSync("docs/webhooks.md", "utf8");
    const rows = Object.entries(deliveryErrors).map(([word, meaning]) => `| \`${word}\` | ${meaning} |`);
    expect(text, rows.join("\n")).toContain(rows.join("\n"));
    const { components } = openApiDocument(appRouter, { baseUrl: "https://api.patchbay.test/api/v1", version: "1" });
    for (const name of ["WebhookDelivery", "WebhookDeliveryWithAttempts", "EventDelivery"]) {
      expect(components.schemas[name]!.properties!.lastError!.enum).toEqual([...words, null]);
    }
  });

  test("of another client are not found", async () => {
    const { id } = await make();
    const [mine] = await stock(id, [{}]);
    const refusals = [
      [`/webhooks/deliveries?eventId=${mine!.eventId}`, "event_not_found"],
      [`/webhooks/deliveries?subjectId=${mine!.subjectId}`, "resource_not_found"],
      [`/webhooks/deliveries?endpointId=${id}`, "webhook_not_found"],
      [`/webhooks/deliveries/${mine!.id}`, "delivery_not_found"],
    ] as const;
    for (const [path, code] of refusals) expect((await h.get(path, bobs)).body.error.code).toBe(code);
    expect((await h.post(`/webhooks/deliveries/${mine!.id}/redeliver`, {}, bobs)).body.error.code).toBe(
      "delivery_not_found",
    );
    expect(ids(await h.get("/webhooks/deliveries", bobs))).not.toContain(mine!.id);
  });

  const delivery = async (id: string) => (await h.owner`select * from deliveries where id = ${id}`)[0]!;

  test("that are finished are redelivered with a full schedule", async () => {
    const { id: endpoint } = await make();
    const over = { finished_at: new Date(), last_error: "timeout", last_status: 503, claim: 12 };
    const [dead, done] = await stock(endpoint, [over, { ...over, status: "delivered", attempts: 2 }]);
    for (const [{ id }, attempts] of [
      [dead!, 10],
      [done!, 2],
    ] as const) {
      const answer = await h.post(`/webhooks/deliveries/${id}/redeliver`, {});
      expect(answer).toMatchObject({ status: 200, body: { data: { id, status: "pending", finishedAt: null } } });
      expect(answer.body.data).toMatchObject({ lastError: "timeout", attemptCount: attempts });
      const stored = await delivery(id);
      expect(stored).toMatchObject({ status: "pending", attempts, schedule_from: attempts, claim: "13" });
      expect(stored).toMatchObject({ admitted_until: null, finished_at: null, last_error: "timeout" });
      expect(Date.now() - stored.next_attempt_at.getTime()).toBeLessThan(60_000);
    }
  });

  test("that wait become due now, and those in flight are unchanged", async () => {
    const { id: endpoint } = await make();
    const soon = new Date(Date.now() + 3_600_000);
    const [waiting, inFlight] = await stock(endpoint, [
      { status: "pending", attempts: 3, claim: 4, next_attempt_at: soon },
      { status: "pending", attempts: 3, claim: 4, next_attempt_at: soon, admitted_until: soon },
    ]);
    await h.post(`/webhooks/deliveries/${waiting!.id}/redeliver`, {});
    const due = await delivery(waiting!.id);
    expect(due).toMatchObject({ status: "pending", attempts: 3, schedule_from: 3, claim: "4" });
    expect(due.next_attempt_at.getTime()).toBeLessThan(soon.getTime());
    const before = await delivery(inFlight!.id);
    expect((await h.post(`/webhooks/deliveries/${inFlight!.id}/redeliver`, {})).status).toBe(200);
    expect(await delivery(inFlight!.id)).toEqual(before);
  });

  test("are refused if the endpoint is disabled or deleted, or the event has expired", async () => {
    const { id: endpoint, path } = await make();
    const [off, old] = await stock(endpoint, [{}, {}]);
    const again = async ({ id }: { id: string }) =>
      (await h.post(`/webhooks/deliveries/${id}/redeliver`, {})).body.error;
    await h.patch(path, { status: "disabled" });
    expect((await again(off!)).code).toBe("webhook_disabled");
    await h.patch(path, { status: "enabled" });
    await h.owner`delete from events where id = ${old!.eventId}`;
    expect((await again(old!)).code).toBe("event_expired");
    await h.remove(path);
    expect((await again(off!)).code).toBe("webhook_not_found");
    expect(await delivery(off!.id)).toMatchObject({ status: "dead", claim: "0" });
  });
});
