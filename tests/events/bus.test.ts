import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeEach, expect, test } from "vitest";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { type BusEvent, startEventBridge } from "../../dev/simulators/eventbridge.ts";
import type { Event } from "../../routers/events/schema.ts";
import { eventBridge } from "../../server/adapters/event-bus-eventbridge.ts";
import { readEnv } from "../../server/env.ts";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";

process.env.AWS_ACCESS_KEY_ID = "stand-in";
process.env.AWS_SECRET_ACCESS_KEY = "stand-in";

const bridge = await startEventBridge();
afterAll(() => bridge.close());
const log: string[] = [];
const env = { EVENT_BUS_NAME: "patchbay-test", EVENT_BUS_REGION: "us-east-1", EVENT_BUS_ENDPOINT: bridge.url };
const h = await startTestApp({ env, log });
// Generous timeouts: a response that is late on a busy machine must not count as a failure and be retried.
const patient = eventBridge({
  ...{ name: "patchbay-test", region: "us-east-1", source: "patchbay", endpoint: bridge.url },
  requestTimeoutMs: 60_000,
});
h.deps.providers.bus = patient;
afterAll(() => patient.close());
const workers = await openWorkers(h.deps);
afterAll(() => workers.stop());
const { ada, bob } = h;
await until(async () => position());

beforeEach(async () => {
  bridge.recover();
  await hurry();
  await until(idle, 40);
  bridge.calls.length = 0;
  bridge.accepted.length = 0;
});

async function position() {
  const [row] = await h.owner`select * from bus_positions where bus = 'patchbay-test'`;
  return row;
}

/** A bus that failed is not called for a while. */
const hurry = () => h.owner`update bus_positions set free_at = clock_timestamp() where holder is null`;

/** Whether every event has been sent. */
async function idle() {
  const [row] =
    await h.owner`select not exists (select from events e where (e.position, e.sequence, e.id) > (p.position, p.sequence, p.event_id)) as idle
    from bus_positions p where failures = 0 and holder is null`;
  return row?.idle as boolean | undefined;
}

type TestEvent = { name: string; who?: typeof ada; id?: string };

/** Emits agent.created events in one transaction, which stays open while `before` runs. */
function emitCreated(testEvents: TestEvent[], { who = ada, before = async (_: Tx) => {} } = {}) {
  return h.deps.db.asClient({ clientId: who.clientId }, async (tx) => {
    for (const { name, id = newId("agent") } of testEvents) {
      await emit(tx, "agent.created", id, { id, name, status: "active", version: 1 });
    }
    await before(tx);
  });
}

const someEvents = (count: number, prefix = "n") =>
  Array.from({ length: count }, (_, n) => ({ name: `${prefix}${n}` }));
const detailOf = ({ Detail }: BusEvent) => JSON.parse(Detail) as Event & { truncated?: true };
const nameOf = (entry: BusEvent) => detailOf(entry).data.name as string;
const names = () => bridge.accepted.map(nameOf);
const sentNames = (count: number) => until(async () => names().length >= count && names(), 40);

test("the bus receives the events of all clients, as GET /events returns them", async () => {
  await emitCreated([{ name: "of ada" }]);
  await emitCreated([{ name: "of bob" }], { who: bob });
  expect(await sentNames(2)).toEqual(["of ada", "of bob"]);
  const [event] = (await h.get("/events?limit=1")).body.data;
  const [entry] = bridge.accepted;
  expect(entry).toMatchObject({ Source: "patchbay", DetailType: "agent.created", EventBusName: "patchbay-test" });
  expect(detailOf(entry!)).toEqual(event);
  expect(Math.abs(entry!.Time * 1000 - Date.parse(event.createdAt))).toBeLessThan(1000); // AWS uses seconds
  expect(bridge.accepted.map(detailOf).map(({ clientId }) => clientId)).toEqual([ada.clientId, bob.clientId]);
});

