import { setTimeout as sleep } from "node:timers/promises";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { listEvents } from "../../routers/events/service.ts";
import type { Vault } from "../../routers/ports/vault.ts";
import { SendFailed, type WebhookSender } from "../../routers/ports/webhook-sender.ts";
import { dispatchLimits } from "../../routers/webhooks/deliveries/dispatch.ts";
import { attemptAfterSeconds } from "../../routers/webhooks/deliveries/schedule.ts";
import { getDelivery, redeliver } from "../../routers/webhooks/deliveries/service.ts";
import { getEndpoint, removeEndpoint, updateEndpoint } from "../../routers/webhooks/endpoints/service.ts";
import { webhookSender } from "../../server/adapters/webhook-sender.ts";
import { agent, startTestApp, until } from "../support/app.ts";
import { openDeliveryGround, status, type Tenant } from "../support/deliveries.ts";

const ground = await openDeliveryGround();
const { owner, sender, receiver, tenant } = ground;
afterEach(() => receiver.forget());
afterAll(() => ground.close());

/** Polls the slots in use until `work` is done. */
async function watching(t: Tenant, work: Promise<unknown>) {
  let most = 0;
  let all = 0;
  let over = false;
  const done = work.finally(() => {
    over = true;
  });
  while (!over) {
    const seen = await t.inFlight();
    most = Math.max(most, seen.most);
    all = Math.max(all, seen.all);
    await sleep(2);
  }
  await done;
  return { most, all };
}

/** Seconds from the record of an attempt to the next one; one statement wrote both times. */
async function pauseAfter({ clientId }: Tenant, attempt: number): Promise<number> {
  const [row] = await owner`
    select extract(epoch from d.next_attempt_at - a.created_at)::float8 as seconds
    from deliveries d join delivery_attempts a on a.client_id = d.client_id and a.delivery_id = d.id
    where d.client_id = ${clientId} and a.attempt = ${attempt}`;
  return row!.seconds;
}

describe("fan-out", () => {
  test("one delivery per endpoint and event, however often it runs", async () => {
    const t = await tenant();
    const other = await tenant();
    await other.endpoint("theirs");
    const subscribed = [await t.endpoint("a"), await t.endpoint("b", ["agent.*"])];
    await t.endpoint("c", ["call.*"]);
    const off = await t.endpoint("d");
    await t.asClient((tx) => updateEndpoint(tx, { id: off.id, status: "disabled" }, { allowPrivate: true }));
    await owner`delete from event_fan_outs where client_id = ${t.clientId}`; // disabling emitted an event too
    await t.say();
    const again = () => owner`
      insert into event_fan_outs (client_id, event_id, event_created_at)
      select client_id, id, created_at from events where client_id = ${t.clientId} and type = 'agent.created' on conflict do nothing`;
    await Promise.all(Array.from({ length: 8 }, async () => again().then(() => t.fanOut())));
    const rows = await t.rows();
    expect(rows.map((row) => row.endpoint_id).sort()).toEqual(subscribed.map(({ id }) => id).sort());
    expect(await t.take(10)).toHaveLength(2);
    expect(await other.rows()).toHaveLength(0);
  });
});

