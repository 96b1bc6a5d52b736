import { sql } from "drizzle-orm";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { ConnectionLost } from "../../db/client.ts";
import { idFloor, newId } from "../../db/ids.ts";
import { expireDeliveries } from "../../jobs/maintenance.ts";
import { createBatcher } from "../../jobs/runtime/batcher.ts";
import { recordAttempts } from "../../routers/webhooks/deliveries/record-attempts.ts";
import { getEndpoint } from "../../routers/webhooks/endpoints/service.ts";
import { newSecret } from "../../routers/webhooks/endpoints/signature.ts";
import { openDeliveryGround, status, type Tenant } from "../support/deliveries.ts";

const ground = await openDeliveryGround();
const { db, owner, vault, receiver, tenant } = ground;
afterEach(async () => {
  receiver.forget();
  await owner`delete from delivery_pauses`;
});
afterAll(() => ground.close());

const endpointRow = async (id: string) => (await owner`select * from webhook_endpoints where id = ${id}`)[0]!;
const bodies = (t: Tenant, name: string) => receiver.at(t.path(name)).map(({ body }) => JSON.parse(body));

describe("endpoint settings", () => {
  test("a thin payload contains the type and subject, without data", async () => {
    const t = await tenant();
    const { id, secret } = await t.endpoint("thin");
    await t.endpoint("full");
    await owner`update webhook_endpoints set payload = 'thin' where id = ${id}`;
    await t.say();
    await t.work();
    const [thin] = bodies(t, "thin");
    const { data, ...bare } = bodies(t, "full")[0];
    expect(data).toMatchObject({ status: "active" });
    expect(thin).toEqual(bare);
    const [heard] = receiver.at(t.path("thin"));
    expect(new Webhook(secret).verify(heard!.body, heard!.headers)).toEqual(bare);
  });

  test("own headers are sent, and cannot replace ours", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("a");
    const ring = await vault.keys(t.clientId, "webhook_secret");
    const sealed = ring.seal(
      JSON.stringify({ Authorization: "Bearer theirs-and-secret", "X-Tenant": "42" }),
      `${id}:headers`,
    );
    await owner`update webhook_endpoints set headers = ${sealed} where id = ${id}`;
    receiver.answer(t.path("a"), (response, { headers }) => response.end(`you sent ${headers.authorization}`));
    await t.say();
    await t.work();
    const [heard] = receiver.at(t.path("a"));
    const [attempt] = await t.attempts();
    expect(attempt!.response).toMatch(/^you sent /);
    expect(attempt!.response, "who reads the attempt need not know it").not.toContain("theirs-and-secret");
    expect(heard!.headers).toMatchObject({
      authorization: "Bearer theirs-and-secret",
      "x-tenant": "42",
      "content-type": "application/json",
      "user-agent": "Patchbay-Webhooks/1.0",
    });
  });

  test("a replaced secret signs beside the new one until its overlap ends", async () => {
    const t = await tenant();
    const { id, secret: old } = await t.endpoint("a");
    const ring = await vault.keys(t.clientId, "webhook_secret");
    const { secret: fresh } = newSecret();
    const { secret: past } = newSecret();
    const sealedBefore = (await endpointRow(id)).secret as Buffer;
    const previous = [
      { sealed: sealedBefore.toString("base64"), until: new Date(Date.now() + 60_000).toISOString() },
      { sealed: ring.seal(past, id).toString("base64"), until: new Date(Date.now() - 1_000).toISOString() },
    ];
    await owner`update webhook_endpoints set secret = ${ring.seal(fresh, id)},
      previous_secrets = ${owner.json(previous)} where id = ${id}`;
    await t.say();
    await t.work();
    const [heard] = receiver.at(t.path("a"));
    expect(heard!.headers["webhook-signature"]!.split(" ")).toHaveLength(2);
    for (const good of [old, fresh]) expect(new Webhook(good).verify(heard!.body, heard!.headers)).toBeTruthy();
    expect(() => new Webhook(past).verify(heard!.body, heard!.headers)).toThrow();
  });

  test("attempts start no faster than the rate limit, and other endpoints do not wait", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("slow");
    await t.endpoint("free");
    await owner`update webhook_endpoints set rate_per_second = 5 where id = ${id}`;
    await t.say(20);
    await t.fanOut();
    await t.sweep();
    const planned = await owner<{ run_at: Date }[]>`
      select j.run_at from graphile_worker._private_jobs j join deliveries d on d.id = j.payload->'body'->>'deliveryId'
      where d.endpoint_id = ${id} order by j.run_at`;
    // Two seconds of attempts, until the sweep after the next, a fifth of a second apart.
    expect(planned.length).toBeGreaterThan(5);
    expect(planned.length).toBeLessThanOrEqual(10);
    for (let n = 1; n < planned.length; n++) {
      expect(planned[n]!.run_at.getTime() - planned[n - 1]!.run_at.getTime()).toBeGreaterThanOrEqual(199);
    }
    const before = (await endpointRow(id)).rate_due_at as Date;
    expect(before.getTime() - planned.at(-1)!.run_at.getTime()).toBeGreaterThanOrEqual(199);
    await t.sweep(); // the next sweep continues where this one ended
    const [again] =
      await owner`select count(*)::int as n from deliveries where endpoint_id = ${id} and admitted_until is not null`;
    expect(again!.n).toBeLessThanOrEqual(10);
  });

  test("attempts that the queue delays and then starts together also respect the rate limit", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("slow");
    await owner`update webhook_endpoints set rate_per_second = 20 where id = ${id}`;
    const startedAt: number[] = [];
    receiver.answer(t.path("slow"), (response) => {
      startedAt.push(performance.now());
      response.end("ok");
    });
    await t.say(10);
    const heap: Awaited<ReturnType<typeof t.take>> = [];
    await t.fanOut();
    while (heap.length < 10) heap.push(...(await t.take(50)));
    await Promise.all(heap.map(t.run));
    expect(startedAt).toHaveLength(10);
    expect(startedAt.at(-1)! - startedAt[0]!).toBeGreaterThan(9 * 50 - 100);
  });
});