test("one call sends ten events", async () => {
  await emitCreated(someEvents(25));
  await sentNames(25);
  expect(bridge.calls.map(({ entries }) => entries.length)).toEqual([10, 10, 5]);
});

test("only the failed entries of a call are sent again", async () => {
  const failures = new Map([
    ["n2", 1],
    ["n7", 2],
  ]);
  bridge.judge((entry) => {
    const left = failures.get(nameOf(entry)) ?? 0;
    failures.set(nameOf(entry), left - 1);
    return left > 0 ? "ThrottlingException" : null;
  });
  await emitCreated(someEvents(10));
  await sentNames(10);
  expect(bridge.calls.map(({ entries }) => entries.map(nameOf))).toEqual([
    someEvents(10).map(({ name }) => name),
    ["n2", "n7"],
    ["n7"],
  ]);
});

test("an event is not sent before the earlier event of its subject is accepted", async () => {
  const id = newId("agent");
  let refusals = 3;
  bridge.judge((entry) => (nameOf(entry) === "first" && refusals-- > 0 ? "InternalFailure" : null));
  await emitCreated([{ name: "first", id }, { name: "other" }, { name: "second", id }, { name: "third", id }]);
  await sentNames(4);
  const ofSubject = bridge.accepted.map(detailOf).filter(({ subject }) => subject.id === id);
  expect(ofSubject.map(({ subject }) => subject.sequence)).toEqual([1, 2, 3]);
  expect(names()[0]).toBe("other");
});

test("events for a throttling or unavailable bus are sent later, without loss, duplicates or reordering", async () => {
  bridge.fail("ThrottlingException", 3);
  await emitCreated(someEvents(3, "throttled"));
  expect(await sentNames(3)).toEqual(["throttled0", "throttled1", "throttled2"]);

  bridge.fail("AccessDeniedException", Number.POSITIVE_INFINITY);
  const before = await until(async () => (await idle()) && (await position()));
  const id = newId("agent");
  await emitCreated([{ name: "one", id }]);
  await emitCreated([{ name: "two", id }]);
  const failing = await until(async () => {
    const row = await position();
    return row?.failing_since && row;
  });
  expect(failing).toMatchObject({ position: before.position, event_id: before.event_id });
  expect(failing.error).toContain("AccessDeniedException");
  await emitCreated([{ name: "three", id }]);
  bridge.recover();
  await hurry();
  expect((await sentNames(6)).slice(3)).toEqual(["one", "two", "three"]);
  expect(await until(async () => (await idle()) && (await position()))).toMatchObject({
    failing_since: null,
    error: null,
  });
});

test("an event too large for the bus is sent without its data, and a call stays within the size limit of the bus", async () => {
  const large = (name: string, kilobytes: number) => ({ name: `${name} ${"é".repeat(kilobytes * 512)}` });
  await emitCreated([large("too large", 257), large("half", 130), large("half", 130), { name: "small" }]);
  await until(async () => bridge.accepted.length >= 4);
  expect(
    bridge.calls.map(({ entries, answered }) => [entries.length, answered.includes("ValidationException")]),
  ).toEqual([
    [2, false],
    [2, false],
  ]);
  const [thin, ...full] = bridge.accepted.map(detailOf);
  expect(thin).toMatchObject({ type: "agent.created", truncated: true, subject: { sequence: 1 } });
  expect(thin).not.toHaveProperty("data");
  for (const detail of full) expect(detail).not.toHaveProperty("truncated");
});