describe("delivery", () => {
  test("the body is the event as GET /events shows it, signed for the receiver's library", async () => {
    const t = await tenant();
    const { secret } = await t.endpoint("a");
    await t.say();
    await t.work();
    const [received] = receiver.at(t.path("a"));
    const key = { secret: Buffer.alloc(32), clientId: t.clientId, procedure: "events.list", filters: {} };
    const page = await t.asClient((tx) => listEvents(tx, { limit: 20, order: "desc" }, key));
    expect(JSON.parse(received!.body)).toEqual(page.items[0]);
    expect(received!.body).toBe(JSON.stringify(page.items[0]));
    expect(new Webhook(secret).verify(received!.body, received!.headers)).toEqual(page.items[0]);
    expect(received!.headers).toMatchObject({ "webhook-id": page.items[0]!.id, "content-type": "application/json" });
    expect(await t.row()).toMatchObject({ status: "delivered", attempts: 1, last_status: 200, admitted_until: null });
    expect(await t.attempts()).toMatchObject([{ attempt: 1, status: 200, error: null, response: "ok" }]);
  });

  test("the secret is not stored in plain text", async () => {
    const t = await tenant();
    const { id, secret } = await t.endpoint("a");
    const [row] = await owner`select secret from webhook_endpoints where id = ${id}`;
    expect(row!.secret.includes(Buffer.from(secret))).toBe(false);
    expect(row!.secret.includes(Buffer.from(secret.slice(6), "base64"))).toBe(false);
  });

  test("retries follow the schedule with identical bodies, and the tenth failure is the last", async () => {
    const t = await tenant({ random: () => 0.5 });
    await t.endpoint("a");
    receiver.answer(t.path("a"), status(500));
    await t.say();
    for (let made = 1; made <= 10; made++) {
      await t.work();
      const row = await t.row();
      expect(row.attempts).toBe(made);
      if (made === 10) break;
      expect(row).toMatchObject({ status: "pending", last_status: 500, admitted_until: null });
      const planned = attemptAfterSeconds[made]! * 1.1;
      const pause = await pauseAfter(t, made);
      expect(pause).toBeGreaterThan(planned - 0.4);
      expect(pause).toBeLessThanOrEqual(planned);
      await t.work();
      expect(receiver.at(t.path("a"))).toHaveLength(made);
      await t.makeDue();
      await t.sweep();
    }
    expect(await t.row()).toMatchObject({ status: "dead", next_attempt_at: null });
    await t.sweep();
    await t.work();
    const received = receiver.at(t.path("a"));
    expect(received).toHaveLength(10);
    expect(new Set(received.map(({ body }) => body)).size).toBe(1);
    expect(new Set(received.map(({ headers }) => headers["webhook-id"])).size).toBe(1);
    expect((await t.attempts()).map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("redelivering a waiting delivery, however often, gives it a full schedule", async () => {
    const t = await tenant({ random: () => 0 });
    await t.endpoint("a");
    receiver.answer(t.path("a"), status(500));
    await t.say();
    await t.work();
    for (let made = 2; made <= 12; made++) {
      const { id } = await t.row();
      await t.asClient((tx) => redeliver(tx, id));
      await t.asClient((tx) => redeliver(tx, id)); // a second click
      await t.sweep();
      await t.work();
      expect(await t.row()).toMatchObject({ status: "pending", attempts: made });
      expect(await pauseAfter(t, made)).toBeCloseTo(attemptAfterSeconds[1], 0);
    }
    expect(receiver.at(t.path("a"))).toHaveLength(12);
  });

  test("a retry that is not due takes no slot, and one that is due soon starts at its due time", async () => {
    const t = await tenant();
    await t.endpoint("a");
    receiver.answer(t.path("a"), status(503, { "retry-after": "40" }));
    await t.say();
    await t.work();
    await t.sweep();
    expect(await t.inFlight()).toEqual({ most: 0, all: 0 });
    const pause = await pauseAfter(t, 1);
    expect(pause).toBeGreaterThan(39);
    expect(pause).toBeLessThanOrEqual(40);
    await owner`update deliveries set next_attempt_at = now() + interval '1.9 seconds' where client_id = ${t.clientId}`;
    await t.sweep();
    const queued = await owner`
      select j.run_at = d.next_attempt_at as on_time, j.created_at < d.next_attempt_at as before
      from graphile_worker._private_jobs j join deliveries d on d.id = j.payload #>> '{body,deliveryId}'
      where d.client_id = ${t.clientId}`;
    expect(queued).toEqual([{ on_time: true, before: true }]);
  });

  test("410 disables the endpoint, and the other endpoints receive an event", async () => {
    const t = await tenant();
    const gone = await t.endpoint("gone");
    await t.endpoint("other");
    receiver.answer(t.path("gone"), status(410));
    await t.say(3);
    await t.work();
    const [row] = await owner`select status, disabled_code from webhook_endpoints where id = ${gone.id}`;
    expect(row).toEqual({ status: "disabled", disabled_code: "gone" });
    const events = receiver.at(t.path("other")).map(({ body }) => JSON.parse(body));
    const notices = events.filter(({ type }) => type === "webhook.endpoint.disabled");
    expect(notices).toHaveLength(1);
    expect(notices[0].data).toEqual({
      id: gone.id,
      url: gone.url,
      reason: "The receiver answered 410 Gone.",
      code: "gone",
    });
    expect(await t.asClient((tx) => getEndpoint(tx, gone.id))).toMatchObject({ disabledCode: "gone" });
    expect(events).toHaveLength(4);
    const toGone = (await t.rows()).filter(({ endpoint_id }) => endpoint_id === gone.id);
    expect(toGone.every(({ status }) => status === "dead")).toBe(true);
  });

  test("a redirect is a failure and is not followed", async () => {
    const t = await tenant();
    await t.endpoint("a");
    receiver.answer(t.path("a"), status(302, { location: receiver.url + t.path("elsewhere") }));
    await t.say();
    await t.work();
    expect(receiver.at(t.path("elsewhere"))).toHaveLength(0);
    expect(await t.row()).toMatchObject({ status: "pending", last_status: 302, last_error: "redirect_not_followed" });
  });

  test("deliveries to an endpoint that was deleted or disabled are dead, and are not sent", async () => {
    const t = await tenant();
    const a = await t.endpoint("a");
    const b = await t.endpoint("b");
    await t.say();
    await t.fanOut();
    await t.asClient((tx) => removeEndpoint(tx, a.id));
    await t.asClient((tx) => updateEndpoint(tx, { id: b.id, status: "disabled" }, { allowPrivate: true }));
    await t.work();
    expect(receiver.at(t.path("a"))).toHaveLength(0);
    expect(receiver.at(t.path("b"))).toHaveLength(0);
    const rows = await t.rows();
    expect(rows.find((row) => row.endpoint_id === a.id)).toMatchObject({
      status: "dead",
      last_error: "endpoint_deleted",
    });
    expect(rows.find((row) => row.endpoint_id === b.id)).toMatchObject({
      status: "dead",
      last_error: "endpoint_disabled",
    });
    expect(await t.attempts()).toHaveLength(0);
  });

  test("while the key service is unavailable deliveries wait and use no attempt", async () => {
    const unavailable: Vault = { keys: () => Promise.reject(new Error("the key service is unavailable")) };
    const t = await tenant({ vault: unavailable });
    await t.endpoint("a");
    await t.say();
    await t.work();
    expect(await t.row()).toMatchObject({
      status: "pending",
      attempts: 0,
      last_error: "key_unavailable",
      admitted_until: null,
    });
    expect(await t.attempts()).toHaveLength(0);
    expect(receiver.at(t.path("a"))).toHaveLength(0);
  });
});

describe("claims and leases", () => {
  test("a stale claim sends nothing, and a claim that becomes stale during the request writes nothing", async () => {
    const t = await tenant({ deadlineMs: 30_000 });
    await t.endpoint("a");
    await t.say(1);
    await t.fanOut();
    const [job] = await t.take(1);
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    receiver.answer(t.path("a"), async (response) => {
      await held;
      response.writeHead(410).end();
    });
    const running = t.run(job!);
    await until(async () => receiver.at(t.path("a")).length === 1);
    await owner`update deliveries set claim = claim + 1 where client_id = ${t.clientId}`;
    release();
    await running;
    expect(await t.row()).toMatchObject({ status: "pending", attempts: 0, last_status: null });
    expect((await t.row()).admitted_until).not.toBeNull();
    expect(await t.attempts()).toHaveLength(0);
    const [endpoint] = await owner`select status from webhook_endpoints where client_id = ${t.clientId}`;
    expect(endpoint!.status).toBe("enabled");

    await t.run(job!);
    expect(receiver.at(t.path("a"))).toHaveLength(1);
  });

  test("a delivery of a killed worker is sent by another worker, with the same webhook-id", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say();
    await t.fanOut();
    const lost = await t.take(1); // the worker dies with it
    await t.sweep();
    expect(await t.take(1)).toHaveLength(0);
    await owner`update deliveries set admitted_until = now() - interval '1 hour' where client_id = ${t.clientId}`;
    await until(async () => (await t.sweep()).freed > 0);
    await t.work();
    expect(receiver.at(t.path("a"))).toHaveLength(1);
    expect(await t.row()).toMatchObject({ status: "delivered", claim: "2" });
    await t.run(lost[0]!); // the worker was only slow
    expect(receiver.at(t.path("a"))).toHaveLength(1);
    expect(await t.attempts()).toHaveLength(1);
  });

  test("a lease outlasts the queue lag, so a waiting job is not queued twice", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say();
    await t.fanOut();
    await owner`update graphile_worker._private_jobs set run_at = now() - interval '90 seconds' where payload->>'clientId' = ${t.clientId}`;
    await owner`update deliveries set admitted_until = now() - interval '30 seconds' where client_id = ${t.clientId}`;
    await t.sweep();
    expect((await t.row()).admitted_until).not.toBeNull();
    await t.work();
    expect(await t.row()).toMatchObject({ status: "delivered", claim: "1" });
  });

  test("a fenced run throws, before it sends and before it writes", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say();
    await t.fanOut();
    const [job] = await t.take(1);
    const check = () => {
      throw new Error("fenced");
    };
    await expect(t.deliver.run(job!.payload.body, { ...t.ctx, fence: { check } })).rejects.toThrow("fenced");
    expect(receiver.at(t.path("a"))).toHaveLength(0);
    expect(await t.row()).toMatchObject({ status: "pending", attempts: 0 });
  });
});

