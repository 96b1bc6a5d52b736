import { expect } from "vitest";
import { agent, type TestApp, until } from "./app.ts";

/** The provider account that every client of the test app shares. */
export const platformAccount = "pacc_platform";

export type CallRow = {
  id: string;
  client_id: string;
  status: string;
  outcome: string | null;
  outcome_final: boolean;
  end_reason: string | null;
  failure_reason: string | null;
  provider_call_id: string | null;
  joined_at: Date | null;
  ended_at: Date | null;
  billed_seconds: number | null;
  sip_billed_seconds: number | null;
  billing_revision: number;
  cost_micros: string | null;
  summary: string | null;
  check_at: Date | null;
};

export async function makeAgent(h: TestApp, more: object = {}, key?: string): Promise<string> {
  const { body } = await h.post("/agents", { ...agent, ...more }, key ? { key } : {});
  expect(body.data.status).toBe("active");
  return body.data.id;
}

export async function callRow({ owner }: TestApp, id: string): Promise<CallRow> {
  const [row] = await owner<CallRow[]>`select * from calls where id = ${id}`;
  if (!row) throw new Error(`There is no call ${id}.`);
  return row;
}

/** The call is final: never accepted, or ended, fetched and billed. */
export function finished(h: TestApp, id: string, seconds = 20): Promise<CallRow> {
  return until(async () => {
    const row = await callRow(h, id);
    const over = row.status === "ended" && row.outcome_final && row.cost_micros !== null;
    return over || row.status === "failed" ? row : null;
  }, seconds);
}

/** The events of a call in order. The sequence must start at one and grow by one. */
export async function storyOf({ owner }: TestApp, id: string): Promise<string[]> {
  const rows = await owner`select type, sequence from events where subject_id = ${id} order by sequence`;
  expect(rows.map(({ sequence }) => Number(sequence))).toEqual(rows.map((_, index) => index + 1));
  return rows.map(({ type }) => type);
}

/** The possible event sequences of a call that the provider accepted. */
export async function expectStory(
  h: TestApp,
  id: string,
  { joined, last, said = joined }: { joined: boolean; last: string; said?: boolean },
) {
  const story = await storyOf(h, id);
  const beginning = ["call.created", "call.started", ...(joined ? ["call.joined"] : []), "call.ended"];
  expect(story.slice(0, beginning.length)).toEqual(beginning);
  // The recording event may come at any time.
  const rest = story.slice(beginning.length).filter((type) => type !== "call.recording.ready");
  expect(rest.toSorted()).toEqual(["call.billed", ...(said ? ["call.transcript.ready"] : []), last].toSorted());
  if (said) expect(rest.indexOf("call.transcript.ready")).toBeLessThan(rest.indexOf(last));
}

/** The ledger transactions of a call, oldest first: kind and change of the available balance. */
export async function postingsOf({ owner }: TestApp, id: string): Promise<[string, number][]> {
  const rows = await owner`
    select t.kind, coalesce(sum(e.amount_micros) filter (where e.account = 'available'), 0)::float8 as available
    from ledger_transactions t left join ledger_entries e on e.client_id = t.client_id and e.transaction_id = t.id
    where t.subject_id = ${id} group by t.client_id, t.id, t.kind order by t.id`;
  return rows.map(({ kind, available }) => [kind, available]);
}

export const acceptedFor = async ({ simulator }: TestApp, id: string): Promise<number> =>
  (await simulator.status()).accepted.byCallId[id] ?? 0;

