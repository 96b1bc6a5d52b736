import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import postgres from "postgres";
import { openDatabase } from "../../db/client.ts";
import { migrate } from "../../db/migrate.ts";
import { type ClientJobName, enqueue, type JobPayload, type QueueOptions } from "../../db/queue.ts";
import { noDurability, startPostgres } from "../../dev/postgres.ts";
import { SetupProblem } from "../../dev/simulators/setup-problem.ts";
import type { Task } from "../../jobs/runtime/task.ts";

export type Urls = { tenantUrl: string; systemUrl: string; workerUrl: string };

/** A migrated Postgres with a table where tasks record traces, and an owner's connection to inspect everything. */
export async function openJobsDatabase() {
  const home = await mkdtemp(join(tmpdir(), "patchbay-jobs-"));
  await chmod(home, 0o755);
  const settings = { ...noDurability, max_connections: "300" };
  let server = await startPostgres({ dataDir: join(home, "data"), port: 0, settings });
  const as = (role: string) => {
    const url = new URL(server.url);
    url.username = role;
    url.password = "for-tests";
    return url.href;
  };
  const urls: Urls = {
    tenantUrl: as("patchbay_tenant"),
    systemUrl: as("patchbay_system"),
    workerUrl: as("patchbay_worker"),
  };
  await migrate({ ownerUrl: server.url, roles: urls });
  let owner = postgres(server.url, { max: 3, onnotice: () => {} });
  await owner`create table traces (id text primary key, claim integer not null default 0, begun integer not null default 0,
    done integer not null default 0, done_by text)`;
  await owner`grant select, insert, update, delete on traces to patchbay_tenant, patchbay_system`;
  const db = openDatabase({ ...urls, size: 20 });

  return {
    urls,
    ownerUrl: server.url,
    db,
    get owner() {
      return owner;
    },
    queue: <N extends ClientJobName>(name: N, payload: JobPayload<N>, options?: QueueOptions) =>
      db.asClient({ clientId, requestId: "req_test" }, (tx) => enqueue(tx, name, payload, options)),
    jobs: () => owner<JobRow[]>`
      select j.id::text, t.identifier as task, j.payload, j.key, j.attempts, j.max_attempts, j.locked_by, j.run_at,
             extract(epoch from j.run_at - clock_timestamp())::float8 as due_in
      from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id order by j.id`,
    gaveUp: () => owner`select task, client_id, payload, error from dead_jobs order by created_at`,
    /** Makes all waiting jobs due now. */
    hurry: () =>
      owner`update graphile_worker._private_jobs set run_at = now() where run_at > now() and locked_at is null`,
    async restart() {
      const { port } = server;
      await owner.end({ timeout: 1 });
      await server.stop();
      const patience = AbortSignal.timeout(15_000);
      const start = async (): Promise<typeof server> => {
        try {
          return await startPostgres({ dataDir: join(home, "data"), port, settings });
        } catch (error) {
          if (!(error instanceof SetupProblem) || patience.aborted) throw error; // its port may be in use for a moment
          await sleep(200);
          return start();
        }
      };
      server = await start();
      owner = postgres(server.url, { max: 3, onnotice: () => {} });
    },
    async clear() {
      await owner`truncate graphile_worker._private_jobs, worker_heartbeats, dead_jobs, traces`;
    },
    async close() {
      await Promise.all([db.close(), owner.end({ timeout: 1 })]);
      await server.stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}

export type JobsDatabase = Awaited<ReturnType<typeof openJobsDatabase>>;
export type JobRow = {
  id: string;
  task: string;
  payload: { attempt: number; body: unknown };
  key: string | null;
  attempts: number;
  max_attempts: number;
  locked_by: string | null;
  run_at: Date;
  due_in: number;
};
export const clientId = "client_01m82knxfbfrssk0x3en012rbf";

/** Does its work once, even with competing workers: only the holder of the last claim may record completion. */
export function tracing(by: string, work: (id: string) => Promise<void>): Task<"webhooks.deliver"> {
  return {
    async run({ deliveries }, ctx) {
      const { deliveryId } = deliveries[0]!;
      const [claimed] = await ctx.asClient((tx) =>
        tx.execute<{ claim: number }>(sql`
          update traces set claim = claim + 1, begun = begun + 1 where id = ${deliveryId} and done = 0 returning claim`),
      );
      if (!claimed) return;
      await work(deliveryId);
      await ctx.asClient((tx) =>
        tx.execute(sql`
          update traces set done = done + 1, done_by = ${by} where id = ${deliveryId} and claim = ${claimed.claim}`),
      );
    },
  };
}

export async function until<T>(what: string, seen: () => Promise<T> | T, bound = 40_000): Promise<NonNullable<T>> {
  const end = performance.now() + bound;
  for (;;) {
    const value = await seen();
    if (value) return value as NonNullable<T>;
    if (performance.now() > end) throw new Error(`Not within ${bound} ms: ${what}`);
    await sleep(50);
  }
}
