import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ClientJobName, JobPayload } from "../../db/queue.ts";
import { auditHash, chainAudit } from "../../jobs/audit-chain.ts";
import { canonicalJson } from "../../jobs/canonical-json.ts";
import { expire, keepPartitions } from "../../jobs/maintenance.ts";
import { Fence, Fenced } from "../../jobs/runtime/fence.ts";
import { type JobContext, retryDelaySeconds, type Tasks } from "../../jobs/runtime/task.ts";
import { startWorkers, type WorkerOptions, type Workers } from "../../jobs/runtime/worker.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { clientId, type JobsDatabase, openJobsDatabase, tracing, until } from "../support/jobs-database.ts";

const stranger = "client_01m82knxfbfrssk0x3en012rbg";
let base: JobsDatabase;
let running: Workers[] = [];
let lines: Record<string, unknown>[] = [];
const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
const jobLines = () => lines.filter(({ msg }) => msg === "job");

beforeAll(async () => {
  base = await openJobsDatabase();
}, 60_000);
beforeEach(() => base.clear());
afterEach(async () => {
  await Promise.all(running.map((workers) => workers.stop()));
  running = [];
  lines = [];
});
afterAll(() => base.close(), 30_000);

async function start(tasks: Partial<Tasks>, options: Partial<WorkerOptions> = {}): Promise<Workers> {
  const workers = await startWorkers({
    ...{ workerUrl: base.urls.workerUrl, db: base.db, providers: {} as Providers, log, tasks },
    ...{
      concurrency: { prompt: 10, deliveries: 10, slow: 2 },
      pollIntervalMs: 200,
      rescueEveryMs: 300,
      graceMs: 3_000,
    },
    ...options,
  });
  running.push(workers);
  return workers;
}

const empty = async () => (await base.jobs()).length === 0;
const deliver = (deliveryId: string, options = {}) =>
  base.queue("webhooks.deliver", { deliveries: [{ deliveryId, claim: 1 }] }, options);

test("a job runs within the tenant isolation of the client that it was queued for", async () => {
  await base.owner`insert into clients (id, name) values (${clientId}, 'One'), (${stranger}, 'Two') on conflict do nothing`;
  let ctx: JobContext | undefined;
  const seen: string[] = [];
  await start({
    "calls.refresh": {
      async run({ callId }, given) {
        ctx = given;
        await given.asClient(async (tx) => {
          await tx.execute(sql`insert into event_counters (subject_id, sequence) values (${callId}, 1)`);
        });
        const rows = await given.asClient((tx) => tx.execute(sql`select client_id from event_counters`), {
          mode: "read",
        });
        seen.push(...rows.map((row) => String(row.client_id)));
      },
    },
  });
  await base.owner`insert into event_counters (client_id, subject_id, sequence) values (${stranger}, 'theirs', 1) on conflict do nothing`;
  await base.queue("calls.refresh", { callId: "call_1" });
  await until("the job is done", empty);

  expect(seen).toEqual([clientId]);
  expect(ctx).toMatchObject({ clientId, requestId: "req_test", attempt: 0 });
  expect(jobLines()).toHaveLength(1);
  expect(jobLines()[0]).toMatchObject({
    task: "calls.refresh",
    client_id: clientId,
    request_id: "req_test",
    outcome: "done",
    attempt: 0,
  });
});

test("a system job has no client to act for", async () => {
  const failures: unknown[] = [];
  await start({
    "calls.sweep": {
      async run(_, ctx) {
        await ctx.asSystem((tx) => tx.execute(sql`select from clients`), { mode: "read" });
        await ctx.asClient(async () => {}).catch((error) => failures.push(error));
      },
    },
  });
  await base.owner`select graphile_worker.add_job('calls.sweep', '{"_cron": {"ts": "2026-11-22T10:00:00Z", "backfilled": false}}'::json)`;
  await until("the job is done", empty);
  expect(String(failures[0])).toMatch(/is a system job/);
  expect(jobLines()[0]).toMatchObject({ outcome: "done", client_id: null });
});

test("background work of a job fails neither the job nor the process, and the log has who will do it", async () => {
  const aside = Promise.withResolvers<void>();
  await start({
    "webhooks.deliver": {
      async run(_, ctx) {
        ctx.inBackground(aside.promise, "the sweep will do it");
      },
    },
  });
  await deliver("dlv_1");
  await until("the job is done", empty);
  expect(jobLines()).toMatchObject([{ outcome: "done" }]);
  aside.reject(new Error("the line is cut"));
  const told = () => lines.find(({ msg }) => msg === "the sweep will do it");
  await until("it is logged", async () => told() !== undefined);
  expect(told()).toMatchObject({ level: 40, task: "webhooks.deliver", err: { message: "the line is cut" } });
});

