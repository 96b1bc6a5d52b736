import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DatabaseBusy, type OpenDatabase, openDatabase, type Tx, withCommit } from "../../db/client.ts";
import { FairGate } from "../../db/fair-gate.ts";
import { newId } from "../../db/ids.ts";
import { statement } from "../../db/statement.ts";
import { fundsOf, holdCredits } from "../../routers/billing/ledger.ts";
import { agent, phone, startTestApp } from "../support/app.ts";
import { expectSoundBooks, makeAgent } from "../support/calls.ts";

const h = await startTestApp({ credits: 100_000, env: { DATABASE_POOL_SIZE: "5" } });
const noisyAgent = await makeAgent(h);
const quietAgent = await makeAgent(h, {}, h.bob.key);

describe("one client that keeps the database busy", () => {
  test("with a hundred calls in parallel delays no other client's requests into a refusal, and its own books are right", async () => {
    const noise = Array.from({ length: 100 }, (_, index) =>
      h.post("/calls", { agentId: noisyAgent, medium: phone("+14155550123") }, { idempotencyKey: `noise-${index}` }),
    );
    const asBob = { key: h.bob.key };
    const quiet: number[] = [];
    for (let i = 0; i < 5; i++) {
      quiet.push((await h.get("/calls", asBob)).status);
      quiet.push((await h.get(`/agents/${quietAgent}`, asBob)).status);
      quiet.push((await h.patch(`/agents/${quietAgent}`, { name: `Quiet ${i}` }, asBob)).status);
      quiet.push((await h.post("/calls", { agentId: quietAgent, medium: phone("+14155550124") }, asBob)).status);
    }
    expect(new Set(quiet)).toEqual(new Set([200, 201]));
    const statuses = (await Promise.all(noise)).map(({ status }) => status);
    expect(statuses.filter((status) => ![201, 429, 503].includes(status))).toEqual([]);
    await expectSoundBooks(h);
  }, 180_000);

  test("with transactions that wait gets no more than its share, and others find a connection free", async () => {
    const db = openDatabase({ ...h.database.roles, size: 5, maxWaitMs: 20_000 });
    const release = Promise.withResolvers<void>();
    let begun = 0;
    try {
      const held = Array.from({ length: 50 }, () =>
        db.asClient({ clientId: h.ada.clientId }, async (tx) => {
          await tx.execute(sql`select 1`);
          begun++;
          await release.promise;
        }),
      );
      await sleep(500);
      expect(begun).toBe(2); // 40 % of five
      const began = performance.now();
      await db.asClient({ clientId: h.bob.clientId }, (tx) => tx.execute(sql`select 1`));
      await db.readOne({ clientId: h.bob.clientId }, "select 1 as one", []);
      expect(performance.now() - began).toBeLessThan(2_000);
      release.resolve();
      await Promise.all(held);
    } finally {
      release.resolve();
      await db.close();
    }
  });
});