describe("an endpoint that fails", () => {
  test("is disabled after a hundred consecutive failures, with an event to the others and an alert to the operator", async () => {
    const t = await tenant();
    const { id, url } = await t.endpoint("bad");
    await t.endpoint("good", ["webhook.*"]);
    receiver.answer(t.path("bad"), status(500));
    await owner`update webhook_endpoints set consecutive_failures = 98, failing_since = now() - interval '1 hour' where id = ${id}`;
    await t.say(1);
    await t.work();
    expect(await endpointRow(id)).toMatchObject({ status: "enabled", consecutive_failures: 99 });
    // Its retry must not fail together with the next event.
    await owner`update deliveries set next_attempt_at = now() + interval '1 hour'
      where client_id = ${t.clientId} and status = 'pending'`;
    await t.say(1);
    await t.work();
    const reason = "100 consecutive attempts failed.";
    expect(await endpointRow(id)).toMatchObject({
      status: "disabled",
      disabled_code: "failures",
      consecutive_failures: 100,
    });
    expect(bodies(t, "good").map(({ data }) => data)).toEqual([{ id, url, reason, code: "failures" }]);
    expect(await t.asClient((tx) => getEndpoint(tx, id))).toMatchObject({
      disabledReason: reason,
      disabledCode: "failures",
    });
  });

  test("is disabled when all attempts of five days failed", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("bad");
    receiver.answer(t.path("bad"), status(500));
    await owner`update webhook_endpoints set consecutive_failures = 7, failing_since = now() - interval '4 days 23 hours' where id = ${id}`;
    await t.say(1);
    await t.work();
    expect((await endpointRow(id)).status).toBe("enabled");
    await owner`update webhook_endpoints set failing_since = now() - interval '5 days 1 minute' where id = ${id}`;
    await t.say(1);
    await t.work();
    expect(await endpointRow(id)).toMatchObject({
      status: "disabled",
      disabled_code: "days",
    });
    expect(await t.asClient((tx) => getEndpoint(tx, id))).toMatchObject({ disabledCode: "days" });
  });

  test("recovers with one success, in any order within a batch", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("a");
    const answer = (code: number) => ({
      attempt: { status: code, error: null, latencyMs: 1, response: null },
      outcome: code === 200 ? { status: "delivered" as const } : { status: "pending" as const, inSeconds: 60 },
    });
    await t.say(3);
    await t.fanOut();
    const reservations = (await t.rows()).map((row) => ({
      clientId: t.clientId,
      endpointId: id,
      deliveryId: row.id,
      claim: 1,
    }));
    await owner`update webhook_endpoints set consecutive_failures = 99, failing_since = now() - interval '6 days' where id = ${id}`;
    const results = [500, 200, 500].map((code, n) => ({ ...reservations[n]!, ...answer(code) }));
    expect(await db.asSystem((tx) => recordAttempts(tx, results))).toEqual([true, true, true]);
    const row = await endpointRow(id);
    expect(row).toMatchObject({ status: "enabled", consecutive_failures: 1 });
    expect(Date.now() - row.failing_since.getTime()).toBeLessThan(60_000);
    const [job] = await owner`select count(*)::int as n from graphile_worker._private_jobs j
      join graphile_worker._private_tasks k on k.id = j.task_id where k.identifier = 'webhooks.disable' and payload->>'clientId' = ${t.clientId}`;
    expect(job!.n).toBe(0);
  });

  test("has few slots while it fails, and all slots after one success", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("a");
    await owner`update webhook_endpoints set consecutive_failures = 5, failing_since = now() where id = ${id}`;
    await t.say(30);
    await t.fanOut();
    expect(await t.inFlight()).toMatchObject({ all: 2 });
    await owner`update webhook_endpoints set consecutive_failures = 0, failing_since = null where id = ${id}`;
    await t.sweep();
    expect(await t.inFlight()).toMatchObject({ all: 10 });
  });

  test("stays enabled if it recovers between the last failure and the disabling job", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("a");
    receiver.answer(t.path("a"), status(500));
    await owner`update webhook_endpoints set consecutive_failures = 99, failing_since = now() where id = ${id}`;
    await t.say(1);
    await t.fanOut();
    for (const job of await t.take(1)) await t.run(job);
    const [job] = await t.take(1);
    expect(job!.task).toBe("webhooks.disable");
    await owner`update webhook_endpoints set consecutive_failures = 0, failing_since = null where id = ${id}`;
    await t.run(job!);
    expect((await endpointRow(id)).status).toBe("enabled");
  });
});

