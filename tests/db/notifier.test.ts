import { pino } from "pino";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { announce, type OpenDatabase, openDatabase, type Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { openNotifications } from "../../db/notifications.ts";
import { eventsChannel } from "../../db/notifier.ts";
import { enqueue } from "../../db/queue.ts";
import { startWorkers } from "../../jobs/runtime/worker.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { until } from "../support/app.ts";
import { cloneDatabase } from "../support/database.ts";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let owner: postgres.Sql;
let db: OpenDatabase;
const clientId = newId("client");
const heard: { channel: string; payload: string }[] = [];

beforeAll(async () => {
  database = await cloneDatabase();
  owner = postgres(database.url, { max: 2, onnotice: () => {} });
  db = openDatabase({ ...database.roles, size: 10 });
  await owner`insert into clients (id, name) values (${clientId}, 'a client')`;
  for (const channel of [eventsChannel, "jobs:insert"])
    await owner.listen(channel, (payload) => void heard.push({ channel, payload }));
});
beforeEach(() => {
  heard.length = 0;
});
afterAll(async () => {
  await db.close();
  await owner.end();
  await database.drop();
});

const emitOne = async (tx: Tx) => {
  const id = newId("agent");
  await emit(tx, "agent.created", id, { id, name: "one", status: "active", version: 1 });
};
const heardOf = (name: string) => heard.filter(({ channel }) => channel === name).map(({ payload }) => payload);

describe("after the commit", () => {
  test("followers of the client are notified of its events, and workers of jobs that are due", async () => {
    await db.asClient({ clientId }, async (tx) => {
      await emitOne(tx);
      await enqueue(tx, "retention.erase", {});
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(heard).toEqual([]); // not before
    });
    await until(async () => heard.length >= 2);
    expect(heardOf(eventsChannel)).toEqual([clientId]);
    expect(heardOf("jobs:insert").map((text) => JSON.parse(text))).toEqual([{ count: 1 }]);
  });

  test("many transactions of the same moment cost a few notifications", async () => {
    await Promise.all(Array.from({ length: 100 }, () => db.asClient({ clientId }, emitOne)));
    await until(async () => heard.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(heardOf(eventsChannel).length).toBeLessThan(50);
    expect(new Set(heardOf(eventsChannel))).toEqual(new Set([clientId]));
  });

  test("nothing is announced of a transaction that is rolled back, nor of a job for later", async () => {
    const failed = db.asClient({ clientId }, async (tx) => {
      await emitOne(tx);
      throw new Error("no");
    });
    await expect(failed).rejects.toThrow("no");
    await db.asClient({ clientId }, (tx) => enqueue(tx, "retention.erase", {}, { delaySeconds: 60 }));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(heard).toEqual([]);
  });
});

test("no function that a transaction calls notifies by itself", async () => {
  const functions = await owner<{ name: string }[]>`
    select p.oid::regprocedure::text as name from pg_proc p
    where p.pronamespace in ('graphile_worker'::regnamespace, 'app'::regnamespace) and p.prosrc ~ 'pg_notify'
      and exists (select from aclexplode(p.proacl) r where r.grantee::regrole::text in ('patchbay_tenant', 'patchbay_system'))`;
  expect(functions.map(({ name }) => name)).toEqual([]);
});

describe("without a connection for notifications", () => {
  /** The login of the notifier has no connections left, so that it cannot connect. */
  async function withoutNotifier(work: (db: OpenDatabase) => Promise<void>) {
    const broken = openDatabase({ ...database.roles, size: 4 });
    await broken.asSystem(async () => {}); // its pool has a connection
    await broken.asSystem(async () => {});
    const [login] = await owner`select current_user as name`;
    expect(login!.name).not.toBe("patchbay_system");
    await owner`alter role patchbay_system connection limit 0`;
    try {
      await work(broken);
    } finally {
      await owner`alter role patchbay_system connection limit -1`;
      await broken.close();
    }
  }

  test("a commit does not wait, and the workers find the job when they poll", async () => {
    const ran: string[] = [];
    const workers = await startWorkers({
      ...{ workerUrl: database.roles.workerUrl, db, providers: {} as Providers, log: pino({ level: "silent" }) },
      tasks: { "webhooks.disable": { run: async ({ endpointId }) => void ran.push(endpointId) } },
    });
    await withoutNotifier(async (broken) => {
      const began = performance.now();
      await broken.asClient({ clientId }, async (tx) => {
        await emitOne(tx);
        await enqueue(tx, "webhooks.disable", { endpointId: "wh_1", why: "gone" });
      });
      expect(performance.now() - began).toBeLessThan(5_000);
      await until(async () => ran.length > 0);
      expect(heardOf(eventsChannel)).toEqual([]);
    });
    expect(ran).toEqual(["wh_1"]);
    await workers.stop();
  });

  test("what was committed meanwhile is announced once there is one, to all followers when it is of very many clients", async () => {
    const notices = openNotifications({ url: database.roles.tenantUrl, channel: eventsChannel });
    const watch = notices.watch("client_without_events");
    const never = new AbortController().signal;
    await watch.next(5_000, never); // woken when it is connected
    await withoutNotifier(async (broken) => {
      await broken.asClient({ clientId }, emitOne);
      for (let n = 0; n < 150; n++)
        await broken.asSystem(async (tx) => announce(tx, { events: true }), { clientId: `client_${n}` });
      expect(heardOf(eventsChannel)).toEqual([]);
      await owner`alter role patchbay_system connection limit -1`;
      await until(async () => heardOf(eventsChannel).length > 0);
    });
    expect(heardOf(eventsChannel)).toEqual(["*"]);
    const began = performance.now();
    await watch.next(10_000, never);
    expect(performance.now() - began).toBeLessThan(9_000);
    watch.close();
    await notices.close();
  });
});
