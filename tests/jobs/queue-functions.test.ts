import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { jobs } from "../../db/job-list.ts";
import { cloneDatabase } from "../support/database.ts";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let owner: postgres.Sql;

beforeAll(async () => {
  database = await cloneDatabase();
  owner = postgres(database.url, { max: 1, onnotice: () => {} });
});
beforeEach(() => owner`truncate graphile_worker._private_jobs restart identity`);
afterAll(async () => {
  await owner.end();
  await database.drop();
});

type Job = { task: string; key?: string; priority?: number; runAt?: string };
const later = "2030-01-01T00:00:00Z";
const body = (task: string) => ({ clientId: "client_1", requestId: null, attempt: 0, body: { of: task } });

/** By the library. */
const addTheirs = (sql: postgres.Sql, given: readonly Job[]) => sql`
  select count(*) from graphile_worker.add_jobs(array(
    select row(j->>'task', j->'payload', null, (j->>'runAt')::timestamptz, 10, j->>'key', (j->>'priority')::int, null)::graphile_worker.job_spec
    from json_array_elements(${JSON.stringify(given.map((job) => ({ ...job, payload: body(job.task), runAt: job.runAt ?? later })))}::text::json) j))`;

/** By our function. */
const addOurs = (sql: postgres.Sql, given: readonly Job[]) => sql`
  select graphile_worker.patchbay_add('client_1', ${JSON.stringify(
    given.map((job) => ({ ...job, runAt: job.runAt ?? later, body: { of: job.task } })),
  )}::text::json)`;

/** All columns except for the present time and the id: the library adds several jobs in no certain order. */
const rows = () => owner`
  select k.identifier, j.job_queue_id, j.payload::jsonb as payload, j.priority, j.run_at, j.attempts, j.max_attempts, j.last_error,
    j.key, j.locked_at is not null as locked, j.locked_by, j.revision, j.flags, j.is_available
  from graphile_worker._private_jobs j join graphile_worker._private_tasks k on k.id = j.task_id order by j.key, j.is_available, j.locked_at, j.payload::text`;

const lock = () =>
  owner`update graphile_worker._private_jobs set locked_at = '2030-01-01', locked_by = 'pool', attempts = 1`;

type Add = (given: readonly Job[]) => Promise<unknown>;
const cases: Record<string, (add: Add) => Promise<unknown>> = {
  "jobs without keys": (add) => add([{ task: "calls.sweep" }, { task: "calls.sweep", priority: -10 }]),
  "a job with a new key": (add) => add([{ task: "calls.sweep", key: "a" }]),
  "a key of a waiting job, which is replaced": async (add) => {
    await add([{ task: "calls.sweep", key: "a", priority: 3 }]);
    await add([{ task: "intents.sweep", key: "a", runAt: "2031-01-01T00:00:00Z" }]);
  },
  "a key of a job that has failed, whose attempts and error are reset": async (add) => {
    await add([{ task: "calls.sweep", key: "a" }]);
    await owner`update graphile_worker._private_jobs set attempts = 3, last_error = 'broken'`;
    await add([{ task: "calls.sweep", key: "a" }]);
  },
  "a key of a running job, which loses its key and its attempts": async (add) => {
    await add([{ task: "calls.sweep", key: "a" }]);
    await lock();
    await add([{ task: "calls.sweep", key: "a" }]);
  },
  "a key of an exhausted job": async (add) => {
    await add([{ task: "calls.sweep", key: "a" }]);
    await owner`update graphile_worker._private_jobs set attempts = max_attempts`;
    await add([{ task: "calls.sweep", key: "a" }]);
  },
  "several jobs, some with keys that exist": async (add) => {
    await add([
      { task: "calls.sweep", key: "a" },
      { task: "calls.sweep", key: "b" },
    ]);
    await owner`update graphile_worker._private_jobs set locked_at = '2030-01-01', locked_by = 'pool' where key = 'a'`;
    await add([
      { task: "calls.sweep", key: "a" },
      { task: "calls.sweep", key: "b" },
      { task: "calls.sweep", key: "c" },
      { task: "calls.sweep" },
    ]);
  },
  "a task that was never queued before": (add) => add([{ task: "never.seen", key: "a" }]),
};

describe("patchbay_add has the effect of the library's add_jobs", () => {
  test.each(Object.entries(cases))("for %s", async (_, run) => {
    await run((given) => addTheirs(owner, given));
    const theirs = await rows();
    await owner`truncate graphile_worker._private_jobs restart identity`;
    await run((given) => addOurs(owner, given));
    expect([...(await rows())]).toEqual([...theirs]);
    expect(theirs.length).toBeGreaterThan(0);
  });

  test("for a key twice in one call, which both refuse", async () => {
    const twice = [
      { task: "calls.sweep", key: "a" },
      { task: "calls.sweep", key: "a" },
    ];
    await expect(addTheirs(owner, twice)).rejects.toMatchObject({ code: "21000" });
    await expect(addOurs(owner, twice)).rejects.toMatchObject({ code: "21000" });
  });

  test.each(["theirs", "ours"] as const)("for two transactions that queue the same key (%s)", async (whose) => {
    const add = whose === "ours" ? addOurs : addTheirs;
    await add(owner, [{ task: "calls.sweep", key: "a" }]);
    const other = postgres(database.url, { max: 2, onnotice: () => {} });
    const both = [1, 2, 3, 4].map((priority) =>
      other.begin(async (tx) => {
        await add(tx as unknown as postgres.Sql, [{ task: "calls.sweep", key: "a", priority }]);
        await tx`select pg_sleep(0.05)`;
      }),
    );
    await Promise.all(both);
    await other.end();
    const found = await rows();
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ key: "a", revision: 4, attempts: 0 });
  });
});

test("a job that is put back keeps its task, its key, its priority and its request", async () => {
  const worker = postgres(database.roles.workerUrl, { max: 1, onnotice: () => {} });
  await addOurs(owner, [{ task: "calls.sweep", key: "a", priority: -10 }]);
  await lock();
  await worker`select set_config('patchbay.pool', 'pool', false)`;
  const next = { clientId: "client_1", requestId: "req_1", attempt: 1, body: { of: "calls.sweep" } };
  const [put] = await worker`
    select graphile_worker.patchbay_put_next(id, 'pool', 'a', ${JSON.stringify(next)}::text::json, 60) as put from (values (1::bigint)) j(id)`;
  expect(put).toEqual({ put: "put" });
  await worker.end();
  const [row, ...more] = await rows();
  expect(more).toEqual([]);
  expect(row).toMatchObject({ identifier: "calls.sweep", key: "a", priority: -10, max_attempts: 10, payload: next });
  expect(row).toMatchObject({ attempts: 0, locked: false, is_available: true });
  expect(row!.run_at.getTime()).toBeGreaterThan(Date.now() + 50_000);
});

test("every task is registered by the migration, so that no transaction has to", async () => {
  const fresh = await cloneDatabase();
  const sql = postgres(fresh.url, { max: 1, onnotice: () => {} });
  const known = await sql`select identifier from graphile_worker._private_tasks`;
  await sql.end();
  await fresh.drop();
  expect(known.map(({ identifier }) => identifier)).toEqual(expect.arrayContaining(Object.keys(jobs)));
});

test("no function of ours notifies inside of the transaction", async () => {
  const notifying = await owner`
    select oid::regprocedure::text as name from pg_proc where pronamespace in ('graphile_worker'::regnamespace, 'app'::regnamespace)
      and prosrc ~* '(pg_notify|\\mnotify\\M)' and proname like 'patchbay%'`;
  expect([...notifying]).toEqual([]);
});
