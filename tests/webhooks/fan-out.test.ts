import { pino } from "pino";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { fanOutAll } from "../../jobs/fan-out.ts";
import { until } from "../support/app.ts";
import { type DeliveryGround, openDeliveryGround } from "../support/deliveries.ts";

let ground: DeliveryGround;
let lines: Record<string, unknown>[] = [];
const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
const { signal } = new AbortController();

beforeAll(async () => {
  ground = await openDeliveryGround();
});
beforeEach(() => {
  lines = [];
});
afterAll(() => ground.close());

const fanOut = () => fanOutAll({ db: ground.db, log, signal });
const waiting = (clientId: string) =>
  ground.owner`select event_id from event_fan_outs where client_id = ${clientId} order by event_id`;

test("an event without an enabled endpoint waits for no fan-out", async () => {
  const t = await ground.tenant();
  await t.say();
  expect(await waiting(t.clientId)).toHaveLength(0);
});

/** Statements that the fan-out runs, each stopped here while the process is killed. */
const points = {
  "before the deliveries are written": "before insert on deliveries",
  "after the deliveries are written": "after insert on deliveries",
  "before the event stops waiting": "before delete on event_fan_outs",
  "right before the commit": "after delete on event_fan_outs",
};

describe("a worker that is killed", () => {
  test.each(Object.entries(points))("%s loses no delivery and doubles none", async (_, event) => {
    const { owner } = ground;
    const t = await ground.tenant();
    await t.endpoint("a");
    await t.say(3);
    await owner.unsafe(`create function stop_here() returns trigger language plpgsql as
      'begin perform pg_advisory_xact_lock_shared(4711); return coalesce(new, old); end'`);
    await owner.unsafe(`create trigger stop_here ${event} for each row execute function stop_here()`);
    await owner`grant execute on function stop_here to public`;
    const gate = postgres(ground.database.url, { max: 1, onnotice: () => {} });
    await gate`select pg_advisory_lock(4711)`;
    const killed = fanOut().catch((error: Error) => error);
    await until(async () => {
      const ended = await owner`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'patchbay-system' and wait_event_type = 'Lock' and datname = current_database()`;
      return ended.length > 0;
    });
    expect(await killed).toBeInstanceOf(Error);
    expect(await t.rows()).toHaveLength(0);
    expect(await waiting(t.clientId)).toHaveLength(3);

    await gate.end();
    await owner.unsafe(`drop function stop_here cascade`);
    await t.work();
    expect(await waiting(t.clientId)).toHaveLength(0);
    expect(await t.rows()).toHaveLength(3);
    expect(ground.receiver.at(t.path("a"))).toHaveLength(3);
  });
});

test("several workers at a time write one delivery for each event and endpoint", async () => {
  const t = await ground.tenant();
  await t.endpoint("a");
  await t.endpoint("b");
  await t.say(120);
  await Promise.all([fanOut(), fanOut(), fanOut(), fanOut()]);
  await until(async () => (await waiting(t.clientId)).length === 0);
  expect(await t.rows()).toHaveLength(240);
});

test("the event of a quiet client does not wait behind the flood of another", async () => {
  const [noisy, quiet] = [await ground.tenant(), await ground.tenant()].toSorted((a, b) =>
    a.clientId < b.clientId ? -1 : 1,
  ) as [Awaited<ReturnType<DeliveryGround["tenant"]>>, Awaited<ReturnType<DeliveryGround["tenant"]>>];
  await noisy.endpoint("a");
  await quiet.endpoint("a");
  await noisy.say(1);
  const { owner } = ground;
  await owner`
    with made as (
      insert into events (client_id, id, type, subject_type, subject_id, sequence, data)
      select client_id, id || lpad(n::text, 5, '0'), type, subject_type, subject_id || n, 1, data
      from events, generate_series(1, 3000) n where client_id = ${noisy.clientId} and type = 'agent.created'
      returning client_id, id, created_at
    )
    insert into event_fan_outs (client_id, event_id, event_created_at) select * from made`;
  await quiet.say(1);
  const done = fanOut();
  await until(async () => (await quiet.rows()).length === 1);
  const left = (await waiting(noisy.clientId)).length;
  await done;
  expect(left).toBeGreaterThan(2_000);
  expect(await noisy.rows()).toHaveLength(3_001);
});

test("an event whose deliveries cannot be written is set apart, and the others go on", async () => {
  const { owner } = ground;
  const t = await ground.tenant();
  await t.endpoint("a");
  await t.say(5);
  const bad = (await waiting(t.clientId))[2]!.event_id as string;
  await owner.unsafe(`alter table deliveries add constraint unwritable check (event_id <> '${bad}')`);
  await fanOut();
  expect(await t.rows()).toHaveLength(4);
  expect((await waiting(t.clientId)).map(({ event_id }) => event_id)).toEqual([bad]);
  const [apart] = await owner`select loop, client_id, reason from set_apart where subject = ${bad}`;
  expect(apart).toMatchObject({ loop: "events.fanOut", client_id: t.clientId });
  expect(apart!.reason).toContain("unwritable");
  expect(lines).toMatchObject([{ alert: true, subject: bad, client_id: t.clientId }]);

  await owner`alter table deliveries drop constraint unwritable`;
  await t.say();
  await fanOut();
  expect(await t.rows()).toHaveLength(5); // it still waits for an operator
  await owner`delete from set_apart where subject = ${bad}`;
  await fanOut();
  expect(await t.rows()).toHaveLength(6);
  expect(await waiting(t.clientId)).toHaveLength(0);
});

test("an event past its retention is not delivered, and the log says so", async () => {
  const t = await ground.tenant();
  await t.endpoint("a");
  await t.say(2);
  const [gone] = await waiting(t.clientId);
  await ground.owner`delete from events where id = ${gone!.event_id}`;
  await fanOut();
  expect(await t.rows()).toHaveLength(1);
  expect(await waiting(t.clientId)).toHaveLength(0);
  expect(lines).toMatchObject([{ msg: "event older than its retention; not delivered", event_id: gone!.event_id }]);
});
