import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { newId } from "../../../db/ids.ts";
import { bareDatabase } from "../bare-database.ts";
import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import { best, type Round } from "../rounds.ts";
import type { Figure, Group } from "./figures.ts";

const atOnce = 50;
const patienceMs = 100_000;
/** After this idle time the worker has polled many times, and Postgres uses a generic plan. */
const idleMs = 4_000;

type Contestant = { name: string; profile: string; file: string; url: string; sql: postgres.Sql };

/** The overhead of our worker on an empty job, compared with the queue library alone in a separate database. */
export async function benchJobs(ground: Ground, { profiles, quick, say: log }: BenchOptions): Promise<Group[]> {
  const [count, warmUp, rounds] = quick ? [3_000, 1_000, 1] : [20_000, 5_000, 3];
  const contestants = await openContestants(ground);
  const workers = new Map<Contestant, Child>();
  for (const contestant of contestants) workers.set(contestant, await startWorker(ground, contestant));
  const taken = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
  const last = profiles === null ? rounds : rounds + 1;
  for (let round = 0; round <= last; round++) {
    for (const contestant of contestants) {
      const worker = workers.get(contestant)!;
      if (round === 0) log(`warming up: ${contestant.name}`);
      const watched = profiles !== null && round > rounds;
      if (watched) await worker.ask("profile.start");
      const seen = await drained(ground, contestant, worker, round === 0 ? warmUp : count);
      if (watched) await worker.ask("profile.stop", join(profiles, `jobs-${contestant.profile}.cpuprofile`));
      if (round > 0 && !watched) taken.get(contestant)!.push(seen);
    }
  }
  await close(contestants);
  const figures = contestants.map((contestant) => ({ name: contestant.name, ...best(taken.get(contestant)!) }));
  return [{ work: `jobs that do nothing, ${count} at a time`, figures }];
}

/** Starts a worker on an empty queue, lets it idle, then adds due jobs. */
export async function benchBacklog(ground: Ground, { quick, say: log }: BenchOptions): Promise<Group[]> {
  const [bare, ours] = (await openContestants(ground)) as [Contestant, Contestant];
  const contestants = [
    { ...bare, name: "graphile-worker, with a new plan each time", url: withNewPlans(bare.url) },
    bare,
    ours,
  ];
  const groups: Group[] = [];
  for (const count of quick ? [1_000, 10_000] : [1_000, 10_000, 100_000]) {
    const figures: Figure[] = [];
    for (const contestant of contestants) {
      log(`${contestant.name}: ${count} due`);
      const worker = await startWorker(ground, contestant);
      await sleep(idleMs / 2);
      await contestant.sql`vacuum (analyze) graphile_worker._private_jobs`; // as autovacuum does once the table is emptied
      await sleep(idleMs / 2);
      const seen = await drainedInPart(ground, contestant, worker, count, quick ? 10_000 : 60_000);
      await worker.stop();
      await contestant.sql`truncate graphile_worker._private_jobs`;
      const each = { cpu: seen.cpu / seen.count, postgres: seen.postgres === null ? null : seen.postgres / seen.count };
      const note = seen.count < count ? `${count - seen.count} left after ${Math.round(seen.seconds)} s` : "";
      figures.push({ name: contestant.name, perSecond: seen.count / seen.seconds, ...each, note });
    }
    groups.push({ work: `worker started on an empty queue, then ${count} due`, figures });
  }
  await close([bare, ours]);
  return groups;
}

/** The library's fetch is planned while the queue is empty, and the plan is kept. This row avoids that. */
function withNewPlans(address: string): string {
  const url = new URL(address);
  url.searchParams.set("options", "-c plan_cache_mode=force_custom_plan");
  return url.href;
}

async function openContestants(ground: Ground): Promise<Contestant[]> {
  const url = await bareDatabase(ground);
  const open = (address: string) => postgres(address, { max: 1, onnotice: () => {} });
  const ours = ground.environment.DATABASE_URL;
  return [
    { name: "graphile-worker", profile: "bare", file: "./worker-bare.ts", url, sql: open(url) },
    { name: "ours", profile: "ours", file: "./worker-noop.ts", url: ours, sql: open(ours) },
  ];
}

const startWorker = (ground: Ground, { file, url }: Contestant) =>
  ground.child(file, { DATABASE_URL: url, JOBS_AT_ONCE: `${atOnce}` });

const close = (contestants: Contestant[]) => Promise.all(contestants.map(({ sql }) => sql.end({ timeout: 1 })));

/** Enqueues the jobs in one commit, and waits until the last is gone from the table. */
async function drained(ground: Ground, contestant: Contestant, worker: Child, jobs: number): Promise<Round> {
  const seen = await drainedInPart(ground, contestant, worker, jobs, patienceMs);
  if (seen.count < jobs) throw new Error(`${contestant.name}: ${jobs - seen.count} jobs are left`);
  return seen;
}

/** The same with a time limit: then it counts the started jobs. */
async function drainedInPart(ground: Ground, { sql }: Contestant, worker: Child, jobs: number, limitMs: number) {
  worker.ask<number>("once", jobs).catch(() => {}); // the number of started jobs is read below
  const [cpuBefore, postgresBefore] = await sql.begin(async (tx) => {
    await queue(tx, jobs);
    return Promise.all([worker.ask<number>("cpu"), ground.postgresCpu()]);
  });
  const until = performance.now() + limitMs;
  const seen = () => worker.ask<{ count: number; firstAt: number }>("soFar");
  let { count, firstAt } = await seen();
  while (count < jobs && performance.now() < until) {
    await sleep(20);
    ({ count, firstAt } = await seen());
  }
  while (count === jobs && (await sql`select from graphile_worker._private_jobs limit 1`).length > 0) {
    if (performance.now() > until + 10_000) throw new Error("rows of jobs are left");
    await sleep(5);
  }
  const ended = performance.timeOrigin + performance.now();
  const [cpu, postgresAfter] = await Promise.all([worker.ask<number>("cpu"), ground.postgresCpu()]);
  const inPostgres = postgresAfter === null || postgresBefore === null ? null : postgresAfter - postgresBefore;
  return { count, seconds: (ended - firstAt) / 1000, cpu: cpu - cpuBefore, postgres: inPostgres };
}

/** Both databases have the job rows of our queue. */
async function queue(tx: postgres.TransactionSql, jobs: number) {
  const envelope = { clientId: newId("client"), requestId: newId("request"), attempt: 0 };
  const payload = { ...envelope, body: { deliveryId: newId("delivery"), claim: 1 } };
  await tx`
    select count(*) from graphile_worker.add_jobs(array(
      select row('webhooks.deliver', ${tx.json(payload)}::json, null, now(), 10, null, 0, null)
        ::graphile_worker.job_spec from generate_series(1, ${jobs})))`;
}