describe("slots", () => {
  test("an endpoint never exceeds its slots under concurrent reservations", async () => {
    const t = await tenant({ deadlineMs: 30_000 });
    await t.endpoint("a");
    await t.endpoint("b");
    for (const name of ["a", "b"]) receiver.answer(t.path(name), (response) => setTimeout(() => response.end("ok"), 3));
    await t.say(80);
    const admitters = Array.from({ length: 8 }, async () => {
      for (let i = 0; i < 20; i++) {
        await Promise.all([t.sweep(), sleep(5)]);
      }
    });
    const seen = await watching(t, Promise.all([t.work(8), t.work(8), t.work(8), ...admitters]));
    await until(async () => {
      await t.sweep();
      await t.work(20);
      return (await t.rows()).every(({ status }) => status === "delivered");
    });
    expect(seen.most).toBeLessThanOrEqual(dispatchLimits.inFlightPerEndpoint);
    expect(seen.most).toBeGreaterThan(1);
    for (const name of ["a", "b"]) {
      expect(receiver.most(t.path(name))).toBeLessThanOrEqual(dispatchLimits.inFlightPerEndpoint);
      expect(new Set(receiver.at(t.path(name)).map(({ headers }) => headers["webhook-id"])).size).toBe(80);
      expect(receiver.at(t.path(name))).toHaveLength(80);
    }
  });

  test("a client never exceeds its slots, and its busy endpoints leave slots for the others", async () => {
    const t = await tenant();
    const names = Array.from({ length: 12 }, (_, i) => `e${i}`);
    for (const name of names) await t.endpoint(name);
    await t.say(15);
    const seen = await watching(t, Promise.all([t.fanOut(), t.fanOut(), t.fanOut()]));
    expect(seen.most).toBeLessThanOrEqual(dispatchLimits.inFlightPerEndpoint);
    expect(await t.inFlight()).toMatchObject({ all: dispatchLimits.inFlightPerClient });
    const working = await watching(t, t.work(30));
    expect(working.all).toBeLessThanOrEqual(dispatchLimits.inFlightPerClient);
    expect(working.most).toBeLessThanOrEqual(dispatchLimits.inFlightPerEndpoint);
    for (const name of names) expect(receiver.at(t.path(name))).toHaveLength(15);
  });

  test("a new endpoint gets a slot although ten others hold all slots and have a backlog", async () => {
    const t = await tenant();
    for (let i = 0; i < 10; i++) await t.endpoint(`old${i}`, ["agent.created"]);
    await t.endpoint("late", ["agent.updated"]);
    await t.say(20);
    await t.fanOut();
    expect((await t.inFlight()).all).toBe(dispatchLimits.inFlightPerClient);
    await t.say(1, "agent.updated");
    await t.fanOut();
    for (const job of await t.take(500)) {
      await t.run(job); // its slot goes to the endpoint that has none
      if ((await t.inFlight()).all > dispatchLimits.inFlightPerClient) throw new Error("too many");
      for (const next of await t.take(1)) await t.run(next);
      if (receiver.at(t.path("late")).length > 0) break;
    }
    const before = Array.from({ length: 10 }, (_, i) => receiver.at(t.path(`old${i}`)).length);
    expect(receiver.at(t.path("late"))).toHaveLength(1);
    expect(before.reduce((sum, n) => sum + n, 0)).toBeLessThan(10);
  });

  test("a job whose slot was given away does not release it again", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say(30);
    await t.fanOut();
    const [slow] = await t.take(1);
    const { deliveryId } = slow!.payload.body as { deliveryId: string };
    await owner`update deliveries set admitted_until = null, next_attempt_at = now() + interval '1 second' where id = ${deliveryId}`;
    await until(async () => {
      await t.sweep();
      return (await t.inFlight()).all === 10;
    });
    await t.run(slow!);
    expect(receiver.at(t.path("a"))).toHaveLength(1);
    expect((await t.inFlight()).all).toBe(10);
  });

  test("a freed slot goes to the next due delivery without a sweep", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say(40);
    await t.fanOut();
    expect(await t.inFlight()).toEqual({ most: 10, all: 10 });
    await t.work(10);
    expect(receiver.at(t.path("a"))).toHaveLength(40);
  });

  test("an endpoint that hangs delays no other", async () => {
    const t = await tenant({ deadlineMs: 40_000 });
    const hanging = await t.endpoint("hangs");
    await t.endpoint("quick");
    const over = Promise.withResolvers<void>();
    receiver.answer(t.path("hangs"), (response) => void over.promise.then(() => response.end("ok")));
    await t.say(15);
    const working = t.work(25);
    await until(async () => receiver.at(t.path("quick")).length === 15);
    expect((await t.attempts()).map(({ endpoint_id }) => endpoint_id)).not.toContain(hanging.id);
    expect(receiver.at(t.path("hangs")).length).toBeLessThanOrEqual(dispatchLimits.inFlightPerEndpoint);
    over.resolve();
    await working;
    expect(receiver.at(t.path("hangs"))).toHaveLength(15);
  });

  test("an attempt without a response ends at its deadline and is recorded as a timeout", async () => {
    const t = await tenant({ deadlineMs: 300 });
    await t.endpoint("hangs");
    receiver.answer(t.path("hangs"), () => {});
    await t.say();
    await t.work();
    expect(await t.attempts()).toMatchObject([{ attempt: 1, status: null, error: "timeout" }]);
  });

  test("a backlog of one client does not keep another from being swept", async () => {
    const hog = await tenant();
    const small = await tenant();
    const busy = await hog.endpoint("a");
    const quiet = await small.endpoint("a");
    const pending = (clientId: string, endpointId: string, rows: number, since: string) => owner`
      insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at)
      select ${clientId}, 'dlv_' || ${clientId} || n, ${endpointId}, 'evt_' || n, 'agent.created', now(), now() - ${since}::interval
      from generate_series(1, ${rows}) n`;
    await pending(hog.clientId, busy.id, 20_000, "1 hour");
    await pending(small.clientId, quiet.id, 1, "1 second");
    const startedAt = Date.now();
    await hog.sweep();
    expect(Date.now() - startedAt).toBeLessThan(10_000);
    expect((await small.inFlight()).all).toBe(1);
    expect((await hog.inFlight()).all).toBe(dispatchLimits.inFlightPerEndpoint);
    await owner`delete from deliveries where client_id = ${hog.clientId}`;
  });
});

