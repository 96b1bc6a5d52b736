import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type Beating, beatingDefaults } from "../../jobs/runtime/heartbeat.ts";
import { rescueEveryMs } from "../../jobs/runtime/rescue.ts";
import type { Task } from "../../jobs/runtime/task.ts";
import { startWorkers, type Workers } from "../../jobs/runtime/worker.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { type JobsDatabase, openJobsDatabase, tracing, until } from "../support/jobs-database.ts";
import type { ChildNews, ChildOptions } from "../support/worker-child.ts";

/** A tenth of the production timings, not less: a busy machine must not look like a dead worker. */
const beating: Beating = { everyMs: 500, fenceAfterMs: 2_500, deadAfterMs: 3_500 };
/** For tests in which a slow worker must not be fenced. */
const patient: Beating = { everyMs: 1_000, fenceAfterMs: 8_000, deadAfterMs: 11_000 };
const quickRescueMs = 500;
let base: JobsDatabase;
let children: Child[] = [];
let running: Workers[] = [];

beforeAll(async () => {
  base = await openJobsDatabase();
}, 60_000);
beforeEach(() => base.clear());
afterEach(async () => {
  for (const { process } of children) process.kill("SIGKILL");
  await Promise.all(running.map((workers) => workers.stop()));
  children = [];
  running = [];
});
afterAll(() => base.close(), 30_000);

type Child = {
  process: ChildProcess;
  news: ChildNews[];
  pools(): Promise<string[]>;
  begun(id?: string): boolean;
  worked(id: string): boolean;
};

function startChild(options: Partial<ChildOptions> & { name: string }): Child {
  const all: ChildOptions = {
    ...base.urls,
    beating,
    rescueEveryMs: quickRescueMs,
    concurrency: 2,
    workMs: 10,
    ...options,
  };
  const child = fork(new URL("../support/worker-child.ts", import.meta.url), [JSON.stringify(all)], { execArgv: [] });
  const news: ChildNews[] = [];
  child.on("message", (item) => news.push(item as ChildNews));
  const received = (event: string, id?: string) =>
    news.some((item) => item.event === event && (!id || ("id" in item && item.id === id)));
  const started = () => news.filter((item) => item.event === "started");
  const one: Child = {
    process: child,
    news,
    begun: (id) => received("begun", id),
    worked: (id) => received("worked", id),
    async pools() {
      const before = started().length;
      child.send("pools");
      return (await until("it names its pools", () => started()[before])).pools;
    },
  };
  children.push(one);
  return one;
}

async function startHere(
  task: Task<"webhooks.deliver">,
  options: { beating?: Beating; concurrency?: number } = {},
): Promise<Workers> {
  const workers = await startWorkers({
    ...{ workerUrl: base.urls.workerUrl, db: base.db, providers: {} as Providers, log: pino({ level: "silent" }) },
    tasks: { "webhooks.deliver": task, "calls.sweep": { run: async () => {} } },
    concurrency: { prompt: options.concurrency ?? 5, deliveries: options.concurrency ?? 5, slow: 1 },
    heartbeat: options.beating ?? beating,
    ...{ rescueEveryMs: quickRescueMs, pollIntervalMs: 200, graceMs: 2_000 },
  });
  running.push(workers);
  return workers;
}

async function queue(...ids: string[]) {
  for (const id of ids) {
    await base.owner`insert into traces (id) values (${id})`;
    await base.queue("webhooks.deliver", { deliveries: [{ deliveryId: id, claim: 1 }] });
  }
}

const undone = async () => (await base.owner`select id from traces where done = 0`).map(({ id }) => String(id));
const trace = async (id: string) => (await base.owner`select begun, done, done_by from traces where id = ${id}`)[0];
const idle = async () => (await base.jobs()).length === 0;

test("in production a killed worker's jobs run again within a minute, and a fenced worker stops well before", () => {
  const { everyMs, fenceAfterMs, deadAfterMs } = beatingDefaults;
  expect([everyMs, fenceAfterMs, deadAfterMs, rescueEveryMs]).toEqual([5_000, 20_000, 30_000, 10_000]);
  const pollMs = 2_000;
  expect(deadAfterMs + rescueEveryMs + pollMs).toBeLessThan(60_000);
  expect(fenceAfterMs + everyMs).toBeLessThan(deadAfterMs);
});

