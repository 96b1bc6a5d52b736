import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { migrate } from "../../db/migrate.ts";
import { startEventBridge } from "../../dev/simulators/eventbridge.ts";
import { createPatchbayClient } from "../../edge/client.ts";
import { writeCursor } from "../../routers/core/pagination.ts";
import type { Event } from "../../routers/events/schema.ts";
import { listEvents } from "../../routers/events/service.ts";
import { openWorkers } from "../../server/workers.ts";
import { startTestApp, until } from "../support/app.ts";
import { cloneDatabase } from "../support/database.ts";
import { breaksOf, writeAll } from "../support/event-order.ts";

process.env.AWS_ACCESS_KEY_ID = "stand-in";
process.env.AWS_SECRET_ACCESS_KEY = "stand-in";

const bridge = await startEventBridge();
afterAll(() => bridge.close());
const env = { EVENT_BUS_NAME: "order", EVENT_BUS_REGION: "us-east-1", EVENT_BUS_ENDPOINT: bridge.url };
const h = await startTestApp({ env: { ...env, DATABASE_POOL_SIZE: "20" }, laneWaitMs: 60_000 });
const { ada, bob } = h;
const workers = await openWorkers(h.deps);
afterAll(() => workers.stop());
beforeAll(async () => {
  await until(async () => (await h.owner`select from bus_positions`).length > 0);
});

/** The events that the bus has accepted, from this one on. */
const published = (from: number) => bridge.accepted.slice(from).map(({ Detail }) => JSON.parse(Detail) as Event);

/** Follows GET /events?order=asc from its present end. */
async function tailOf(key: string) {
  const read = async (cursor: string | null): Promise<Page> => {
    const after = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { status, body } = await h.get(`/events?order=asc&limit=100${after}`, { key });
    if (status === 200) return body;
    expect(body.error.code).toBe("rate_limit_exceeded");
    await sleep(500);
    return await read(cursor);
  };
  let page = await read(null);
  while (page.meta.hasMore) page = await read(page.meta.nextCursor);
  const seen: Event[] = [];
  return {
    seen,
    async read() {
      page = await read(page.meta.nextCursor);
      seen.push(...page.data);
    },
  };
}

type Page = { data: Event[]; meta: { nextCursor: string; hasMore: boolean } };

async function streamOf(apiKey: string) {
  const seen: Event[] = [];
  const opened = Promise.withResolvers<void>();
  const subscription = createPatchbayClient({ url: h.url, apiKey }).events.stream.subscribe(
    {},
    {
      onData: ({ data }) => {
        if (data) seen.push(data as Event);
        else opened.resolve();
      },
    },
  );
  await opened.promise;
  return { seen, close: () => subscription.unsubscribe() };
}

test.each([40, 400])(
  "the events of a subject come in the order of their sequence, after %d parallel writers",
  async (count) => {
    const clients = [ada, bob].map(({ clientId }) => ({ clientId, sharedId: newId("agent") }));
    const from = bridge.accepted.length;
    const [tail, stream] = [await tailOf(ada.key), await streamOf(ada.key)];
    let isWriting = true;
    const reading = (async () => {
      while (isWriting) await Promise.all([tail.read(), sleep(20)]);
    })();
    await writeAll(h.deps.db, clients, count);
    isWriting = false;
    await reading;
    const ofAda = count; // two events in each transaction, half of the transactions
    await until(async () => {
      await tail.read();
      return tail.seen.length >= ofAda && stream.seen.length >= ofAda && published(from).length >= 2 * count;
    }, 90);
    stream.close();
    expect(breaksOf(tail.seen)).toEqual([]);
    expect(breaksOf(stream.seen)).toEqual([]);
    expect(breaksOf(published(from))).toEqual([]);
    expect(new Set(tail.seen.map(({ id }) => id)).size).toBe(ofAda);
    expect(stream.seen.map(({ id }) => id)).toEqual(tail.seen.map(({ id }) => id));
    expect(new Set(published(from).map(({ id }) => id)).size).toBe(2 * count);
  },
  180_000,
);

test("a cursor of an earlier version still continues where it ended, and skips no event", async () => {
  const id = newId("agent");
  const say = (name: string) =>
    h.deps.db.asClient({ clientId: bob.clientId }, (tx) =>
      emit(tx, "agent.updated", id, { id, name, status: "active", version: 1 }),
    );
  for (const name of ["first", "second", "third"]) await say(name);
  const rows = await h.owner`select id, position from events where subject_id = ${id} order by sequence`;
  const key = { secret: Buffer.alloc(32), clientId: bob.clientId, procedure: "events.list", filters: {} };
  const cursor = writeCursor(key, `${rows[1]!.position}:${rows[1]!.id}`);
  const page = await until(async () => {
    const seen = await h.deps.db.asClient({ clientId: bob.clientId }, (tx) =>
      listEvents(tx, { limit: 20, order: "asc", cursor, subjectId: id }, key),
    );
    return seen.items.some(({ data }) => data.name === "third") && seen;
  });
  expect(page.items.map(({ data }) => data.name)).toEqual(["second", "third"]); // the event of its transaction is repeated
});

test("after a restore into a server with lower transaction ids, new events still come after the old ones", async () => {
  const database = await cloneDatabase();
  const restored = openDatabase({ ...database.roles, size: 2 });
  const clientId = newId("client");
  const id = newId("agent");
  const say = (db: typeof restored, name: string) =>
    db.asClient({ clientId }, (tx) => emit(tx, "agent.updated", id, { id, name, status: "active", version: 1 }));
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  await sql`insert into clients (id, name) values (${clientId}, 'a client')`;
  await say(restored, "before the restore");
  await sql`update events set position = position + 1000000000`;
  await sql`delete from event_counters`; // a subject whose counter does not raise its position
  await restored.close();

  await migrate({ ownerUrl: database.url, roles: database.roles });
  const db = openDatabase({ ...database.roles, size: 2 });
  await say(db, "after the restore");
  const key = { secret: Buffer.alloc(32), clientId, procedure: "events.list", filters: {} };
  const names = () =>
    db
      .asClient({ clientId }, (tx) => listEvents(tx, { limit: 20, order: "asc" }, key))
      .then(({ items }) => items.map(({ data }) => data.name));
  await until(async () => (await names()).length === 2);
  expect(await names()).toEqual(["before the restore", "after the restore"]);

  const offset = async () =>
    (
      await sql`select setconfig from pg_db_role_setting s join pg_database d
    on d.oid = s.setdatabase where d.datname = current_database()`
    )[0]!.setconfig;
  const first = await offset();
  await migrate({ ownerUrl: database.url, roles: database.roles });
  expect(await offset()).toEqual(first); // set once
  await db.close();
  await sql.end();
  await database.drop();
});
