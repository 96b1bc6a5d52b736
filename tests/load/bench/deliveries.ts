import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { bareDatabase } from "../bare-database.ts";
import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import { best, type Round } from "../rounds.ts";
import {
  bodyOf,
  type Event,
  eventsFor,
  history,
  insertDeliveries,
  insertEvents,
  insertHistory,
  openEndpoints,
  queueFanOuts,
} from "./delivery-rows.ts";
import type { Group } from "./figures.ts";

/** The default concurrency of our worker. */
const concurrency = 150;
const patienceMs = 60_000;
const lookEveryMs = 10;

type Contestant = {
  name: string;
  profile: string;
  child: Child;
  /** Prepared before the measurement. */
  prepare(events: Event[]): Promise<unknown>;
  /** Resolves when no work is left. */
  settled(): Promise<unknown>;
  /** The number of records so far, which grows by one for each event. */
  recorded(): Promise<Record<string, number>>;
};

/** Outbound webhooks with recorded attempts, compared with the queue library with one post and one row. */
export async function benchDeliveries(ground: Ground, { profiles, quick, say: log }: BenchOptions): Promise<Group[]> {
  const [count, warmUp, rounds] = quick ? [2_000, 500, 1] : [10_000, 2_000, 3];
  const sink = await ground.child("./sink.ts");
  const url = `http://127.0.0.1:${await sink.ask<number>("port")}/hook`;
  const endpoints = await openEndpoints(ground, url);
  const bare = await openBare(ground);
  const contestants = await openContestants(ground, bare, url);
  await insertHistory(ground, endpoints);
  const taken = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
  const last = profiles === null ? rounds : rounds + 1;
  for (let round = 0; round <= last; round++) {
    for (const contestant of contestants) {
      if (round === 0) log(`warming up: ${contestant.name}`);
      const watched = profiles !== null && round > rounds;
      if (watched) await contestant.child.ask("profile.start");
      const events = eventsFor(endpoints, round === 0 ? warmUp : count);
      const seen = await measured(ground, contestant, sink, events);
      const file = `deliveries-${contestant.profile}.cpuprofile`;
      if (watched) await contestant.child.ask("profile.stop", join(profiles, file));
      if (round > 0 && !watched) taken.get(contestant)!.push(seen);
    }
  }
  await bare.close();
  const figures = contestants.map((contestant) => ({ name: contestant.name, ...best(taken.get(contestant)!) }));
  return [{ work: `deliveries of 1 kB, ${concurrency} in parallel, ${count} due`, figures }];
}

async function openContestants(ground: Ground, bare: Bare, url: string): Promise<Contestant[]> {
  const queue = await ground.child("./worker-rows.ts", { DATABASE_URL: bare.url, JOBS_AT_ONCE: `${concurrency}` });
  const worker = await ground.child("./worker-ours.ts", { WORKER_PROMPT_JOBS: `${concurrency}` });
  const ours = { child: worker, settled: () => settled(ground), recorded: () => records(ground) };
  return [
    {
      ...{ name: "graphile-worker, a post and a row", profile: "queue", child: queue },
      prepare: (events) => bare.queue(events.map((event) => ({ url, body: bodyOf(event) }))),
      settled: bare.settled,
      recorded: bare.recorded,
    },
    {
      ...{ name: "ours, deliveries that are due", profile: "ours", ...ours },
      async prepare(events) {
        await insertEvents(ground, events);
        await insertDeliveries(ground, events);
      },
    },
    {
      ...{ name: "ours, from the event on", profile: "events", ...ours },
      async prepare(events) {
        await insertEvents(ground, events);
        await queueFanOuts(ground, events);
      },
    },
  ];
}

/** Measures from the first request until the last row is written. Each delivery is sent and recorded once. */
async function measured(ground: Ground, contestant: Contestant, sink: Child, events: Event[]): Promise<Round> {
  const { name, child, recorded } = contestant;
  const before = await recorded();
  await sink.ask("forget");
  const [cpuBefore, postgresBefore] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
  await contestant.prepare(events);
  const prepared = await ground.postgresCpu();
  // Polls the sink first and the database only at the end, so that the polling is not measured.
  await patiently(async () => (await sink.ask<{ posts: number }>("seen")).posts >= events.length);
  await contestant.settled();
  const ended = performance.timeOrigin + performance.now();
  const [cpu, postgres] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
  const { posts, firstAt } = await sink.ask<{ posts: number; firstAt: number }>("seen");
  if (posts !== events.length) throw new Error(`${name}: ${posts} posts of ${events.length} events`);
  for (const [what, soFar] of Object.entries(await recorded())) {
    const grown = soFar - before[what]!;
    if (grown !== events.length) throw new Error(`${name}: ${grown} ${what} of ${events.length} events`);
  }
  // Writing the due rows is not part of a delivery.
  const writing = prepared === null || postgresBefore === null ? 0 : prepared - postgresBefore;
  const inPostgres = postgres === null || postgresBefore === null ? null : postgres - postgresBefore - writing;
  return { count: events.length, seconds: (ended - firstAt) / 1000, cpu: cpu - cpuBefore, postgres: inPostgres };
}

type Bare = Awaited<ReturnType<typeof openBare>>;

/** A separate database for the queue library. */
async function openBare({ environment, owner }: Ground) {
  const url = await bareDatabase({ environment, owner });
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql`create table attempts (id text primary key, status int, latency_ms int, response text,
    created_at timestamptz not null default clock_timestamp())`;
  await sql`insert into attempts (id, status, latency_ms, response)
    select 'before_' || n, 202, 1, 'ok' from generate_series(1, ${history}) n`;
  await sql`analyze`;
  return {
    url,
    /** Enqueues them in one commit. */
    queue: (payloads: { url: string; body: string }[]) => sql`
      select count(*) from graphile_worker.add_jobs(array(
        select row('webhooks.deliver', payload, null, now(), 10, null, 0, null)::graphile_worker.job_spec
        from json_array_elements(${sql.json(payloads)}::json) payload))`,
    settled: () => patiently(async () => (await sql`select from graphile_worker._private_jobs limit 1`).length === 0),
    async recorded() {
      const [kept] = await sql`select count(*)::int as attempts from attempts where status = 200`;
      return { attempts: kept!.attempts as number };
    },
    close: () => sql.end({ timeout: 1 }),
  };
}

/** Waits until nothing is pending and nothing is queued. */
const settled = ({ owner }: Ground) =>
  patiently(async () => {
    const [left] = await owner`
      select exists (select from deliveries where status = 'pending' and admitted_until is null)
          or exists (select from deliveries where status = 'pending' and admitted_until is not null)
          or exists (select from event_fan_outs)
          or exists (select from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
                     where t.identifier = 'webhooks.deliver') as some`;
    return !left!.some;
  });

async function patiently(isOver: () => Promise<boolean>) {
  const until = performance.now() + patienceMs;
  while (!(await isOver())) {
    if (performance.now() > until) throw new Error(`deliveries are still under way after ${patienceMs / 1000} s`);
    await sleep(lookEveryMs);
  }
}

async function records({ owner }: Ground) {
  const [seen] = await owner<{ delivered: number; attempts: number }[]>`
    select (select count(*)::int from deliveries where status = 'delivered' and attempts = 1) as delivered,
      (select count(*)::int from delivery_attempts where status = 200) as attempts`;
  return { ...seen! };
}
