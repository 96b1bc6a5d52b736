import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { telnyxAccount } from "../../../dev/simulators/telnyx.ts";
import { seedCalls } from "../call-ground.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import type { Sending, Sent } from "../ingress-sender.ts";
import type { Group } from "./figures.ts";

/** The limit of the p99 of acknowledgements. Providers time out later than this, and retry. */
const boundMs = 100;
const warmUpSeconds = 3;
const perSecond = 300;
const patienceMs = 120_000;

type Call = { id: string; upstream: string };

/** Provider messages about calls that have ended and about active calls: from the acknowledgement until they are applied. */
export async function benchIngress(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const { owner } = ground;
  await seedCalls(owner, { calls: 6_000, clients: 1, autovacuum: true });
  const rows = await owner<Call[]>`
    select id, provider_call_id as upstream from calls where status = 'ended' order by id`;
  const calls = rows.map(({ id, upstream }) => ({ id, upstream }));
  const [warm, ended, live] = [calls.slice(0, 500), calls.slice(500, 3_000), calls.slice(3_000)];
  await makeLive(ground, live);
  const send = await openProviders(ground, options);
  await send(warm, warmUpSeconds, "warming up", Number.POSITIVE_INFINITY);
  const groups: Group[] = [];
  for (const [what, theirs] of [
    ["ended calls", ended],
    ["active calls", live],
  ] as const) {
    const seconds = options.quick ? 4 : Math.max(10, options.seconds);
    groups.push(await send(theirs, seconds, what));
  }
  await mustHaveMoved(ground, live);
  return groups;
}

/**
 * Calls that the provider has accepted, without any provider message. Their outcome is final: the simulated provider has no
 * messages of them, so the job that reads them would fail again and again.
 */
async function makeLive({ owner }: Ground, calls: Call[]) {
  const ids = calls.map(({ id }) => id);
  await owner`
    update calls set status = 'ringing', outcome = null, outcome_final = true, duration_seconds = null,
      recording_status = 'none', recording_enabled = false, transcript_status = 'pending' where id = any(${ids})`;
  await owner`update holds set status = 'held', captured_micros = 0 where subject_id = any(${ids})`;
  const [totals] =
    await owner`select client_id, sum(amount_micros)::text as held from holds where status = 'held' group by 1`;
  await owner`
    insert into ledger_accounts (client_id, name, balance_micros)
    select ${totals!.client_id}, name, case name when 'held' then ${totals!.held}::bigint else 0 end
    from unnest(array['available', 'held', 'revenue', 'purchases', 'grants', 'adjustments']) name`;
  await owner`analyze`;
}

/** Otherwise only messages without an effect were measured. */
async function mustHaveMoved({ owner }: Ground, calls: Call[]) {
  const [seen] = await owner`
    select count(*) filter (where status = 'ended')::int as ended, count(*) filter (where cost_micros > 0)::int as billed
    from calls where id = any(${calls.map(({ id }) => id)})`;
  if (!(seen!.ended > 0 && seen!.billed > 0)) throw new Error("the messages about active calls changed none of them");
}

