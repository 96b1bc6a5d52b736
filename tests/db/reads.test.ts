import { eq, sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenDatabase, openDatabase, SessionRefused, TransactionEnded, type Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { hotRead, isoFrom, pages, prepared } from "../../db/prepared.ts";
import { tenantStatement } from "../../db/reads.ts";
import { clients } from "../../db/schema/clients.ts";
import { eventCounters } from "../../db/schema/events.ts";
import { getAgent, listAgents } from "../../routers/agents/service.ts";
import { listCalls } from "../../routers/calls/list/list.ts";
import { toCalls } from "../../routers/calls/resource.ts";
import { getCall } from "../../routers/calls/service.ts";
import { getEndpoint, listEndpoints } from "../../routers/webhooks/endpoints/service.ts";
import { cloneDatabase } from "../support/database.ts";

const database = await cloneDatabase();
const owner = postgres(database.url, { max: 2, onnotice: () => {} });
const [ada, bob] = [newId("client"), newId("client")];
let db: OpenDatabase;

beforeAll(async () => {
  db = openDatabase({ ...database.roles, size: 10, maxWaitMs: 20_000 });
  await db.asSystem((tx) => tx.insert(clients).values([ada, bob].map((id) => ({ id, name: id }))));
  for (const clientId of [ada, bob])
    await db.asClient({ clientId }, (tx) =>
      tx
        .insert(eventCounters)
        .values([1, 2, 3].map((sequence) => ({ subjectId: `${clientId} ${sequence}`, sequence }))),
    );
});

afterAll(async () => {
  await db.close();
  await owner.end();
  await database.drop();
});

type Sent = { text: string; parameters: unknown[]; isShared: boolean };

/** What a read sends, with a handle that responds with no rows. */
async function sentBy(work: (tx: Tx) => Promise<unknown>): Promise<Sent[]> {
  const sent: Sent[] = [];
  const driver = (isShared: boolean) => ({
    unsafe(text: string, parameters: unknown[]) {
      sent.push({ text, parameters, isShared });
      return Object.assign(Promise.resolve([]), { values: async () => [] });
    },
  });
  const client = { ...driver(false), shared: driver(true) };
  await work({ session: { client } } as unknown as Tx).catch(() => {}); // there are no rows
  return sent;
}

const key = { secret: Buffer.alloc(32), clientId: ada, procedure: "things.list", filters: {} };
const page = { limit: 20 };
const hot: [name: string, work: (tx: Tx) => Promise<unknown>][] = [
  ["an agent", (tx) => getAgent(tx, newId("agent"))],
  ["a call", (tx) => getCall(tx, newId("call"))],
  ["a webhook endpoint", (tx) => getEndpoint(tx, newId("endpoint"))],
  ["a page of agents", (tx) => listAgents(tx, page, key)],
  ["a page of calls", (tx) => listCalls(tx, page, key)],
  ["a page of webhook endpoints", (tx) => listEndpoints(tx, page, key)],
];

describe("a read of one statement", () => {
  test.each(hot)("of %s sets the tenant first, keeps the order, and finds its rows by the client", async (_, work) => {
    const [sent] = await sentBy(work);
    expect(sent!.isShared).toBe(true);
    const all = [...sent!.parameters, ada, null, null];
    const plan = await owner.begin(async (tx) => {
      await tx.unsafe("set local enable_seqscan = off; set local role patchbay_tenant");
      return tx.unsafe(`explain (costs off) ${tenantStatement(sent!.text, sent!.parameters.length)}`, all as never[]);
    });
    const lines = plan.map((row) => String(row["QUERY PLAN"]));
    // A nested loop reads its second input once per row of its first, which is the tenant's, and keeps that input's order.
    expect(lines[0]).toBe("Nested Loop");
    const [first] = lines.filter((line) => /^ {2}->/.test(line));
    expect(first).toMatch(/CTE Scan on tenant/);
    expect(lines.filter((line) => /Index Cond: \(\(?client_id = \(InitPlan \d+\)/.test(line)).length).toBeGreaterThan(
      0,
    );
    expect(lines.join("\n")).not.toMatch(/Seq Scan|Gather/);
  });

  test("sees only the client's rows, whichever connection it gets", async () => {
    const read = (clientId: string) => db.readAsClient({ clientId }, (tx) => tx.select().from(eventCounters));
    const hotRows = hotRead((from) => from.select().from(eventCounters));
    const shared = (clientId: string) => db.readAsClient({ clientId }, (tx) => hotRows(tx));
    for (let i = 0; i < 20; i++) {
      const seen = await Promise.all([read(ada), read(bob), shared(ada), shared(bob)]);
      for (const [n, rows] of seen.entries()) {
        expect(rows).toHaveLength(3);
        expect(new Set(rows.map(({ clientId }) => clientId))).toEqual(new Set([n % 2 === 0 ? ada : bob]));
      }
    }
  });

  test("sees a commit that ended before it began", async () => {
    for (let sequence = 10; sequence < 40; sequence++) {
      const subjectId = `${ada} 1`;
      await db.asClient({ clientId: ada }, (tx) =>
        tx.update(eventCounters).set({ sequence }).where(eq(eventCounters.subjectId, subjectId)),
      );
      const [row] = await db.readAsClient({ clientId: ada }, (tx) =>
        tx.select().from(eventCounters).where(eq(eventCounters.subjectId, subjectId)),
      );
      expect(row!.sequence).toBe(sequence);
    }
  });

  test("writes nothing, not even by a function", async () => {
    const write = (tx: Tx) => tx.insert(eventCounters).values({ subjectId: "never", sequence: 1 });
    await expect(db.readAsClient({ clientId: ada }, write)).rejects.toThrow();
    await owner.unsafe(`create function sneak() returns int language sql volatile as
      $$ insert into event_counters (subject_id, sequence) values ('sneaked', 1) returning sequence $$`);
    const sneak = (tx: Tx) => tx.execute(sql`select sneak()`);
    await expect(db.readAsClient({ clientId: ada }, sneak)).rejects.toMatchObject({
      cause: { message: expect.stringMatching(/read-only transaction/) },
    });
    const [row] = await owner`select count(*)::int as n from event_counters where subject_id in ('never', 'sneaked')`;
    expect(row!.n).toBe(0);
    // The same connections still write in transactions.
    await db.asClient({ clientId: ada }, (tx) => tx.insert(eventCounters).values({ subjectId: "mine", sequence: 1 }));
  });

  test("refuses a key that was revoked and a client that is suspended", async () => {
    const rows = hotRead((from) => from.select().from(eventCounters));
    const [id, clientId] = [newId("apiKey"), newId("client")];
    await owner`insert into clients (id, name) values (${clientId}, 'x')`;
    await owner`insert into api_keys (client_id, id, name, prefix, hash, scopes, created_by)
      values (${clientId}, ${id}, 'x', 'pb', ${id}, '{}', 'user_1')`;
    const reads = [(tx: Tx) => tx.select().from(eventCounters), (tx: Tx) => rows(tx)];
    const refusals = () =>
      Promise.all(reads.map((read) => db.readAsClient({ clientId, keyId: id }, read).catch((error) => error.reason)));
    expect(await refusals()).toEqual([[], []]);
    await owner`update clients set status = 'suspended' where id = ${clientId}`;
    expect(await refusals()).toEqual(["suspended", "suspended"]);
    await owner`update clients set status = 'active' where id = ${clientId}`;
    await owner`update api_keys set revoked_at = now() where id = ${id}`;
    expect(await refusals()).toEqual(["key", "key"]);
    await expect(db.readAsClient({ clientId, keyId: id }, reads[0]!)).rejects.toBeInstanceOf(SessionRefused);
  });

  test("continues after a table change invalidated its plan", async () => {
    const rows = hotRead((from) => from.select().from(eventCounters));
    const star = async (tx: Tx): Promise<unknown[]> => tx.execute(sql`select * from event_counters`);
    const both = () =>
      Promise.all([db.readAsClient({ clientId: bob }, star), db.readAsClient({ clientId: bob }, (tx) => rows(tx))]);
    for (let i = 0; i < 8; i++) await both();
    await owner`alter table event_counters add column spare integer`;
    for (let i = 0; i < 12; i++) for (const found of await both()) expect(found).toHaveLength(3);
    await owner`alter table event_counters drop column spare`;
    for (let i = 0; i < 12; i++) for (const found of await both()) expect(found).toHaveLength(3);
  });

  test("runs after the statements that its request sent before", async () => {
    const now = (seconds: number) => sql`select pg_sleep(${seconds}), clock_timestamp()::text as at`;
    const [first, second] = await db.readAsClient({ clientId: ada }, (tx) =>
      Promise.all([tx.execute<{ at: string }>(now(0.3)), tx.execute<{ at: string }>(now(0))]),
    );
    expect(first![0]!.at < second![0]!.at).toBe(true);
  });

  test("sends nothing after its request has ended", async () => {
    let kept: Tx | undefined;
    await db.readAsClient({ clientId: ada }, async (tx) => {
      kept = tx;
    });
    await expect(kept!.select().from(eventCounters)).rejects.toMatchObject({ cause: expect.any(TransactionEnded) });
  });

  test("that is slow delays no other client's bounded read", async () => {
    const rows = hotRead((from) => from.select().from(eventCounters));
    const slow = Array.from({ length: 6 }, () =>
      db.readAsClient({ clientId: ada }, (tx) => tx.execute(sql`select pg_sleep(0.7)`)),
    );
    let isDone = false;
    const all = Promise.all(slow).then(() => {
      isDone = true;
    });
    for (let i = 0; i < 5; i++) await db.readAsClient({ clientId: bob }, (tx) => rows(tx));
    expect(isDone).toBe(false);
    await all;
  });
});

describe("the pages of a list", () => {
  test("have one text per combination of filters, and those with a filter get a connection of their own", async () => {
    const counters = pages<"subjectId" | "sequence", { sequence: number }[]>((from, given) =>
      from
        .select({ sequence: eventCounters.sequence })
        .from(eventCounters)
        .where(given.subjectId && eq(eventCounters.subjectId, given.subjectId))
        .limit(sql.placeholder("limit")),
    );
    const sent = await sentBy(async (tx) => {
      for (const subjectId of ["a", "b", undefined, null]) await counters(tx, { subjectId, before: null, limit: 3 });
    });
    expect(sent.map(({ text }) => text === sent[0]!.text)).toEqual([true, true, false, false]);
    expect(sent.map(({ parameters }) => parameters)).toEqual([["a", 3], ["b", 3], [3], [3]]);
    expect(sent.map(({ isShared }) => isShared)).toEqual([false, false, true, true]);
  });
});

describe("a query that is built once", () => {
  test("returns the rows that drizzle returns, also without the row of an outer join", async () => {
    const [agentId, callId] = [newId("agent"), newId("call")];
    await owner`insert into agents (client_id, id, name, status, version, provider_account_id)
      values (${ada}, ${agentId}, 'a', 'active', 1, 'pacc_x')`;
    await owner`insert into agent_versions (client_id, agent_id, version, name, config, status, created_by)
      values (${ada}, ${agentId}, 1, 'a', '{"systemPrompt": "x"}', 'live', 'x')`;
    await owner`insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, max_duration_seconds,
        join_timeout_seconds, recording_enabled, provider_account_id, variables, metadata)
      values (${ada}, ${callId}, ${agentId}, 1, 'web', 'web', 'queued', 60, 30, false, 'pacc_x', '{}', '{}')`;
    const built = prepared((from) => toCalls(from));
    const inIso = hotRead((from) => toCalls(from));
    await db.asClient({ clientId: ada }, async (tx) => {
      const plain = await toCalls(tx);
      expect(plain).toHaveLength(1);
      expect(plain[0]).toMatchObject({ hold: null, price: null });
      expect(await built(tx)).toEqual(plain);
      expect(JSON.stringify(await inIso(tx))).toBe(JSON.stringify(plain));
    });
  });

  test.each([
    "2026-11-30 22:12:58.123456+00",
    "2026-11-30 22:12:58.1+00",
    "2026-11-30 22:12:58.999999+00",
    "2026-11-30 22:12:58+00",
    "2026-11-30 22:12:58.123+02",
    "0001-01-01 00:00:00.5+00",
  ])("writes the time %s as a Date does", (text) => {
    expect(isoFrom(text)).toBe(new Date(text).toISOString());
  });
});