test("kill -9 during work: running and prefetched jobs run on another worker", async () => {
  const ids = Array.from({ length: 40 }, (_, n) => `job${n}`);
  await queue(...ids);
  const doomed = startChild({ name: "doomed", workMs: null, beating: patient });
  await until("two run, and more are prefetched", async () => {
    const locked = (await base.jobs()).filter(({ locked_by }) => locked_by).length;
    return doomed.news.filter(({ event }) => event === "begun").length === 2 && locked > 3;
  });
  doomed.process.kill("SIGKILL");
  await once(doomed.process, "exit");
  const [last] = await base.owner`
    select max(beat_at)::text as beat_at from worker_heartbeats
    where pool_id in (select locked_by from graphile_worker._private_jobs)`;

  const successor = startChild({ name: "successor", beating: patient });
  await until("all are done", async () => (await undone()).length === 0 && (await idle()), 30_000);
  const [silence] = await base.owner`
    select extract(epoch from clock_timestamp() - ${last!.beat_at}::timestamptz)::float8 * 1000 as ms`;
  expect(silence!.ms, "it was not robbed alive").toBeGreaterThan(patient.deadAfterMs);
  expect(successor.news.filter(({ event }) => event === "worked")).toHaveLength(40);
  expect(await base.owner`select from traces where done <> 1`).toHaveLength(0);
  expect(await base.gaveUp()).toEqual([]);
}, 90_000);

test("SIGSTOP past fence and rescue, then SIGCONT: nothing runs twice, the new owner's row stays, and the stopped worker works again", async () => {
  const sleeper = startChild({ name: "sleeper", workMs: null, beating: patient });
  await until("it has started", () => sleeper.news.length > 0);
  const before = await sleeper.pools();
  await queue("a", "b", "c", "d");
  await until("two run there", () => sleeper.news.filter(({ event }) => event === "begun").length === 2);
  sleeper.process.kill("SIGSTOP");

  const gate = Promise.withResolvers<void>();
  await startHere(
    tracing("successor", () => gate.promise),
    { beating: patient },
  );
  await until(
    "the successor runs all four",
    async () =>
      (await base.owner`select from traces where claim > 0`).length === 4 &&
      (await base.jobs()).every(({ locked_by }) => locked_by && !before.includes(locked_by)),
  );
  const held = await base.jobs();

  sleeper.process.kill("SIGCONT");
  sleeper.process.send("go");
  await until(
    "the sleeper has ended its work",
    () => sleeper.news.filter(({ event }) => event === "worked").length === 2,
  );
  const after = await until("the sleeper has new pools", async () => {
    const pools = await sleeper.pools();
    return pools.every((id) => !before.includes(id)) ? pools : undefined;
  });
  await sleep(1_000); // by now it has written everything it could
  expect((await base.jobs()).map(({ id, locked_by }) => [id, locked_by])).toEqual(
    held.map(({ id, locked_by }) => [id, locked_by]),
  );
  expect(await undone()).toHaveLength(4);
  gate.resolve();
  await until("the successor is done", idle);
  expect(await base.owner`select from traces where done <> 1 or done_by <> 'successor'`).toHaveLength(0);

  await Promise.all(running.map((workers) => workers.stop()));
  running = [];
  await queue("e");
  await until("the sleeper does new work", idle);
  expect(await trace("e")).toMatchObject({ done: 1, done_by: "sleeper" });
  expect(after).toHaveLength(2);
}, 120_000);

/** A pool that others consider dead and that does not notice: it sends no heartbeat, and its fence never closes. */
const blind: Beating = { everyMs: 1e9, fenceAfterMs: 1e9, deadAfterMs: 1e9 };

test.each(["returns", "fails"])(
  "a zombie that knows nothing of it and %s neither removes nor frees nor doubles the row of its successor",
  async (end) => {
    const zombie = Promise.withResolvers<void>();
    const successor = Promise.withResolvers<void>();
    let zombieRuns = false;
    let zombieEnded = false;
    const dead = await startHere(
      {
        async run() {
          zombieRuns = true;
          await zombie.promise;
          zombieEnded = true;
          if (end === "fails") throw new Error("the zombie fails");
        },
      },
      { beating: blind, concurrency: 1 },
    );
    await queue("a");
    await until("the zombie runs it", () => zombieRuns);
    await startHere(
      tracing("successor", () => successor.promise),
      { beating: patient },
    );
    await until(
      "the successor runs it",
      async () => (await trace("a"))?.begun === 1 && (await base.jobs())[0]?.locked_by,
    );
    const [held] = await base.jobs();
    expect(dead.pools).not.toContain(held!.locked_by);

    zombie.resolve();
    await until("the zombie has ended", () => zombieEnded);
    await sleep(500);
    expect(await base.jobs()).toEqual([{ ...held!, due_in: expect.any(Number) }]);
    successor.resolve();
    await until("the successor is done", idle);
    expect(await trace("a")).toMatchObject({ done: 1, done_by: "successor" });
  },
  90_000,
);