async function openProviders(ground: Ground, { profiles, say: log, object }: BenchOptions) {
  const account = telnyxAccount();
  const stripeSecret = `whsec_${randomBytes(24).toString("hex")}`;
  const environment = { STRIPE_WEBHOOK_SECRETS: stripeSecret, TELNYX_PUBLIC_KEYS: account.publicKey };
  const server = await ground.child("./server-ours.ts", environment);
  const worker = await ground.child("./worker-ours.ts", environment);
  const privateKey = { key: account.privateKey.export({ format: "pem", type: "pkcs8" }) };
  const sender = await ground.child("./ingress-sender.ts", {
    STRIPE_SECRET: stripeSecret,
    ULTRAVOX_SECRET: ground.environment.ULTRAVOX_WEBHOOK_SECRETS,
    TELNYX_ACCOUNT: JSON.stringify({ privateKey }),
  });
  const port = await server.ask<number>("port");
  const processes = [
    ["api", server],
    ["worker", worker],
  ] as const;
  /** Around a whole run, so its figures are higher than without. */
  const profile = async (verb: "start" | "stop", what: string) => {
    if (profiles === null) return;
    const fileOf = (name: string) => join(profiles, `ingress-${name}-${what.replace(" ", "-")}.cpuprofile`);
    await Promise.all(processes.map(([name, child]) => child.ask(`profile.${verb}`, fileOf(name))));
  };
  const used = () => Promise.all([server.ask<number>("cpu"), worker.ask<number>("cpu"), ground.postgresCpu()]);

  return async (calls: Call[], seconds: number, what: string, atMostMs = boundMs): Promise<Group> => {
    log(what);
    await profile("start", what);
    const before = await used();
    const began = performance.now();
    const sent = await sender.ask<Sent>("run", { port, perSecond, seconds, calls } satisfies Sending);
    const acknowledgedAfter = (performance.now() - began) / 1000;
    await allApplied(ground.owner);
    const took = (performance.now() - began) / 1000;
    const after = await used();
    await profile("stop", what);
    const count = perSecond * seconds;
    const [api, work] = [(after[0] - before[0]) / count, (after[1] - before[1]) / count];
    const postgres = after[2] === null || before[2] === null ? null : (after[2] - before[2]) / count;
    const faults = [...(await missing(ground.owner, sent)), ...refusals(sent, count)];
    if (faults.length > 0) throw new Error(faults.join("; "));
    if (sent.p99Ms > atMostMs) object(`ingress, ${what}: p99 is ${Math.round(sent.p99Ms)} ms, not under ${boundMs}`);
    const { p50Ms, p95Ms, p99Ms } = sent;
    const acknowledged = { name: "ours, acknowledged (API)", isPaced: true };
    return {
      work: `provider messages of ${what}, ${perSecond} a second`,
      figures: [
        { ...acknowledged, perSecond: count / acknowledgedAfter, cpu: api, p50Ms, p95Ms, p99Ms },
        {
          ...{ name: "ours, applied (API + worker)", isPaced: true },
          perSecond: count / took,
          cpu: api + work,
          postgres,
          note: `worker ${Math.round(work)} us`,
        },
      ],
    };
  };
}

type Owner = Ground["owner"];

/** Waits until every message is applied. */
async function allApplied(owner: Owner) {
  const until = performance.now() + patienceMs;
  for (;;) {
    const [left] = await owner`select count(*)::int as n from ingress_events where status = 'received'`;
    if (left!.n === 0) return;
    if (performance.now() > until)
      throw new Error(`${left!.n} messages were not applied within ${patienceMs / 1000} s`);
    await sleep(50);
  }
}

/** Every acknowledged message is stored once, and nothing failed. */
async function missing(owner: Owner, { acknowledged }: Sent): Promise<string[]> {
  const faults: string[] = [];
  for (const [provider, keys] of Object.entries(acknowledged)) {
    const [seen] = await owner`
      select count(distinct key)::int as keys, count(*)::int as rows, count(*) filter (where status = 'failed')::int as failed
      from ingress_events where provider = ${provider} and key = any(${keys})`;
    if (seen!.keys !== keys.length) faults.push(`${provider}: ${keys.length - seen!.keys} acknowledged and not stored`);
    if (seen!.rows !== seen!.keys) faults.push(`${provider}: ${seen!.rows - seen!.keys} kept twice`);
    if (seen!.failed > 0) faults.push(`${provider}: ${seen!.failed} could not be applied`);
  }
  return faults;
}

function refusals({ answers: responses }: Sent, count: number): string[] {
  const accepted = Object.entries(responses).filter(([name]) => name.endsWith(" 204"));
  const total = accepted.reduce((sum, [, answered]) => sum + answered, 0);
  return total === count ? [] : [`${count - total} were not acknowledged: ${JSON.stringify(responses)}`];
}