describe("requests that wait for a place", () => {
  const gate = () => new FairGate({ places: 5, maxWaiting: 100, maxWaitMs: 60_000 });
  const enter = (places: FairGate, owner: string, log: string[]) => {
    const waited = places.enter(owner) ?? Promise.resolve();
    return waited.then(() => void log.push(owner));
  };

  test("are served in turn by owner, however long one owner's queue is", async () => {
    const places = gate();
    const log: string[] = [];
    for (let i = 0; i < 2; i++) places.enter("full");
    for (let i = 0; i < 2; i++) places.enter("other");
    places.enter("third");
    for (const owner of ["noisy", "noisy", "noisy", "noisy", "quiet", "calm"])
      enter(places, owner, log).catch(() => {});
    for (const owner of ["full", "full", "other", "other"]) {
      places.leave(owner);
      await sleep(1);
    }
    expect(log).toEqual(["noisy", "quiet", "calm", "noisy"]);
    places.close();
  });

  test("find room although another owner has filled the queue; only that owner is refused", async () => {
    const places = gate();
    for (const owner of ["a", "a", "b", "b", "c"]) places.enter(owner);
    const waiting: Promise<unknown>[] = [];
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      try {
        const waited = Promise.resolve(places.enter("noisy"));
        waited.catch(() => {}); // requests that still wait at the end
        waiting.push(waited);
      } catch (error) {
        expect(error).toBeInstanceOf(DatabaseBusy);
        refused++;
      }
    }
    expect({ waits: waiting.length, refused }).toEqual({ waits: 50, refused: 150 });
    const quiet = places.enter("quiet");
    expect(quiet).toBeInstanceOf(Promise);
    places.leave("c");
    places.leave("a");
    await quiet;
    places.close();
    await Promise.allSettled(waiting);
  });

  test("leave half of a client's places to its requests, and go before its jobs", async () => {
    const places = new FairGate({ places: 10, maxWaiting: 100, maxWaitMs: 60_000 });
    const jobs = { jobsOf: "a" };
    const log: string[] = [];
    expect(places.enter("a")).toBeUndefined();
    for (let i = 0; i < 2; i++) expect(places.enter(jobs)).toBeUndefined();
    places.enter(jobs)?.then(() => log.push("job"));
    expect(places.enter("a")).toBeUndefined(); // the fourth of four
    places.enter("a")?.then(() => log.push("request"));
    places.leave(jobs);
    await sleep(1);
    places.leave("a");
    await sleep(1);
    expect(log).toEqual(["request", "job"]);
    places.close();
  });

  test("of jobs have the whole share of their client while it sends no requests", () => {
    const places = new FairGate({ places: 10, maxWaiting: 100, maxWaitMs: 60_000 });
    const entered = Array.from({ length: 5 }, () => places.enter({ jobsOf: "a" }));
    expect(entered.filter((waited) => waited === undefined)).toHaveLength(4);
    for (const waited of entered) waited?.catch(() => {});
    places.close();
  });

  test("do not wait behind a timed-out request, and nothing is kept for an owner without requests", async () => {
    const places = new FairGate({ places: 1, maxWaiting: 10, maxWaitMs: 50 });
    places.enter("a");
    await expect(places.enter("b")).rejects.toBeInstanceOf(DatabaseBusy);
    const next = places.enter("c");
    places.leave("a");
    await next;
    places.leave("c");
    expect(places.enter("d")).toBeUndefined();
    places.close();
  });
});