describe("paused deliveries", () => {
  test.each(["all", "client", "endpoint"] as const)("wait, by %s, and are sent after the pause", async (scope) => {
    const t = await tenant();
    const { id } = await t.endpoint("held");
    await t.endpoint("other");
    const other = await tenant();
    await other.endpoint("theirs");
    const named = { all: "all", client: t.clientId, endpoint: id }[scope];
    await owner`insert into delivery_pauses (scope, reason, paused_by) values (${named}, 'maintenance', 'operator:test')`;
    await t.say(3);
    await other.say(1);
    await t.work();
    await other.work();
    await t.sweep();
    await t.work();
    expect(receiver.at(t.path("held"))).toHaveLength(0);
    expect(receiver.at(t.path("other"))).toHaveLength(scope === "endpoint" ? 3 : 0);
    expect(receiver.at(other.path("theirs"))).toHaveLength(scope === "all" ? 0 : 1);
    expect(await t.inFlight()).toMatchObject({ all: 0 });
    await owner`delete from delivery_pauses`;
    await t.sweep();
    await t.work();
    expect(receiver.at(t.path("held"))).toHaveLength(3);
  });

  test("a slot freed during a pause of all is not given away", async () => {
    const t = await tenant();
    await t.endpoint("a");
    await t.say(15);
    await t.fanOut();
    await owner`insert into delivery_pauses (scope, reason, paused_by) values ('all', 'drain', 'operator:test')`;
    await t.sweep();
    await t.work();
    const delivered = (await t.rows()).filter(({ status }) => status === "delivered").length;
    expect(await t.inFlight()).toMatchObject({ all: 0 });
    expect(delivered).toBeLessThan(15);
  });
});

