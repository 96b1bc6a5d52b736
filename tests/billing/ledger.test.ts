import postgres from "postgres";
import { expect, test } from "vitest";
import { grantCredits, settleBill } from "../../routers/billing/ledger.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  acceptedFor,
  callRow,
  expectSoundBooks,
  finished,
  letSafetyJobsRun,
  makeAgent,
  postingsOf,
  shuffled,
  storyOf,
  sweepNow,
  waitingJobs,
} from "../support/calls.ts";

const lines: string[] = [];
const h = await startTestApp({ workers: true, speed: 200, credits: 20_000, log: lines });
const agentId = await makeAgent(h);
const agents = { ada: agentId, bob: await makeAgent(h, {}, h.bob.key) };

const deadlocks = () => lines.filter((line) => line.includes("deadlock detected"));
const retried = () => lines.filter((line) => line.includes("provider message not applied; will retry"));

const isQueued = async (task: string) => (await waitingJobs(h, task)).length > 0;

test("after 200 calls with faults the ledger balances exactly", { timeout: 300_000 }, async () => {
  // Nine failures in total: after ten in a row the circuit breaker would stop all requests.
  await h.simulator.faults({
    webhooks: { duplicate: 1, reorder: "shuffle", delaySeconds: 5 },
    create: {
      resetAfterAccepting: 4,
      errors: [
        { status: 503, times: 3 },
        { status: 429, times: 6 },
      ],
    },
    reads: { errors: [{ status: 500, times: 2 }] },
  });
  const numbers = [
    "0000",
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
  ];
  const plan = shuffled(
    Array.from({ length: 200 }, (_, index) => ({ to: `+1415555${numbers[index % numbers.length]}`, index })),
    42,
  );
  const perform = ({ to, index }: { to: string; index: number }) => {
    const mine = index % 3 === 0 ? ("bob" as const) : ("ada" as const);
    const options = { key: h[mine].key, idempotencyKey: `storm-${index}` };
    const body = { agentId: agents[mine], medium: phone(to), metadata: { storm: `${index}` } };
    return until(async () => {
      const response = await h.post("/calls", body, options);
      return response.body.error?.code === "server_overloaded" ? null : response; // nothing was done, so the caller retries
    });
  };
  // Each request is sent twice, with twenty running at any time.
  const queue = plan.flatMap((each) => [each, each]);
  const statuses = new Map<number, number>();
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const { status } = await perform(next);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }),
  );
  expect([...statuses.keys()].filter((status) => ![201, 202, 409, 422, 503].includes(status))).toEqual([]);
  expect(statuses.get(202), "some responses were lost").toBeGreaterThan(0);
  await expectSoundBooks(h); // also while calls are running
  await h.simulator.faults({});
  await letSafetyJobsRun(h, 30);

  const rows = await h.owner<{ id: string; storm: string }[]>`
    select id, metadata->>'storm' as storm from calls where metadata ? 'storm'`;
  expect(rows).toHaveLength(200);
  expect(new Set(rows.map(({ storm }) => storm)).size, "one call per key").toBe(200);
  const sweep = async () => (await isQueued("calls.sweep")) || sweepNow(h);
  const sweeping = setInterval(() => sweep().catch(() => {}), 1000);
  await until(async () => {
    const [pending] = await h.owner`select count(*)::int as calls from calls
      where not (status = 'failed' or (status = 'ended' and cost_micros is not null))`;
    return pending!.calls === 0;
  }, 120).finally(() => clearInterval(sweeping));
  await expectSoundBooks(h);
  const [open] = await h.owner`select count(*)::int as holds from holds where status = 'held'`;
  expect(open!.holds).toBe(0);
  const [accepted] =
    await h.owner`select count(*)::int as calls from calls where metadata ? 'storm' and status = 'ended'`;
  expect(accepted!.calls, "the provider stayed in use").toBeGreaterThan(100);
  for (const { id } of rows) {
    const { status } = await callRow(h, id);
    expect(await acceptedFor(h, id), `${id} is ${status}`).toBe(status === "failed" ? 0 : 1);
    const story = await storyOf(h, id);
    expect(story.filter((type) => type === "call.ended")).toHaveLength(status === "failed" ? 0 : 1);
    const kinds = (await postingsOf(h, id)).map(([kind]) => kind);
    expect(kinds).toEqual(["hold", status === "failed" ? "release" : "settlement"]);
  }
  for (const { clientId } of [h.ada, h.bob]) await storyOf(h, clientId); // the credit events: 1..n without a gap
  expect(deadlocks(), "no deadlocks").toEqual([]);
});

test("concurrent bills of one client do not deadlock", async () => {
  const first = await until(async () => {
    const { status, body } = await h.post("/calls", { agentId, medium: phone("+14155550100") });
    return status === 201 && (body.data.id as string);
  });
  await finished(h, first);
  await until(async () => !(await isQueued("ingress.applyBatch")) && !(await isQueued("ingress.apply")));
  const before = deadlocks().length;
  const retriedBefore = retried().length;
  const ids = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const { body } = await h.post("/calls", { agentId, medium: phone("+14155550015") });
      return body.data.id as string;
    }),
  );
  const upstream = await Promise.all(ids.map(async (id) => (await callRow(h, id)).provider_call_id!));
  await until(async () => {
    const [ringing] = await h.owner`select count(*)::int as calls from calls where status = 'ringing'`;
    return ringing!.calls === 0;
  });
  await Promise.all(upstream.map((id) => h.simulator.control(`calls/${id}/end`)));
  for (const id of ids) await finished(h, id);
  expect(deadlocks().length).toBe(before);
  expect(retried().slice(retriedBefore), "no job was retried").toEqual([]);
  await expectSoundBooks(h);
});

