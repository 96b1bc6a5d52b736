import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { applyBatch } from "../../jobs/ingress.ts";
import { reprocess } from "../../jobs/ingress-reprocess.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { openWorkers } from "../../server/workers.ts";
import { phone, startTestApp, until } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  expectStory,
  finished,
  hurry,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
  storyOf,
  waitingJobs,
} from "../support/calls.ts";

const lines: string[] = [];
const h = await startTestApp({ speed: 200, log: lines });
const agentId = await makeAgent(h);
const provider = h.deps.providers.ultravox;
const everything = ["call.started", "call.joined", "call.ended", "call.billed"] as const;
let workers: Awaited<ReturnType<typeof openWorkers>> | undefined;
let operator: string;
beforeAll(async () => {
  operator = await h.operator();
  await h.simulator.faults({ webhooks: { lose: everything } });
});
afterEach(async () => {
  await workers?.stop();
  workers = undefined;
});
afterAll(() => workers?.stop());

type Call = { id: string; upstream: string };

/** Calls that have ended and are billed at the provider. No message about them has arrived. */
async function silentCalls(count: number): Promise<Call[]> {
  const calls = Array.from({ length: count }, async () => {
    const { body } = await h.post("/calls", { agentId, medium: phone("+14155550100") });
    const id: string = body.data.id;
    const { provider_call_id: upstream } = await callRow(h, id);
    await until(async () => (await provider.getCall(platformAccount, upstream!, inTime()))?.billing === "final");
    return { id, upstream: upstream! };
  });
  return Promise.all(calls);
}

const send = (callId: string, event: string) => h.simulator.control("webhooks/resend", { callId, event });

/** Puts all messages that wait to be applied into one job, in the order of receipt. */
async function intoOneJob() {
  await h.owner`delete from graphile_worker._private_jobs j using graphile_worker._private_tasks t
    where t.id = j.task_id and t.identifier like 'ingress.apply%'`;
  const rows = await h.owner`
    select id as "ingressId", received_at::text as "receivedAt" from ingress_events where status = 'received' order by id`;
  const body = { messages: rows.map(({ ingressId, receivedAt }) => ({ ingressId, receivedAt })) };
  await h.owner`select graphile_worker.patchbay_enqueue_for(null,
    ${JSON.stringify([{ task: "ingress.applyBatch", body }])}::text::json)`;
  return body;
}

/** The context of the job. `dies`: the process dies before the results are recorded. */
function context({ dies = false, lostRuns = 0 } = {}): JobContext {
  const { db, log, providers } = h.deps;
  let transactions = 0;
  const { signal } = new AbortController();
  return {
    ...{ db, log, providers, lostRuns, requestId: null, attempt: 0 },
    ...{ fence: { check() {} }, signal, pool: { slots: 10, draining: signal } },
    ...{ jobId: "1", clientId: null, inBackground() {}, asClient: () => Promise.reject(new Error("no client")) },
    asSystem: (work) =>
      db.asSystem(async (tx) => {
        const result = await work(tx);
        if (dies && ++transactions === 2) throw new Error("killed");
        return result;
      }),
  };
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((first, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [first, ...rest]),
  );
}

async function expectTheSameEnd({ id, upstream }: Call) {
  const row = await finished(h, id);
  const seen = await provider.getCall(platformAccount, upstream, inTime());
  expect(row).toMatchObject({
    ...{ status: "ended", outcome: "completed", joined_at: seen!.joinedAt, ended_at: seen!.endedAt },
    ...{ billed_seconds: seen!.billedSeconds, billing_revision: 1, check_at: null },
  });
  expect((await postingsOf(h, id)).map(([kind]) => kind)).toEqual(["hold", "settlement"]);
  await expectStory(h, id, { joined: true, last: "call.completed" });
}

const messagesOf = ({ upstream }: Call) =>
  h.owner`select key, status, attempts from ingress_events where key like ${`%${upstream}%`} order by id`;

const applied = (status: string) => everything.map(() => ({ status, attempts: 1 }));

test("a burst with the messages of 24 calls, each in another order, is applied in one transaction for each call", async () => {
  const orders = permutations(everything);
  const calls = await silentCalls(orders.length);
  for (const [index, { upstream }] of calls.entries()) {
    for (const event of orders[index]!) await send(upstream, event);
  }
  const ids = calls.map(({ id }) => id);
  const { messages } = await intoOneJob();
  expect(messages).toHaveLength(4 * calls.length);
  workers = await openWorkers(h.deps);
  for (const call of calls) await expectTheSameEnd(call);
  for (const call of calls) expect(await messagesOf(call)).toMatchObject(applied("applied"));
  const [seen] = await h.owner`
    select count(*)::int as events, count(distinct xmin::text)::int as transactions from events
    where subject_id = any(${ids}) and type in ('call.joined', 'call.ended', 'call.billed')`;
  expect(seen).toEqual({ events: 3 * calls.length, transactions: calls.length });
  await expectSoundBooks(h);
});