test("a redelivered delivery has a full schedule, and its attempts keep counting", async () => {
  const t = await tenant();
  await t.endpoint("a");
  receiver.answer(t.path("a"), status(500));
  await t.say();
  await t.work();
  await owner`update deliveries set attempts = 10, schedule_from = 10, next_attempt_at = now() where client_id = ${t.clientId}`;
  await t.sweep();
  await t.work();
  const row = await t.row();
  expect(row).toMatchObject({ status: "pending", attempts: 11 });
  expect((await t.attempts()).map(({ attempt }) => attempt)).toEqual([1, 11]);
  const [wait] =
    await owner`select extract(epoch from next_attempt_at - now())::float8 as seconds from deliveries where id = ${row.id}`;
  expect(wait!.seconds).toBeLessThanOrEqual(5);
});

test("a receiver that responded gets no second request because the database was briefly unavailable", async () => {
  const t = await tenant();
  await t.endpoint("a");
  await t.say(1);
  await t.fanOut();
  const [job] = await t.take(1);
  let losses = 3;
  const asSystem: typeof t.ctx.asSystem = (work, options) => {
    if (options?.mode !== "read" && losses-- > 0) return Promise.reject(new ConnectionLost());
    return t.ctx.asSystem(work, options);
  };
  await t.deliver.run(job!.payload.body, { ...t.ctx, fence: { check() {} }, asSystem });
  expect(receiver.at(t.path("a"))).toHaveLength(1);
  expect(await t.row()).toMatchObject({ status: "delivered", attempts: 1 });
  expect(losses).toBeLessThanOrEqual(0);
});