describe("the sender", () => {
  const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });
  const post = (url: string, through: WebhookSender = sender, ms = 30_000) =>
    through.send({ url, headers: {}, body: "{}" }, within(ms));
  const guarded = (addresses: string[]) =>
    webhookSender({
      allowPrivate: false,
      resolve: async () => addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
    });

  test("a slow response is cut off at the deadline", async () => {
    receiver.answer("/drip", (response) => {
      const drops = setInterval(() => response.write("."), 50);
      response.once("close", () => clearInterval(drops));
    });
    const startedAt = Date.now();
    await expect(post(`${receiver.url}/drip`, sender, 400)).rejects.toMatchObject({ reason: "timeout" });
    expect(Date.now() - startedAt).toBeLessThan(10_000);
  });

  test("a long response is read only in part, and the first kilobyte is kept", async () => {
    let written = 0;
    receiver.answer("/flood", (response) => {
      const chunk = Buffer.alloc(16_384, "a");
      const pour = () => {
        if (response.destroyed || written > 200 * 1024 * 1024) return;
        written += chunk.length;
        if (response.write(chunk)) setImmediate(pour);
        else response.once("drain", pour);
      };
      pour();
    });
    const answer = await post(`${receiver.url}/flood`);
    expect(answer).toMatchObject({ status: 200, response: "a".repeat(1024) });
    expect(written).toBeLessThan(20 * 1024 * 1024);
  });

  test("bytes that Postgres cannot store are replaced", async () => {
    receiver.answer("/nul", (response) => response.end(Buffer.from([0x61, 0x00, 0xff, 0x62])));
    expect((await post(`${receiver.url}/nul`)).response).toBe("a\uFFFD\uFFFDb");
  });

  test("Retry-After is read as seconds and as a date", async () => {
    receiver.answer("/later", status(429, { "retry-after": "17" }));
    expect((await post(`${receiver.url}/later`)).retryAfterSeconds).toBe(17);
    receiver.answer("/later", status(503, { "retry-after": new Date(Date.now() + 300_000).toUTCString() }));
    expect((await post(`${receiver.url}/later`)).retryAfterSeconds).toBeGreaterThan(240);
    receiver.answer("/later", status(503, { "retry-after": "soon" }));
    expect((await post(`${receiver.url}/later`)).retryAfterSeconds).toBeNull();
  });

  test("a private address is refused, in the URL or behind a host name", async () => {
    const none = guarded([]);
    for (const host of ["127.0.0.1", "10.1.2.3", "[::1]", "169.254.169.254", "0x7f.1", "[::ffff:7f00:1]"]) {
      await expect(post(`https://${host}/`, none), host).rejects.toMatchObject({ reason: "address_forbidden" });
    }
    await expect(post("https://hooks.example/", none)).rejects.toMatchObject({ reason: "name_not_resolved" });
    for (const addresses of [["127.0.0.1"], ["::1"], ["93.184.216.34", "10.0.0.1"], ["64:ff9b::7f00:1"]]) {
      await expect(post("https://hooks.example/", guarded(addresses)), addresses.join()).rejects.toMatchObject({
        reason: "address_forbidden",
      });
    }
  });

  test("the connection uses the checked address without a second lookup, and ignores a proxy of the environment", async () => {
    const lookups: string[] = [];
    const named = webhookSender({
      allowPrivate: true,
      resolve: async (hostname) => {
        lookups.push(hostname);
        return [{ address: "127.0.0.1", family: 4 }];
      },
    });
    vi.stubEnv("http_proxy", "http://127.0.0.1:9");
    try {
      const answer = await post(`http://hooks.example:${new URL(receiver.url).port}/named`, named);
      expect(answer.status).toBe(200);
    } finally {
      vi.unstubAllEnvs();
      await named.close();
    }
    expect(lookups).toEqual(["hooks.example"]);
    expect(receiver.at("/named")[0]!.headers.host).toContain("hooks.example");
  });

  test("a refused connection and an unknown host name have different errors", async () => {
    await expect(post("http://127.0.0.1:1/")).rejects.toMatchObject({ reason: "connection_failed" });
    const failing = webhookSender({ allowPrivate: true, resolve: () => Promise.reject(new Error("NXDOMAIN")) });
    await expect(post("http://nowhere.example/", failing)).rejects.toBeInstanceOf(SendFailed);
    await expect(post("http://nowhere.example/", failing)).rejects.toMatchObject({ reason: "name_not_resolved" });
  });
});