test("a revision of a bill is posted once, however often it is sent", async () => {
  const { body } = await h.post("/calls", { agentId, medium: phone("+14155550100") });
  const id = body.data.id as string;
  const { cost_micros } = await finished(h, id);
  const cost = Number(cost_micros);
  const entry = { clientId: h.ada.clientId };
  const settle = (revision: number, micros: number) =>
    h.deps.db.asClient(entry, (tx) => settleBill(tx, id, revision, () => micros));
  await Promise.all(Array.from({ length: 8 }, () => settle(2, cost + 500)));
  await settle(3, 0);
  await settle(3, 0);
  const postings = await postingsOf(h, id);
  expect(postings.slice(-2)).toEqual([
    ["settlement", -500],
    ["settlement", cost + 500],
  ]);
  expect(postings).toHaveLength(4);
  await settle(4, cost); // the value of the call's row
  await expectSoundBooks(h);
});

test("a bill above the hold takes the balance below zero, and new calls are refused", async () => {
  const { clientId, key } = h.bob;
  const { body } = await h.post("/calls", { agentId: agents.bob, medium: phone("+14155550015") }, { key });
  const id = body.data.id as string;
  const { availableMicros } = (await h.get("/billing/balance", { key })).body.data;
  const held = 26_250_000;
  await h.deps.db.asClient({ clientId }, (tx) => settleBill(tx, id, 1, () => availableMicros + held + 1));
  expect((await h.get("/billing/balance", { key })).body.data).toEqual({ availableMicros: -1, heldMicros: 0 });
  const refused = await h.post("/calls", { agentId: agents.bob, medium: phone("+14155550100") }, { key });
  expect(refused).toMatchObject({ status: 402, body: { error: { code: "credits_insufficient" } } });
  await h.deps.db.asClient({ clientId }, (tx) => settleBill(tx, id, 2, () => 0));
  expect((await h.get("/billing/balance", { key })).body.data.availableMicros).toBe(availableMicros + held);
});

test("a grant with the same source is posted once", async () => {
  const entry = { clientId: h.ada.clientId };
  const before = (await h.get("/billing/balance")).body.data.availableMicros;
  const grant = () => h.deps.db.asClient(entry, (tx) => grantCredits(tx, "christmas", 5, "Merry Christmas"));
  await Promise.all([grant(), grant(), grant()]);
  expect((await h.get("/billing/balance")).body.data.availableMicros).toBe(before + 5);
  await expectEntriesSound();
});

async function expectEntriesSound() {
  const unbalanced = await h.owner`select transaction_id from ledger_entries group by client_id, transaction_id
    having sum(amount_micros) <> 0`;
  expect(unbalanced).toEqual([]);
}

test("no login can change or delete postings, not even the owner", async () => {
  const { tenantUrl, systemUrl, workerUrl } = h.deps.roles;
  const logins = { tenant: tenantUrl, system: systemUrl, worker: workerUrl, owner: h.database.url };
  const before = await h.owner`select * from ledger_entries order by transaction_id, account`;
  for (const [name, url] of Object.entries(logins)) {
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    try {
      for (const statement of [
        "update ledger_entries set amount_micros = amount_micros",
        "delete from ledger_entries",
        "truncate ledger_entries",
        "update ledger_transactions set memo = 'other'",
        "delete from ledger_transactions",
        "truncate ledger_transactions cascade",
        "update prices set call_micros_per_minute = 1",
        "delete from prices",
      ]) {
        const attempt = sql.begin(async (tx) => {
          await tx`select set_config('app.client_id', ${h.ada.clientId}, true)`;
          await tx.unsafe(statement);
        });
        await expect(attempt, `${name}: ${statement}`).rejects.toMatchObject({ code: "42501" });
      }
    } finally {
      await sql.end();
    }
  }
  expect(await h.owner`select * from ledger_entries order by transaction_id, account`).toEqual(before);
});

test("a transaction that does not sum to zero, or is posted twice, does not commit", async () => {
  const { clientId } = h.ada;
  const sql = postgres(h.deps.roles.tenantUrl, { max: 1, onnotice: () => {} });
  const write = (id: string, source: string, entries: [string, number][]) =>
    sql.begin(async (tx) => {
      await tx`select set_config('app.client_id', ${clientId}, true)`;
      await tx`insert into ledger_transactions (id, kind, source_id) values (${id}, 'adjustment', ${source})`;
      for (const [account, amount] of entries) {
        await tx`insert into ledger_entries (transaction_id, account, amount_micros) values (${id}, ${account}, ${amount})`;
      }
    });
  try {
    const unbalanced: [string, number][] = [
      ["available", 5],
      ["adjustments", -4],
    ];
    await expect(write("txn_unbalanced", "unbalanced", unbalanced)).rejects.toThrow("does not sum to zero but to 1");
    await expect(write("txn_single", "single", [["available", 5]])).rejects.toThrow("does not sum to zero but to 5");
    await write("txn_balanced", "balanced", [
      ["available", 5],
      ["adjustments", -5],
    ]);
    await expect(write("txn_twice", "balanced", [])).rejects.toMatchObject({ code: "23505" });
  } finally {
    await sql.end();
  }
});