describe("batches", () => {
  test("results of several clients are written in one commit, each to the rows of its client, without stale ones", async () => {
    const [ada, bob] = [await tenant(), await tenant()];
    const held = [];
    for (const t of [ada, bob]) {
      await t.endpoint("a");
      await t.say(2);
      await t.fanOut();
      for (const row of await t.rows())
        held.push({ clientId: t.clientId, endpointId: row.endpoint_id, deliveryId: row.id, claim: 1 });
    }
    const said = (text: string) => ({
      attempt: { status: 200, error: null, latencyMs: 1, response: text },
      outcome: { status: "delivered" as const },
    });
    const results = [
      { ...held[0]!, ...said("ada 1") },
      { ...held[1]!, claim: 7, ...said("of a claim long gone") },
      { ...held[2]!, clientId: ada.clientId, ...said("a row of Bob's under Ada's name") },
      { ...held[3]!, ...said("bob 2") },
    ];
    expect(await db.asSystem((tx) => recordAttempts(tx, results))).toEqual([true, false, false, true]);
    const written = await owner`select client_id, delivery_id, response from delivery_attempts
      where client_id in (${ada.clientId}, ${bob.clientId}) order by response`;
    expect([...written]).toEqual([
      { client_id: ada.clientId, delivery_id: held[0]!.deliveryId, response: "ada 1" },
      { client_id: bob.clientId, delivery_id: held[3]!.deliveryId, response: "bob 2" },
    ]);
    const statuses = [...(await ada.rows()), ...(await bob.rows())].map(({ status }) => status);
    expect(statuses).toEqual(["delivered", "pending", "pending", "delivered"]);
  });

  test("a result that the database rejects does not fail the others in its batch", async () => {
    const seen: number[] = [];
    const divide = createBatcher({
      ...{ waitMs: 1, maxItems: 50, maxBatches: 1 },
      work: (batch: number[]) =>
        db.asSystem(async (tx) => {
          const rows = await tx.execute<{ n: number }>(
            sql`select 12 / one::int as n from unnest(string_to_array(${batch.join(",")}::text, ',')) one`,
          );
          seen.push(...batch);
          return rows.map(({ n }) => n);
        }),
    });
    const asked = [1, 2, 3, 0, 4, 6, 12].map((one) => divide(one).catch((error: Error) => error));
    const answers = await Promise.all(asked);
    expect(answers.filter((one) => typeof one === "number")).toEqual([12, 6, 4, 3, 2, 1]);
    expect(answers[3]).toBeInstanceOf(Error);
    expect(seen.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 6, 12]);
  });

  test("when the database is unavailable every item of a batch fails immediately", async () => {
    let tries = 0;
    const ask = createBatcher({
      ...{ waitMs: 1, maxItems: 50, maxBatches: 1 },
      work: async () => {
        tries++;
        throw Object.assign(new Error("connection refused"), { code: "ECONNREFUSED" });
      },
    });
    const heard = await Promise.all([1, 2, 3].map((one) => ask(one).catch((error: Error) => error.message)));
    expect(heard).toEqual(Array.from({ length: 3 }, () => "connection refused"));
    expect(tries).toBe(1);
  });

  test("deleting an endpoint while its deliveries are recorded in batches causes no deadlock", async () => {
    const t = await tenant();
    const names = Array.from({ length: 4 }, (_, n) => `e${n}`);
    const made = [];
    for (const name of names) made.push(await t.endpoint(name));
    for (const name of names) receiver.answer(t.path(name), status(500));
    await t.say(30);
    const working = t.work(40);
    const isUnderWay = () => names.every((name) => receiver.at(t.path(name)).length > 0);
    await expect.poll(isUnderWay, { interval: 5, timeout: 20_000 }).toBe(true);
    const { removeEndpoint } = await import("../../routers/webhooks/endpoints/service.ts");
    for (const { id } of made) await t.asClient((tx) => removeEndpoint(tx, id));
    await working;
    const rows = await t.rows();
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.filter(({ status }) => status !== "dead")).toEqual([]);
  });
});

test("deliveries and replays are deleted with their attempts after retention, without those that still wait", async () => {
  const t = await tenant();
  const { id: endpointId } = await t.endpoint("a");
  const old = new Date(Date.now() - 120 * 24 * 3_600_000);
  const idOf = (kind: "delivery" | "replay", at: Date) => `${idFloor(kind, at).slice(0, -16)}${newId(kind).slice(-16)}`;
  const replayed = async (status: string, at: Date) => {
    const id = idOf("replay", at);
    await owner`insert into webhook_replays (client_id, id, endpoint_id, which, created_after, created_before, status, created_at)
      values (${t.clientId}, ${id}, ${endpointId}, 'dead', ${at}, ${at}, ${status}, ${at})`;
    return id;
  };
  const made = async (status: string, at: Date) => {
    const id = idOf("delivery", at);
    await owner`insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status, created_at)
      values (${t.clientId}, ${id}, ${endpointId}, ${newId("event")}, 'call.ended', ${at}, ${status}, ${at})`;
    return id;
  };
  const gone = [await made("delivered", old), await made("dead", old)];
  const kept = [await made("pending", old), await made("delivered", new Date())];
  await replayed("completed", old);
  const keptReplays = [await replayed("running", old), await replayed("cancelled", new Date())];
  await expireDeliveries.run({}, t.ctx);
  const replays = await owner`select id from webhook_replays where client_id = ${t.clientId}`;
  expect(replays.map(({ id }) => id).toSorted()).toEqual(keptReplays.toSorted());
  const left = (await t.rows()).map(({ id }) => id);
  expect(left.toSorted()).toEqual(kept.toSorted());
  expect(left).not.toContain(gone[0]);
});