describe("over HTTP", async () => {
  const h = await startTestApp({ workers: true, env: { WORKER_PROMPT_JOBS: "10", WORKER_DELIVERY_JOBS: "10" } });
  const bobs = { key: h.bob.key };
  const hook = (name: string) => `${receiver.url}/door/${name}`;

  test("an endpoint is created, shown without its secret, updated and deleted", async () => {
    const made = await h.post("/webhooks", { url: hook("crud"), eventTypes: ["call.*"] });
    expect(made.status).toBe(201);
    expect(made.body.data).toMatchObject({
      status: "enabled",
      eventTypes: ["call.*"],
      description: null,
      disabledReason: null,
    });
    const { secret, ...endpoint } = made.body.data;
    expect(secret).toMatch(/^whsec_/);
    expect((await h.get(`/webhooks/${endpoint.id}`)).body.data).toEqual(endpoint);
    expect((await h.get("/webhooks")).body.data).toContainEqual(endpoint);

    const changed = await h.patch(`/webhooks/${endpoint.id}`, { status: "disabled", description: "CRM" });
    expect(changed.body.data).toMatchObject({
      status: "disabled",
      description: "CRM",
      disabledReason: "Disabled by request.",
    });
    const back = await h.patch(`/webhooks/${endpoint.id}`, { status: "enabled" });
    expect(back.body.data).toMatchObject({ status: "enabled", disabledReason: null });

    for (const path of [`/webhooks/${endpoint.id}`, `/webhooks/${endpoint.id}/deliveries`]) {
      expect((await h.get(path, bobs)).body.error.code).toBe("webhook_not_found");
    }
    expect((await h.remove(`/webhooks/${endpoint.id}`, bobs)).status).toBe(404);
    expect((await h.remove(`/webhooks/${endpoint.id}`)).status).toBe(204);
    expect((await h.get(`/webhooks/${endpoint.id}`)).status).toBe(404);
    expect((await h.patch(`/webhooks/${endpoint.id}`, { status: "enabled" })).status).toBe(404);
  });

  test("bad input is reported by path, and the fifty-first endpoint is refused", async () => {
    const bad = await h.post("/webhooks", { url: hook("x"), eventTypes: ["call.*", "call.finished"] });
    expect(bad.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "eventTypes.1" }] });
    expect((await h.post("/webhooks", { url: "nonsense" })).body.error.code).toBe("input_invalid");
    expect((await h.post("/webhooks", { url: "ftp://example.com/" })).body.error.code).toBe("webhook_url_forbidden");
    const many = await Promise.all(
      Array.from({ length: 55 }, (_, i) =>
        h.post("/webhooks", { url: hook(`many${i}`), eventTypes: ["api_key.*"] }, bobs),
      ),
    );
    expect(many.filter(({ status }) => status === 201)).toHaveLength(50);
    expect(many.find(({ status }) => status !== 201)!.body.error).toMatchObject({
      code: "webhook_limit_reached",
      message: "A client can have 50 webhook endpoints. Delete one first.",
    });
    const [{ id }] = (await h.get("/webhooks?limit=1", bobs)).body.data;
    await h.remove(`/webhooks/${id}`, bobs);
    expect((await h.post("/webhooks", { url: hook("again") }, bobs)).status).toBe(201);
  });

  test("event types are listed", async () => {
    const { body } = await h.get("/webhooks/event-types");
    expect(body.data).toContainEqual({ type: "call.ended", description: expect.any(String) });
  });

  test("an event is delivered, and every attempt can be read", async () => {
    let tries = 0;
    receiver.answer("/door/live", (response) =>
      status(++tries === 1 ? 500 : 200)(response, { path: "", headers: {}, body: "" }),
    );
    const { id, secret } = (await h.post("/webhooks", { url: hook("live"), eventTypes: ["agent.created"] })).body.data;
    await h.post("/agents", agent);
    const delivery = await until(async () => (await h.get(`/webhooks/${id}/deliveries?status=delivered`)).body.data[0]);
    expect(delivery).toMatchObject({
      endpointId: id,
      eventType: "agent.created",
      attemptCount: 2,
      lastStatus: 200,
      nextAttemptAt: null,
    });
    const full = (await h.get(`/webhooks/deliveries/${delivery.id}`)).body.data;
    expect(full.attempts).toMatchObject([
      { attempt: 1, status: 500, response: "status 500" },
      { attempt: 2, status: 200 },
    ]);
    expect((await h.get(`/webhooks/deliveries/${delivery.id}`, bobs)).status).toBe(404);
    const [first, second] = receiver.at("/door/live");
    expect(second!.body).toBe(first!.body);
    const event = (await h.get("/events?type=agent.created")).body.data[0];
    expect(new Webhook(secret).verify(second!.body, second!.headers)).toEqual(event);
    expect((await h.get(`/webhooks/${id}/deliveries?status=dead`)).body.data).toEqual([]);
  });

  test("GET /events pages newest first, within one client", async () => {
    const first = await h.get("/events?limit=1");
    expect(first.body.meta.hasMore).toBe(true);
    const next = await h.get(`/events?limit=1&cursor=${first.body.meta.nextCursor}`);
    expect(next.body.data[0].id < first.body.data[0].id).toBe(true);
    expect((await h.get(`/events?limit=1&cursor=${first.body.meta.nextCursor}`, bobs)).body.error.code).toBe(
      "cursor_invalid",
    );
    const { data } = first.body;
    expect((await h.get(`/events?subjectId=${data[0].subject.id}`)).body.data).toContainEqual(data[0]);
    const foreign = await h.get(`/events?subjectId=${data[0].subject.id}`, bobs);
    expect(foreign).toMatchObject({ status: 404, body: { error: { code: "resource_not_found" } } });
  });
});

