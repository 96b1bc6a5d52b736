import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { newId } from "../../db/ids.ts";
import { bareDatabase } from "./bare-database.ts";
import type { Child } from "./child.ts";
import type { BenchOptions, Ground } from "./ground.ts";
import { type Round, summed } from "./rounds.ts";
import { table } from "./table.ts";

const count = 20_000;
const warmUpCount = 5_000;
const rounds = 3;
const patienceMs = 60_000;

type Contestant = { name: string; profile: string; worker: Child; sql: postgres.Sql };

/** What the worker adds to a job that does nothing, beside the queue's library alone in a database of its own. */
export async function benchJobs(ground: Ground, { profiles, say }: BenchOptions): Promise<string> {
  const bareUrl = await bareDatabase(ground);
  const bareSql = postgres(bareUrl, { max: 1, onnotice: () => {} });
  const bare = await ground.child("./worker-bare.ts", { DATABASE_URL: bareUrl });
  const ours = await ground.child("./worker-noop.ts");
  const contestants: Contestant[] = [
    { name: "graphile-worker", profile: "bare", worker: bare, sql: bareSql },
    { name: "ours", profile: "ours", worker: ours, sql: ground.owner },
  ];
  const taken = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
  try {
    const last = profiles === null ? rounds : rounds + 1;
    for (let round = 0; round <= last; round++) {
      for (const contestant of contestants) {
        if (round === 0) say(`warming up: ${contestant.name}`);
        const watched = profiles !== null && round > rounds;
        if (watched) await contestant.worker.ask("profile.start");
        const seen = await drained(ground, contestant, round === 0 ? warmUpCount : count);
        if (watched)
          await contestant.worker.ask("profile.stop", join(profiles, `jobs-${contestant.profile}.cpuprofile`));
        if (round > 0 && !watched) taken.get(contestant)!.push(seen);
      }
    }
  } finally {
    await bareSql.end({ timeout: 1 });
    await bare.stop();
    await ours.stop();
  }
  const first = summed(taken.get(contestants[0]!)!);
  const rows = contestants.map((contestant) => {
    const { perSecond, cpu, postgres } = summed(taken.get(contestant)!);
    return [contestant.name, perSecond, cpu, postgres, perSecond / first.perSecond, cpu / first.cpu];
  });
  const heads = ["jobs that do nothing", "jobs/s", "CPU us", "Postgres us", "speed ratio", "CPU ratio"];
  return table(`Jobs: ${rounds} times ${count}, 50 at once`, heads, rows);
}

/** Queues so many in one commit, and waits until the last is gone from the table. */
async function drained({ postgresCpu }: Ground, { worker, sql }: Contestant, jobs: number): Promise<Round> {
  const firstBegun = worker.ask<number>("once", jobs);
  firstBegun.catch(() => {}); // heard below, after the queueing
  const [cpuBefore, postgresBefore] = await sql.begin(async (tx) => {
    await queue(tx, jobs);
    return Promise.all([worker.ask<number>("cpu"), postgresCpu()]);
  });
  const began = await firstBegun;
  const until = performance.now() + patienceMs;
  while ((await sql`select from graphile_worker._private_jobs limit 1`).length > 0) {
    if (performance.now() > until) throw new Error(`jobs are left after ${patienceMs / 1000} s`);
    await sleep(10);
  }
  const ended = performance.timeOrigin + performance.now();
  const [cpu, postgresAfter] = await Promise.all([worker.ask<number>("cpu"), postgresCpu()]);
  const inPostgres = postgresAfter === null || postgresBefore === null ? null : postgresAfter - postgresBefore;
  return { count: jobs, seconds: (ended - began) / 1000, cpu: cpu - cpuBefore, postgres: inPostgres };
}

/** The rows are those of our own queue, in both databases. */
async function queue(tx: postgres.TransactionSql, jobs: number) {
  const envelope = { clientId: newId("client"), requestId: newId("request"), attempt: 0 };
  const payload = { ...envelope, body: { deliveryId: newId("delivery"), claim: 1 } };
  await tx`
    select count(*) from graphile_worker.add_jobs(array(
      select row('webhooks.deliver', ${tx.json(payload)}::json, null, now(), 10, null, 0, null)
        ::graphile_worker.job_spec from generate_series(1, ${jobs})))`;
}