test("only the holder of a lock removes its row, also with concurrent removals", async () => {
  const as = async (pool: string | null, text: string) => {
    const client = new pg.Client({ connectionString: base.urls.workerUrl });
    await client.connect();
    if (pool) await client.query("select set_config('patchbay.pool', $1, false)", [pool]);
    const { rowCount } = await client.query(text);
    await client.end();
    return rowCount;
  };
  await base.owner`select graphile_worker.add_job('webhooks.deliver') from generate_series(1, 6)`;
  await base.owner`update graphile_worker._private_jobs set locked_at = now(), locked_by = case when id % 3 = 0 then 'pool-a' else 'pool-b' end
    where id % 3 < 2`;
  const all = "delete from graphile_worker._private_jobs";
  expect(await as("pool-zombie", all)).toBe(0);
  expect(await as("pool-a", all)).toBe(2);
  expect(await as(null, all)).toBe(2); // the two without a lock
  expect(await as("pool-b", all)).toBe(2);
});

test("jobs of a pool are not rescued right after its start, nor while it sends heartbeats", async () => {
  const gate = Promise.withResolvers<void>();
  const one = await startHere(
    tracing("one", () => gate.promise),
    { beating: patient },
  );
  await queue("a");
  await until("it runs", async () => (await trace("a"))?.begun === 1);
  await startHere(
    tracing("two", async () => {}),
    { beating: patient },
  );
  await sleep(patient.deadAfterMs + 2 * quickRescueMs);
  expect(one.pools).toContain((await base.jobs())[0]!.locked_by);
  expect(await base.owner`select pool_id from worker_heartbeats`).toHaveLength(4);
  gate.resolve();
  await until("it is done", idle);
  expect(await trace("a")).toMatchObject({ begun: 1, done: 1 });
}, 90_000);

test("a pool that finds itself declared dead is replaced, although its own clock shows no gap", async () => {
  const workers = await startHere(tracing("here", async () => {}));
  const before = workers.pools;
  await base.owner`delete from worker_heartbeats`;
  await until("it has new names", () => workers.pools.every((id) => !before.includes(id)));
  await queue("a");
  await until("it works", idle);
  expect(await trace("a")).toMatchObject({ done: 1 });
});

test("old locks of a pool without any heartbeat are freed", async () => {
  await queue("a");
  const began = performance.now();
  await base.owner`update graphile_worker._private_jobs set attempts = 1, locked_at = now() - interval '2 seconds', locked_by = 'pool-unknown'`;
  await startHere(tracing("here", async () => {}));
  await until("it is done", idle);
  expect(performance.now() - began).toBeGreaterThan(beating.deadAfterMs - 2_200);
  expect(await trace("a")).toMatchObject({ done: 1 });
}, 30_000);

test("a job that kills its process becomes a dead job, and the other jobs are done", async () => {
  await queue("poison", "a", "b", "c");
  await base.owner`update graphile_worker._private_jobs set max_attempts = 2 where payload #>> '{body,deliveries,0,deliveryId}' = 'poison'`;
  let deaths = 0;
  let over = false;
  const respawn = () => {
    if (over) return;
    startChild({ name: "victim", workMs: 200 }).process.once("exit", (_, signal) => {
      if (signal === "SIGKILL") deaths++;
      respawn();
    });
  };
  respawn();
  const givenUp = async () => {
    await base.hurry();
    const found = await base.gaveUp();
    return found.length > 0 && (await idle()) ? found : undefined;
  };
  const rows = await until("it was given up", givenUp, 40_000).finally(() => {
    over = true;
  });
  expect(deaths).toBe(2);
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({
    task: "webhooks.deliver",
    payload: { deliveries: [{ deliveryId: "poison", claim: 1 }] },
  });
  expect(rows[0]!.error).toMatch(/started 2 times/);
  expect(await undone()).toEqual(["poison"]);
}, 60_000);

test("a job replaced by a newer one with its key, while its worker died, is no dead job", async () => {
  await base.owner`insert into traces (id) values ('old'), ('new')`;
  await base.queue("webhooks.deliver", { deliveries: [{ deliveryId: "old", claim: 1 }] }, { key: "k" });
  await base.owner`update graphile_worker._private_jobs set attempts = 1, locked_at = now() - interval '1 minute', locked_by = 'pool-gone'`;
  await base.queue("webhooks.deliver", { deliveries: [{ deliveryId: "new", claim: 1 }] }, { key: "k" });
  await startHere(tracing("here", async () => {}));
  await until("both are gone", idle);
  expect(await undone()).toEqual(["old"]);
  expect(await base.gaveUp()).toEqual([]);
});

test("a worker survives a database restart", async () => {
  const workers = await startHere(tracing("here", async () => {}));
  await queue("a");
  await until("it works", idle);
  await base.restart();
  await queue("b");
  await until("it works again", idle, 30_000);
  expect(await trace("b")).toMatchObject({ done: 1 });
  expect(workers.pools).toHaveLength(2);
}, 60_000);