describe("the balance", () => {
  let db: OpenDatabase;
  beforeAll(() => {
    db = openDatabase({ ...h.database.roles, size: 5 });
  });
  afterAll(() => db.close());

  test("is not locked while a transaction that uses it does other work", async () => {
    const subjectId = newId("call");
    await db.asClient({ clientId: h.ada.clientId }, async (tx) => {
      await holdCredits(tx, subjectId, 1_000_000, await fundsOf(tx));
      const free = await h.owner`
        select name from ledger_accounts where client_id = ${h.ada.clientId} order by name for no key update nowait`;
      expect(free.length).toBeGreaterThan(0);
      const counter = await h.owner`
        select sequence from event_counters where client_id = ${h.ada.clientId} and subject_id = ${h.ada.clientId} for update nowait`;
      expect(counter).toHaveLength(1);
    });
    const [hold] = await h.owner`select amount_micros::int as amount from holds where subject_id = ${subjectId}`;
    expect(hold!.amount).toBe(1_000_000);
    const said = await h.owner`
      select data->>'amountMicros' as amount, (data->>'availableMicros')::bigint = a.balance_micros as current
      from events e join ledger_accounts a on a.client_id = e.client_id and a.name = 'available'
      where e.type = 'credits.held' and e.data->>'subjectId' = ${subjectId}`;
    expect([...said]).toEqual([{ amount: "1000000", current: true }]);
  });

  test("that covers one of two concurrent calls serves one: the other is refused and writes nothing", async () => {
    const [row] = await h.owner`
      select balance_micros::float8 as available from ledger_accounts where client_id = ${h.bob.clientId} and name = 'available'`;
    const amount = Math.floor(row!.available * 0.6);
    const together = Promise.withResolvers<void>();
    let seen = 0;
    const hold = (subjectId: string) =>
      db.asClient({ clientId: h.bob.clientId }, async (tx) => {
        await holdCredits(tx, subjectId, amount, await fundsOf(tx)); // both see enough credits
        if (++seen === 2) together.resolve();
        await together.promise;
      });
    const ids = [newId("call"), newId("call")] as const;
    const ends = await Promise.allSettled(ids.map(hold));
    expect(ends.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const [loser] = ends.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    expect(loser!.reason).toMatchObject({ errorCode: "credits_insufficient", status: 402 });
    expect(await h.owner`select from holds where subject_id in ${h.owner([...ids])}`).toHaveLength(1);
    expect(await h.owner`select from ledger_transactions where subject_id in ${h.owner([...ids])}`).toHaveLength(1);
  });

  test("that is too low refuses many parallel calls before the provider is called, and writes nothing", async () => {
    const requests = async () =>
      (await h.simulator.requests()).requests.filter(
        (r: { path: string; method: string }) => r.method === "POST" && /\/calls$/.test(r.path),
      ).length;
    const poor = { ...agent, maxDurationSeconds: 3_600 };
    const made = await h.post("/agents", poor, { key: h.bob.key });
    await h.owner`update ledger_accounts set balance_micros = 1 where client_id = ${h.bob.clientId} and name = 'available'`;
    const [before, rows] = [await requests(), await h.owner`select from calls where client_id = ${h.bob.clientId}`];
    const place = () =>
      h.post("/calls", { agentId: made.body.data.id, medium: phone("+14155550123") }, { key: h.bob.key });
    const responses = await Promise.all(Array.from({ length: 10 }, place));
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([402]));
    expect(await requests()).toBe(before);
    expect(await h.owner`select from calls where client_id = ${h.bob.clientId}`).toHaveLength(rows.length);
  });

  const count = statement("insert into event_counters (subject_id, sequence) values ($1, $2)");
  const addOne = statement("update event_counters set sequence = sequence + 1 where subject_id = $1");
  const undone = () => h.owner`select from event_counters where subject_id = 'undone'`;

  test("statements that go with the commit come last, in order, and one that fails undoes the transaction", async () => {
    const kept = await db.asClient({ clientId: h.ada.clientId }, async (tx) => {
      withCommit(
        tx,
        () => count(tx, ["ordered", 1]),
        () => addOne(tx, ["ordered"]),
      );
      await count(tx, ["work", 1]);
      return tx;
    });
    const [row] = await h.owner`select sequence::int from event_counters where subject_id = 'ordered'`;
    expect(row).toEqual({ sequence: 2 });
    expect(() => withCommit(kept, async () => {})).toThrow("ended");
    const failing = db.asClient({ clientId: h.ada.clientId }, async (tx) => {
      await count(tx, ["undone", 1]);
      withCommit(
        tx,
        () => count(tx, ["work", 1]),
        () => count(tx, ["undone too", 1]),
      );
    });
    await expect(failing).rejects.toMatchObject({ code: "23505" });
    expect(await undone()).toHaveLength(0);
  });

  test("a statement that is not sent immediately does not go with the commit: nothing is written", async () => {
    const late = async (tx: Tx) => {
      await Promise.resolve();
      await count(tx, ["late", 1]);
    };
    const failing = db.asClient({ clientId: h.ada.clientId }, async (tx) => {
      await count(tx, ["undone", 1]);
      withCommit(tx, () => late(tx));
    });
    await expect(failing).rejects.toThrow("sent immediately");
    expect(await undone()).toHaveLength(0);
  });
});
