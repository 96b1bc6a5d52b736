import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { afterAll, expect, test } from "vitest";
import { seedClient } from "../../dev/seed.ts";
import { sweepDeliveries } from "../../jobs/webhooks.ts";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";

const received: string[] = [];
const receiver = createServer((request, response) => {
  received.push(String(request.url));
  request.resume();
  response.writeHead(204).end();
});
await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
afterAll(() => receiver.close());
const h = await startTestApp();
const url = (path: string) => `http://127.0.0.1:${(receiver.address() as AddressInfo).port}${path}`;

test("deliveries of a suspended client wait without using attempts, while others are sent; after resuming they are sent too", async () => {
  for (const [who, path] of [
    [h.ada, "/ada"],
    [h.bob, "/bob"],
  ] as const) {
    await h.post("/webhooks", { url: url(path), eventTypes: ["api_key.*"] }, { key: who.key });
    await h.post("/auth/api-keys", { name: "said", scopes: ["agents:read"] }, { key: who.key });
  }
  const operator = { key: await h.operator() };
  await h.post(`/admin/clients/${h.ada.clientId}/suspend`, { reason: "The invoice is open." }, operator);

  const workers = await openWorkers(h.deps);
  try {
    await until(async () => received.includes("/bob"));
    const waiting = await until(async () => {
      const rows = await h.owner`select attempts, admitted_until from deliveries where client_id = ${h.ada.clientId}`;
      return rows.length > 0 && rows;
    });
    expect(waiting.map((row) => ({ ...row }))).toEqual(waiting.map(() => ({ attempts: 0, admitted_until: null })));
    expect(received).not.toContain("/ada");
    const [attempts] =
      await h.owner`select count(*)::int as n from delivery_attempts where client_id = ${h.ada.clientId}`;
    expect(attempts!.n).toBe(0);

    await h.post(`/admin/clients/${h.ada.clientId}/resume`, {}, operator);
    await until(async () => received.includes("/ada"));
    expect(received.filter((path) => path === "/ada")).toHaveLength(1);
  } finally {
    await workers.stop();
  }
});

const events = 10;

/** An endpoint with this many due deliveries, held by a pause; no worker runs. */
async function withDueDeliveries(name: string) {
  const { clientId, key } = await seedClient(h.deps, { name, subject: `auth0|${name}`, credits: 10 });
  const path = `/${name}`;
  const { body } = await h.post("/webhooks", { url: url(path), eventTypes: ["api_key.*"] }, { key });
  const operator = { key: await h.operator() };
  await h.send("PUT", `/admin/deliveries/pauses/${body.data.id}`, { reason: "The client requested it." }, operator);
  for (let n = 0; n < events; n++)
    await h.post("/auth/api-keys", { name: `said ${n}`, scopes: ["agents:read"] }, { key });
  const deliveries = () =>
    h.owner`select status, attempts, claim::int, admitted_until from deliveries where client_id = ${clientId}`;
  const workers = await openWorkers(h.deps);
  try {
    await until(async () => (await deliveries()).length === events);
  } finally {
    await workers.stop();
  }
  return {
    deliveries,
    received: () => received.filter((each) => each === path).length,
    /** The deliveries in the jobs. */
    jobs: () => h.owner`select one from graphile_worker._private_jobs j
      cross join lateral json_array_elements(j.payload #> '{body,deliveries}') one
      where j.payload->>'clientId' = ${clientId}`,
    goOn: () => h.remove(`/admin/deliveries/pauses/${body.data.id}`, operator),
    suspend: () => h.post(`/admin/clients/${clientId}/suspend`, { reason: "The invoice is open." }, operator),
    resume: () => h.post(`/admin/clients/${clientId}/resume`, {}, operator),
  };
}

test("due deliveries of a suspended client take no slot and no job, while others are sent; after resuming they are sent within seconds", async () => {
  const [carla, dan] = [await withDueDeliveries("carla"), await withDueDeliveries("dan")];
  await carla.suspend();
  await carla.goOn();
  await dan.goOn();
  const workers = await openWorkers(h.deps);
  try {
    await until(async () => dan.received() === events); // one sweep handles both
    expect(await carla.jobs()).toHaveLength(0);
    const waiting = { status: "pending", attempts: 0, claim: 0, admitted_until: null };
    expect(await carla.deliveries()).toEqual(Array.from({ length: events }, () => waiting));
    expect(carla.received()).toBe(0);

    await carla.resume();
    await until(async () => carla.received() === events, 15);
    await until(async () => (await carla.deliveries()).every(({ status }) => status === "delivered"));
    expect(carla.received()).toBe(events);
  } finally {
    await workers.stop();
  }
});

test("a delivery that had a slot when its client was suspended releases it: it has one job at most and uses no attempt", async () => {
  const eli = await withDueDeliveries("eli");
  await eli.goOn();
  await sweepDeliveries({ db: h.deps.db, log: pino({ level: "silent" }) });
  expect(await eli.jobs()).toHaveLength(events);
  await eli.suspend();
  const workers = await openWorkers(h.deps);
  try {
    await until(async () => {
      const places = await eli.deliveries();
      expect((await eli.jobs()).length).toBeLessThanOrEqual(events);
      return places.every(({ admitted_until }) => admitted_until === null) && (await eli.jobs()).length === 0;
    }, 15);
    for (const delivery of await eli.deliveries()) expect(delivery).toMatchObject({ status: "pending", attempts: 0 });
    expect(eli.received()).toBe(0);

    await eli.resume();
    await until(async () => eli.received() === events, 15);
    await until(async () => (await eli.deliveries()).every(({ status }) => status === "delivered"));
    expect(eli.received()).toBe(events);
  } finally {
    await workers.stop();
  }
});

test("a job of a suspended client whose slot was given away ends without affecting the new holder", async () => {
  const finn = await withDueDeliveries("finn");
  await finn.goOn();
  await sweepDeliveries({ db: h.deps.db, log: pino({ level: "silent" }) });
  await finn.suspend();
  await h.owner`update deliveries set claim = claim + 1 where admitted_until is not null`; // as after an expired lease
  const workers = await openWorkers(h.deps);
  try {
    await until(async () => (await finn.jobs()).length === 0, 15);
    for (const { admitted_until } of await finn.deliveries()) expect(admitted_until).not.toBeNull();
  } finally {
    await workers.stop();
  }
});