test("a finally refused entry is stored for inspection, and the others continue", async () => {
  const id = newId("agent");
  bridge.judge((entry) => (nameOf(entry) === "bad" ? "MalformedDetail" : null));
  await emitCreated([{ name: "bad", id }, { name: "good" }, { name: "after", id }]);
  expect(await sentNames(2)).toEqual(["good", "after"]);
  await until(idle);
  const deadJobs = await h.owner`select client_id, payload, error from dead_jobs where task = 'bus.publish'`;
  expect(deadJobs).toEqual([
    {
      client_id: ada.clientId,
      payload: expect.objectContaining({ bus: "patchbay-test", type: "agent.created", eventId: expect.any(String) }),
      error: expect.stringContaining("MalformedDetail"),
    },
  ]);
  expect(log.some((line) => line.includes('"alert":true') && line.includes("event refused by the bus"))).toBe(true);
});

test("a call refused as a whole is split, so that one bad entry does not block others", async () => {
  await h.owner`delete from dead_jobs`;
  bridge.fail("ValidationException", 1);
  await emitCreated(someEvents(4));
  expect(await sentNames(4)).toEqual(["n0", "n1", "n2", "n3"]);
  expect(bridge.calls.map(({ entries }) => entries.length)).toEqual([4, 1, 1, 1, 1]);
  await until(idle, 40);
  expect(await h.owner`select from dead_jobs`).toEqual([]);
});

test("several workers send each event once, in order", async () => {
  const others = await Promise.all([openWorkers(h.deps), openWorkers(h.deps)]);
  try {
    bridge.delay(100); // so that the others run while one is sending
    const id = newId("agent");
    for (let round = 0; round < 20; round++) {
      await emitCreated([...someEvents(10, `r${round}-`), { name: `subject ${round}`, id }]);
    }
    await sentNames(220);
    await until(idle);
    expect(new Set(names()).size).toBe(names().length);
    const ofSubject = bridge.accepted.map(detailOf).filter(({ subject }) => subject.id === id);
    expect(ofSubject.map(({ subject }) => subject.sequence)).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
  } finally {
    await Promise.all(others.map((other) => other.stop()));
  }
});

test("a bus without a region is refused at startup", () => {
  expect(() => readEnv({ ...h.environment, EVENT_BUS_REGION: "" })).toThrow("EVENT_BUS_REGION is not set.");
  expect(() => readEnv({ ...h.environment, EVENT_BUS_SOURCE: "aws.events" })).toThrow("EVENT_BUS_SOURCE");
});

test("a transaction that commits late is not skipped", async () => {
  const begun = Promise.withResolvers<void>();
  const overtaken = Promise.withResolvers<void>();
  const slow = emitCreated([{ name: "slow" }], {
    before: async () => {
      begun.resolve();
      await overtaken.promise;
      await sleep(2_000); // time to send the other event
    },
  });
  await begun.promise;
  await emitCreated([{ name: "quick" }]);
  overtaken.resolve();
  await slow;
  expect(await sentNames(2)).toEqual(["slow", "quick"]);
});

test("a worker killed between the call and its record loses nothing: another worker sends the event again", async () => {
  await workers.stop();
  bridge.stopResponding();
  await emitCreated(someEvents(12, "k"));
  const child = spawn(process.execPath, program("server/worker.ts"), {
    env: { PATH: process.env.PATH, ...process.env, ...h.environment },
    stdio: "ignore",
  });
  try {
    await until(async () => bridge.accepted.length >= 10, 30);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  bridge.recover();
  const before = bridge.accepted.map(detailOf).map(({ id }) => id);
  const heirs = await openWorkers(h.deps);
  try {
    // The lease of the dead worker blocks the others until it expires.
    await sleep(1_500);
    expect(bridge.accepted).toHaveLength(before.length);
    await h.owner`update bus_positions set free_at = clock_timestamp()`;
    await until(async () => new Set(names()).size === 12 && (await idle()), 40);
  } finally {
    await heirs.stop();
  }
  const after = bridge.accepted.slice(before.length).map(detailOf);
  expect(after.map(({ data }) => data.name)).toEqual(someEvents(12, "k").map(({ name }) => name));
  expect(after.map(({ id }) => id).slice(0, before.length)).toEqual(before);
}, 90_000);