/** Invariants of the ledger, at any moment and for every client. */
export async function expectSoundBooks({ owner }: TestApp) {
  const crooked = await owner`
    select t.id from ledger_transactions t
    left join ledger_entries e on e.client_id = t.client_id and e.transaction_id = t.id
    group by t.client_id, t.id having count(e.account) < 2 or sum(e.amount_micros) <> 0`;
  expect(crooked, "transactions that do not sum to zero").toEqual([]);
  const balances = await owner`
    select a.client_id, a.name, a.balance_micros, coalesce(sum(e.amount_micros), 0) as posted from ledger_accounts a
    left join ledger_entries e on e.client_id = a.client_id and e.account = a.name
    group by 1, 2, 3 having a.balance_micros <> coalesce(sum(e.amount_micros), 0)`;
  expect(balances, "balances that are not the sum of their entries").toEqual([]);
  const held = await owner`
    select a.client_id, a.balance_micros, coalesce(sum(h.amount_micros), 0) as open from ledger_accounts a
    left join holds h on h.client_id = a.client_id and h.status = 'held' where a.name = 'held'
    group by 1, 2 having a.balance_micros <> coalesce(sum(h.amount_micros), 0)`;
  expect(held, "credits held without a hold, or the reverse").toEqual([]);
  const earned = await owner`
    select c.id, c.cost_micros, coalesce(sum(e.amount_micros), 0) as posted from calls c
    left join ledger_transactions t on t.client_id = c.client_id and t.subject_id = c.id
    left join ledger_entries e on e.client_id = t.client_id and e.transaction_id = t.id and e.account = 'revenue'
    group by 1, 2 having coalesce(c.cost_micros, 0) <> coalesce(sum(e.amount_micros), 0)`;
  expect(earned, "calls that were charged something other than their cost").toEqual([]);
  const twice = await owner`
    select kind, source_id from ledger_transactions group by client_id, kind, source_id having count(*) > 1`;
  expect(twice, "sources that were posted twice").toEqual([]);
  const stuck = await owner`
    select c.id from calls c join holds h on h.client_id = c.client_id and h.subject_id = c.id
    where h.status = 'held' and (c.status = 'failed' or c.cost_micros is not null)`;
  expect(stuck, "holds for calls that cost nothing more").toEqual([]);
}

/** Makes the jobs of this name due now and wakes a worker. */
export async function hurry({ owner }: TestApp, task: string) {
  await owner`
    update graphile_worker._private_jobs j set run_at = now() from graphile_worker._private_tasks t
    where t.id = j.task_id and t.identifier = ${task} and j.locked_at is null and j.run_at > now()`;
  await owner`select pg_notify('jobs:insert', '{"r":0,"count":1}')`;
}

/** As if the time of the recovery job's two lookups had passed. */
export async function letSafetyJobsRun(h: TestApp, seconds = 20) {
  await until(async () => {
    await h.owner`update intents set absent_at = absent_at - interval '2 minutes' where status = 'open'`;
    await hurry(h, "intents.resolve");
    const open = await h.owner`select id from intents where status = 'open'`;
    return open.length === 0;
  }, seconds);
}

/** As if every open call had been silent for long enough: each is refreshed. */
export async function sweepNow(h: TestApp) {
  await h.owner`update calls set check_at = now() - interval '1 second' where check_at is not null`;
  await queueSystemJob(h, "calls.sweep");
}

/** Repeats it until done: an event that arrives in between postpones the next refresh. */
export async function sweepUntilBilled(h: TestApp, id: string, seconds = 20) {
  const sweeping = setInterval(() => sweepNow(h).catch(() => {}), 300);
  try {
    await sweepNow(h);
    await until(async () => (await callRow(h, id)).cost_micros !== null, seconds);
  } finally {
    clearInterval(sweeping);
  }
}

export async function queueSystemJob({ owner }: TestApp, task: string, body: object = {}) {
  await owner`select graphile_worker.patchbay_enqueue_for(null, ${JSON.stringify([{ task, body }])}::text::json)`;
}

export async function waitingJobs({ owner }: TestApp, task: string) {
  return owner`
    select j.id, j.payload, j.run_at from graphile_worker._private_jobs j
    join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier = ${task}`;
}

export const inTime = (seconds = 30) => ({ signal: AbortSignal.timeout(seconds * 1000) });

/** Shuffles a list by the seed. */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
  const copy = [...items];
  let status = seed * 2_654_435_761;
  for (let last = copy.length - 1; last > 0; last--) {
    status = (Math.imul(status ^ (status >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    const other = (status >>> 0) % (last + 1);
    [copy[last], copy[other]] = [copy[other]!, copy[last]!];
  }
  return copy;
}