test("after a death between applying and recording, the messages are applied again and nothing is doubled", async () => {
  const calls = await silentCalls(2);
  for (const event of everything) for (const { upstream } of calls) await send(upstream, event);
  const payload = await intoOneJob();
  await expect(applyBatch.run(payload, context({ dies: true }))).rejects.toThrow("killed");
  const before = await Promise.all(calls.map(({ id }) => storyOf(h, id)));
  expect(before[0]).toEqual(["call.created", "call.started", "call.joined", "call.ended", "call.billed"]);
  for (const call of calls)
    expect(await messagesOf(call)).toMatchObject(everything.map(() => ({ status: "received", attempts: 0 })));
  await applyBatch.run(payload, context());
  expect(await Promise.all(calls.map(({ id }) => storyOf(h, id)))).toEqual(before);
  for (const call of calls) expect(await messagesOf(call)).toMatchObject(applied("applied"));
  workers = await openWorkers(h.deps);
  for (const call of calls) await expectTheSameEnd(call);
  await expectSoundBooks(h);
});

test("one message of a burst that cannot be applied fails alone, and is applied later", async () => {
  const calls = await silentCalls(3);
  const [bad, ...good] = calls as [Call, ...Call[]];
  await h.owner.unsafe(`
    create function public.refuse_bill() returns trigger language plpgsql as $$
      begin raise exception 'this bill cannot be stored' using errcode = '22000'; end $$;
    create trigger refuse_bill before update on calls for each row
      when (new.id = '${bad.id}' and new.cost_micros is not null) execute function public.refuse_bill()`);
  for (const event of everything) for (const { upstream } of calls) await send(upstream, event);
  await intoOneJob();
  workers = await openWorkers(h.deps);
  try {
    for (const call of good) await expectTheSameEnd(call);
    const ofBad = await until(async () => {
      const rows = await messagesOf(bad);
      return rows.filter(({ status }) => status === "applied").length === 3 ? rows : null;
    });
    expect(ofBad.find(({ status }) => status === "received")!.key).toContain("call.billed");
    expect(await callRow(h, bad.id)).toMatchObject({ status: "ended", cost_micros: null });
    const [alone, ...more] = await until(async () => {
      const jobs = await waitingJobs(h, "ingress.apply");
      return jobs.length > 0 ? jobs : null;
    });
    expect(more).toEqual([]);
    expect(lines.filter((line) => line.includes("provider message not applied; will retry"))).toHaveLength(1);
    expect(alone!.payload.attempt).toBeGreaterThan(0);
  } finally {
    await h.owner.unsafe("drop trigger refuse_bill on calls; drop function public.refuse_bill()");
  }
  await until(async () => {
    await hurry(h, "ingress.apply");
    return (await callRow(h, bad.id)).cost_micros !== null;
  });
  await expectTheSameEnd(bad);
  await expectSoundBooks(h);
});

test("after a worker has died with a batch, each of its messages gets its own job, once", async () => {
  const calls = await silentCalls(1);
  for (const event of everything) await send(calls[0]!.upstream, event);
  const payload = await intoOneJob();
  for (let times = 0; times < 2; times++) await applyBatch.run(payload, context({ lostRuns: 1 }));
  const alone = await waitingJobs(h, "ingress.apply");
  expect(alone.map(({ payload }) => payload.body.ingressId).toSorted()).toEqual(
    payload.messages.map(({ ingressId }) => ingressId),
  );
  workers = await openWorkers(h.deps);
  await expectTheSameEnd(calls[0]!);
});

test("large messages are applied again for operators in small lots, since a lot is in memory as a whole", async () => {
  await h.owner`insert into ingress_events (id, provider, provider_account_id, key, event_type, body, headers, verified_by, status)
    select 'ing_0' || lpad(n::text, 25, '0'), 'stripe', 'stripe', 'evt_' || n, 'large', repeat('x', 2000000)::bytea, '{}', 'stripe#1',
      'failed' from generate_series(1, 5) n`;
  const asked = { eventType: "large", createdAfter: new Date(Date.now() - 60_000).toISOString() };
  expect((await h.post("/admin/ingress/reprocess", asked, { key: operator })).body.data.found).toBe(5);
  const [job] = await waitingJobs(h, "ingress.reprocess");
  await reprocess.run(job!.payload.body, context());
  const lots = await waitingJobs(h, "ingress.applyBatch");
  expect(lots.map(({ payload }) => payload.body.messages.length).toSorted()).toEqual([1, 2, 2]);
  workers = await openWorkers(h.deps);
  await until(async () => {
    const rows = await h.owner`select from ingress_events where event_type = 'large' and attempts > 0`;
    return rows.length === 5;
  });
});