test("the delay of a retry is that of its schedule or up to a fifth more, never less", () => {
  expect(retryDelaySeconds([5, 60], 0, 0)).toBe(5);
  expect(retryDelaySeconds([5, 60], 1, 0.5)).toBe(66);
  expect(retryDelaySeconds([5, 60], 1, 0.999)).toBeLessThan(72);
  expect(retryDelaySeconds([5, 60], 2, 0)).toBeUndefined();
});

test("a failing job is tried again on its schedule, never early, and gives up after the last attempt", async () => {
  const attempts: number[] = [];
  const gaveUp: string[] = [];
  await start({
    "webhooks.deliver": {
      async run(_, ctx) {
        attempts.push(ctx.attempt);
        throw new Error("no server");
      },
      async onExhausted({ deliveries }, _, error) {
        gaveUp.push(`${deliveries[0]!.deliveryId}: ${error.message}`);
      },
    },
  });
  // An attempt's time counts from somewhere between the beginning of its transaction and this note.
  await base.owner.unsafe(`
    create table notes (attempt integer, attempts integer, max_attempts integer, longest float8, shortest float8);
    create function note() returns trigger language plpgsql security definer as $$ begin
      insert into public.notes values ((new.payload->>'attempt')::integer, new.attempts, new.max_attempts,
        extract(epoch from new.run_at - new.created_at), extract(epoch from new.run_at - clock_timestamp()));
      return null;
    end $$;
    create trigger note after insert on graphile_worker._private_jobs for each row execute function note()`);
  try {
    await deliver("d1");
    await until("it has given up", async () => {
      await base.hurry();
      return empty();
    });
    const notes = await base.owner`select * from notes where attempt > 0 order by attempt`;
    expect(notes.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    for (const [index, seconds] of [1, 5, 15].entries()) {
      expect(notes[index]).toMatchObject({ attempts: 0, max_attempts: 10 });
      expect(notes[index]!.longest).toBeGreaterThanOrEqual(seconds);
      expect(notes[index]!.shortest).toBeLessThanOrEqual(seconds * 1.2);
    }
  } finally {
    await base.owner`drop function note cascade`;
    await base.owner`drop table notes`;
  }

  expect(attempts).toEqual([0, 1, 2, 3]);
  expect(gaveUp).toEqual(["d1: no server"]);
  expect(await base.gaveUp()).toEqual([
    {
      task: "webhooks.deliver",
      client_id: clientId,
      payload: { deliveries: [{ deliveryId: "d1", claim: 1 }] },
      error: "no server",
    },
  ]);
  await until("all are logged", () => jobLines().length === 4);
  expect(jobLines().map(({ outcome }) => outcome)).toEqual(["retry", "retry", "retry", "gave_up"]);
  expect(jobLines().at(-1)).toMatchObject({ alert: true, level: 50 });
});

test("a retry really waits for its time", async () => {
  const at: number[] = [];
  await start({
    "webhooks.deliver": {
      async run() {
        at.push(performance.now());
        if (at.length === 1) throw new Error("not yet");
      },
    },
  });
  await deliver("d1");
  await until("it has succeeded", empty);
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(999);
});

test("an unreadable job becomes a dead letter immediately", async () => {
  await start({ "webhooks.deliver": tracing("a", async () => {}), "calls.sweep": { run: async () => {} } });
  const add = (payload: string, task = "webhooks.deliver") =>
    base.owner`select graphile_worker.add_job(${task}, ${payload}::text::json)`;
  await add('{"clientId":"client_x","attempt":0,"body":{"deliveries":[{"deliveryId":7}]}}');
  await add('"no envelope \\u0000"');
  await add('{"clientId":null,"attempt":0,"body":{"deliveries":[{"deliveryId":"d1","claim":1}]}}');
  await add('{"_cron":{"ts":"2026-11-22T10:00:00Z"}}');
  await until("all are put aside", empty);

  const rows = await base.gaveUp();
  expect(rows).toHaveLength(4);
  expect(rows.every(({ task }) => task === "webhooks.deliver")).toBe(true);
  expect(rows.map(({ error }) => error).join("\n")).toMatch(/deliveryId: /);
  await until("all are logged", () => jobLines().length === 4);
  expect(jobLines().every(({ outcome, alert }) => outcome === "unreadable" && alert === true)).toBe(true);
});

test("the crontab accepts names of system jobs, and refuses client jobs", async () => {
  await start({ "calls.sweep": { run: async () => {} } }, { crontab: "\n* * * * * calls.sweep\n# a remark\n" });
  await until(
    "the line is known",
    async () => (await base.owner`select from graphile_worker._private_known_crontabs`).length === 1,
  );
  await expect(
    start({ "calls.sweep": { run: async () => {} } }, { crontab: "* * * * * calls.refresh" }),
  ).rejects.toThrow(/names no system job/);
});

test("a newer job of the same key takes precedence over the retry of the older", async () => {
  const gate = Promise.withResolvers<void>();
  const ran: string[] = [];
  await start({
    "webhooks.deliver": {
      async run({ deliveries }) {
        const { deliveryId } = deliveries[0]!;
        ran.push(deliveryId);
        if (deliveryId !== "old") return;
        await gate.promise;
        throw new Error("failed");
      },
    },
  });
  await deliver("old", { key: "k" });
  await until("the old one runs", () => ran.length === 1);
  await deliver("new", { key: "k", delaySeconds: 1 });
  gate.resolve();
  await until("both are over", empty);
  expect(ran).toEqual(["old", "new"]);
  expect(jobLines()[0]).toMatchObject({ outcome: "superseded" });
  expect(await base.gaveUp()).toEqual([]);
});

test("a retry keeps the key of its job", async () => {
  const workers = await start({ "webhooks.deliver": { run: async () => Promise.reject(new Error("no")) } });
  await deliver("d1", { key: "k" });
  await until("a retry waits", async () =>
    (await base.jobs()).some(({ payload, locked_by }) => payload.attempt >= 1 && !locked_by),
  );
  await workers.stop();
  await deliver("d2", { key: "k", delaySeconds: 60 });
  expect((await base.jobs()).map(({ key, payload }) => [key, payload.body])).toEqual([
    ["webhooks.deliver:k", { deliveries: [{ deliveryId: "d2", claim: 1 }] }],
  ]);
});

test("a worker that stops lets its running jobs finish, and returns the others to the queue", async () => {
  const gate = Promise.withResolvers<void>();
  let begun = 0;
  const workers = await start(
    {
      "webhooks.deliver": {
        async run() {
          begun++;
          await gate.promise;
        },
      },
    },
    { concurrency: { prompt: 2, deliveries: 2, slow: 1 } },
  );
  for (let n = 0; n < 10; n++) await deliver(`d${n}`);
  const locked = async () => (await base.jobs()).filter(({ locked_by }) => locked_by !== null).length;
  await until("two run, and more are fetched ahead", async () => begun === 2 && (await locked()) > 2);
  const stopped = workers.stop();
  await until("those fetched ahead are given back", async () => (await locked()) === 2);
  gate.resolve();
  await stopped;

  expect(begun).toBe(2);
  const left = await base.jobs();
  expect(left).toHaveLength(8);
  expect(left.every(({ locked_by, attempts }) => locked_by === null && attempts === 0)).toBe(true);
  expect(await base.owner`select from worker_heartbeats`).toHaveLength(0);
});

test("a job that does not end in time is aborted, and runs again elsewhere as the same attempt", async () => {
  const seen: number[] = [];
  const tasks: Partial<Tasks> = {
    "webhooks.deliver": {
      async run(_, ctx) {
        seen.push(ctx.attempt);
        if (seen.length === 1) await sleep(60_000, undefined, { signal: ctx.signal });
      },
    },
  };
  const workers = await start(tasks, { graceMs: 300 });
  await deliver("d1");
  await until("it runs", () => seen.length === 1);
  await workers.stop();
  expect(jobLines()[0]).toMatchObject({ outcome: "interrupted" });
  await start(tasks);
  await base.hurry();
  await until("it is done", empty);
  expect(seen).toEqual([0, 0]);
});

test("a job that does not listen cannot hold up the end, nor record anything after it", async () => {
  const gate = Promise.withResolvers<void>();
  let begun = false;
  let outcome: unknown = "still running";
  const workers = await start(
    {
      "webhooks.deliver": {
        async run(_, ctx) {
          begun = true;
          await gate.promise;
          outcome = await ctx.asClient(async () => "recorded").catch((error) => error);
        },
      },
    },
    { graceMs: 100 },
  );
  await deliver("d1");
  await until("it runs", () => begun);
  await workers.stop();
  gate.resolve();
  await until("it tried", () => outcome !== "still running");
  expect(outcome).toBeInstanceOf(Fenced);
  expect(await base.jobs()).toHaveLength(1);
});

test.each([
  ["webhooks.deliver", { deliveries: [{ deliveryId: "d1", claim: 1 }] }],
  ["calls.fetchRecording", { callId: "c1" }],
] as [ClientJobName, JobPayload<ClientJobName>][])(
  "a pool that could ask nothing when it began is not taken for one that works: of %s",
  async (name, body) => {
    let done = 0;
    const started = await start(
      { [name]: { run: async () => void done++ } },
      { heartbeat: { everyMs: 300, fenceAfterMs: 4_000, deadAfterMs: 6_000 } },
    );
    const [before] = started.pools;
    await base.owner`alter table graphile_worker._private_tasks rename to tasks_away`;
    try {
      await base.owner`truncate worker_heartbeats`; // the pool counts as dead, and is replaced
      await until(
        "new ones have tried",
        () => lines.filter(({ msg }) => msg === "pool not started; will retry").length >= 3,
      );
    } finally {
      await base.owner`alter table graphile_worker.tasks_away rename to _private_tasks`;
    }
    await base.queue(name, body);
    await until("it is done", () => done === 1);
    expect(started.pools).toHaveLength(1);
    expect(started.pools).not.toContain(before);
  },
);

test("every job is done although the queue's connections are cut again and again", async () => {
  await base.owner`insert into traces (id) select 'd' || n from generate_series(1, 60) n`;
  await start(
    { "webhooks.deliver": tracing("a", () => sleep(50)) },
    {
      ...{ concurrency: { prompt: 5, deliveries: 5, slow: 1 }, graceMs: 500 },
      // Where giving back the locks was cut off too, they wait for the rescue.
      heartbeat: { everyMs: 300, fenceAfterMs: 4_000, deadAfterMs: 6_000 },
    },
  );
  for (let n = 1; n <= 60; n++) await deliver(`d${n}`);
  for (let n = 0; n < 8; n++) {
    await base.owner`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'patchbay_worker'`;
    await sleep(120);
  }
  // A completion that got lost breaks its pool; when nothing runs in it any more, its locks are given back.
  await until("all are done", async () => {
    await base.hurry();
    return (await base.owner`select from traces where done = 0`).length === 0 && (await empty());
  });
  expect(await base.owner`select from traces where done <> 1`).toHaveLength(0);
}, 60_000);

test("a timer never runs over itself, and one that fails runs again", async () => {
  let at = 0;
  let most = 0;
  let rounds = 0;
  const timer = {
    name: "slow-round",
    everyMs: 50,
    async run() {
      most = Math.max(most, ++at);
      rounds++;
      await sleep(120);
      at--;
      throw new Error("failed");
    },
  };
  await start({ "calls.sweep": { run: async () => {} } }, { timers: [timer] });
  await until("it has run often", () => rounds >= 4);
  expect(most).toBe(1);
  expect(lines.some(({ msg, timer }) => msg === "timer failed" && timer === "slow-round")).toBe(true);
});

test("the fence closes for good once too much time has passed since the last confirmed beat was sent", () => {
  let now = 0;
  const fence = new Fence(20_000, 0, () => now);
  now = 15_000;
  fence.check();
  fence.confirm(14_000);
  now = 34_000;
  fence.check();
  now = 34_001;
  expect(() => fence.check()).toThrow(Fenced);
  fence.confirm(34_000);
  expect(fence.closed).toBe(true);
  expect(fence.signal.aborted).toBe(true);
});

test("a beat that is answered too late opens nothing", () => {
  let now = 0;
  const fence = new Fence(20_000, 0, () => now);
  now = 21_000;
  fence.confirm(19_000);
  expect(fence.closed).toBe(true);
});

const context = (): JobContext => {
  const asSystem: JobContext["asSystem"] = (work, options) => base.db.asSystem(work, options);
  const signal = new AbortController().signal;
  const fence = { check: () => {} };
  return {
    jobId: "1",
    attempt: 0,
    lostRuns: 0,
    clientId: null,
    requestId: null,
    log,
    providers: {} as Providers,
    db: base.db,
    asClient: asSystem,
    asSystem,
    fence,
    inBackground: (work) => void work.catch(() => {}),
    signal,
    pool: { slots: 1, draining: signal },
  };
};

test("idempotency keys go when their day is over", async () => {
  await base.owner`insert into clients (id, name) values (${clientId}, 'One') on conflict do nothing`;
  await base.owner`insert into idempotency_keys (client_id, principal, key, fingerprint, request_id, status, expires_at)
    select ${clientId}, 'p', 'k' || n, 'f', 'r', 'answered', now() + case when n <= 2500 then -1 else 1 end * interval '1 hour'
    from generate_series(1, 2510) n`;
  await expire.run({}, context());
  expect((await base.owner`select from idempotency_keys`).length).toBe(10);
});

test("partitions of the next months exist, those past their age are dropped, audit stays", async () => {
  const old = ["events", "delivery_attempts", "ingress_events", "audit_log", "call_messages"];
  for (const table of old) {
    await base.owner.unsafe(
      `create table ${table}_202001 partition of ${table} for values from ('2020-01-01') to ('2020-02-01')`,
    );
  }
  await base.owner`insert into ingress_keys (provider, provider_account_id, key, ingress_id, received_at)
    values ('u', 'a', 'old', 'i', now() - interval '91 days'), ('u', 'a', 'young', 'i', now() - interval '89 days')`;
  await keepPartitions.run({}, context());
  const left = await base.owner`select relname from pg_class where relname ~ '_202001$' and relkind = 'r' order by 1`;
  expect(left.map(({ relname }) => relname)).toEqual(["audit_log_202001", "call_messages_202001"]);
  expect((await base.owner`select key from ingress_keys`).map(({ key }) => key)).toEqual(["young"]);
});

test("canonical JSON has one text for one value", () => {
  expect(canonicalJson({ b: [{ d: 1, c: null }], a: "x" })).toBe('{"a":"x","b":[{"c":null,"d":1}]}');
});

test("audit rows are chained per client in the order of writing, and one still open is waited for", async () => {
  const [clock] = await base.owner<{ at: Date }[]>`select now() as at`;
  const { at } = clock!;
  const write = (client: string, id: string, seconds: number) => base.owner`
    insert into audit_log (client_id, id, actor, action, input, request_id, created_at)
    values (${client}, ${id}, 'user', 'agents.create', '{"b": 1, "a": [2]}', 'req', ${at}::timestamptz - make_interval(secs => ${seconds}))`;
  await base.owner`delete from audit_log`;
  await write(clientId, "aud_2", 8);
  await write(stranger, "aud_x", 7);
  await write(clientId, "aud_1", 9);
  await write(clientId, "aud_3", -3600);

  const opened = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const open = base.owner.begin(async (tx) => {
    await tx`insert into audit_log (client_id, id, actor, action, input, request_id, created_at)
      values (${clientId}, 'aud_0', 'user', 'agents.create', '{}', 'req', ${at}::timestamptz - interval '10 seconds')`;
    opened.resolve();
    await gate.promise;
  });
  await opened.promise;
  const chained = chainAudit(context());
  await sleep(600);
  expect(await base.owner`select from audit_log where position is not null`).toHaveLength(0);
  gate.resolve();
  await open;
  await Promise.all([chained, chainAudit(context())]);

  const rows = await base.owner`select id, actor, action, subject_id, input, request_id, position::int, hash,
    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at from audit_log where client_id = ${clientId} order by position nulls last`;
  expect(rows.map(({ id, position }) => [id, position])).toEqual([
    ["aud_0", 1],
    ["aud_1", 2],
    ["aud_2", 3],
    ["aud_3", null],
  ]);
  let previous = "";
  for (const row of rows.slice(0, 3)) {
    const { id, actor, action, input } = row;
    const hash = auditHash(previous, {
      clientId,
      id,
      actor,
      action,
      subjectId: row.subject_id,
      input,
      requestId: row.request_id,
      createdAt: row.at,
    });
    expect(row.hash).toBe(hash);
    previous = hash;
  }
  expect((await base.owner`select position::int from audit_log where client_id = ${stranger}`)[0]?.position).toBe(1);

  await base.owner`delete from audit_log where id = 'aud_3'`;
  await write(clientId, "aud_3", 5);
  await chainAudit(context());
  expect((await base.owner`select position::int from audit_log where id = 'aud_3'`)[0]?.position).toBe(4);
});