describe("a private address", async () => {
  const h = await startTestApp({ env: { ALLOW_PRIVATE_WEBHOOKS: "false" } });

  test.each([
    "https://10.0.0.1/",
    "http://example.com/",
    "https://[::1]/",
    "https://localhost/",
    "https://a:b@example.com/",
  ])("%s is refused on create and on change", async (url) => {
    expect((await h.post("/webhooks", { url })).body.error).toMatchObject({
      code: "webhook_url_forbidden",
      details: [{ path: "url" }],
    });
    const { id } = (await h.post("/webhooks", { url: "https://example.com/hook" })).body.data;
    expect((await h.patch(`/webhooks/${id}`, { url })).status).toBe(422);
    expect((await h.get(`/webhooks/${id}`)).body.data.url).toBe("https://example.com/hook");
  });
});

describe("tailing events", () => {
  test("does not skip an event that commits late", async () => {
    const t = await tenant();
    const key = { secret: Buffer.alloc(32), clientId: t.clientId, procedure: "events.list", filters: { order: "asc" } };
    const tail = (cursor?: string | null) =>
      t.asClient((tx) => listEvents(tx, { limit: 100, order: "asc", ...(cursor ? { cursor } : {}) }, key), {
        mode: "read",
      });
    const say = (name: string, said = () => {}, before: Promise<void> = Promise.resolve()) =>
      t.asClient(async (tx) => {
        const id = newId("agent");
        await emit(tx, "agent.created", id, { id, name, status: "active", version: 1 });
        said();
        await before;
      });
    // Transaction ids are shared by the whole server, so an open transaction of another test delays the tail.
    const tailWhenFull = async (names: string[], cursor?: string | null) => {
      await expect.poll(async () => (await tail(cursor)).items.length, { timeout: 20_000 }).toBe(names.length);
      const page = await tail(cursor);
      expect(page.items.map(({ data }) => data.name)).toEqual(names);
      return page;
    };
    const nothing = await tail();
    expect(nothing).toEqual({ items: [], hasMore: false, nextCursor: expect.any(String) });
    await say("first");
    await tailWhenFull(["first"], nothing.nextCursor);
    const start = await tailWhenFull(["first"]);
    expect(start).toMatchObject({ hasMore: false, nextCursor: expect.any(String) });

    const said = Promise.withResolvers<void>();
    const commit = Promise.withResolvers<void>();
    const slow = say("slow", said.resolve, commit.promise);
    await said.promise;
    await say("quick");
    const between = await tail(start.nextCursor);
    expect(between.items).toEqual([]);
    commit.resolve();
    await slow;
    const after = await tailWhenFull(["slow", "quick"], between.nextCursor);
    expect((await tail(after.nextCursor)).items).toEqual([]);
  });

  test("for a client without events starts before transactions that are still open", async () => {
    const t = await tenant();
    const key = { secret: Buffer.alloc(32), clientId: t.clientId, procedure: "events.list", filters: { order: "asc" } };
    const tail = (cursor?: string) =>
      t.asClient((tx) => listEvents(tx, { limit: 100, order: "asc", ...(cursor ? { cursor } : {}) }, key), {
        mode: "read",
      });
    const [said, commit] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const late = t.asClient(async (tx) => {
      const id = newId("agent");
      await emit(tx, "agent.created", id, { id, name: "late", status: "active", version: 1 });
      said.resolve();
      await commit.promise;
    });
    await said.promise;
    const { items, nextCursor } = await tail();
    expect({ items, nextCursor }).toEqual({ items: [], nextCursor: expect.any(String) });
    commit.resolve();
    await late;
    const seen = async () => (await tail(nextCursor!)).items.map(({ data }) => data.name);
    await expect.poll(seen, { timeout: 20_000 }).toEqual(["late"]);
  });
});

test("an unknown delivery is not found", async () => {
  const t = await tenant();
  await expect(t.asClient((tx) => getDelivery(tx, newId("delivery")))).rejects.toMatchObject({
    errorCode: "delivery_not_found",
  });
});
