import { afterAll, describe, expect, test } from "vitest";
import { openDatabase } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { idFloor, newId } from "../../db/ids.ts";
import { fanOutAll } from "../../jobs/fan-out.ts";
import { replay, sweep } from "../../jobs/replays.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { startTestApp, until } from "../support/app.ts";
import { openReceiver } from "../support/receiver.ts";

const h = await startTestApp();
const receiver = await openReceiver();
afterAll(() => receiver.close());
const bobs = { key: h.bob.key };
const { clientId } = h.ada;

const minute = 60_000;
const day = 24 * 60 * minute;
const ago = (milliseconds: number) => new Date(Date.now() - milliseconds);

let named = 0;
async function make(eventTypes: string[] = ["call.*"]) {
  const made = await h.post("/webhooks", { url: `${receiver.url}/replay-${++named}`, eventTypes });
  expect(made.status).toBe(201);
  const { id } = made.body.data;
  const path = `/webhooks/${id}`;
  return { id, path, get: async () => (await h.get(path)).body.data };
}

/** The context of a client's job, with parts that a test replaces. */
function context(more: Partial<JobContext> = {}): JobContext {
  return {
    ...{
      jobId: "1",
      attempt: 0,
      lostRuns: 0,
      clientId,
      requestId: null,
      log: h.deps.log,
      db: h.deps.db,
      providers: h.deps.providers,
    },
    ...{ fence: { check() {} }, signal: new AbortController().signal },
    pool: { slots: 1, draining: new AbortController().signal },
    inBackground: (work) => void work.catch(() => {}),
    asClient: (work, options) => h.deps.db.asClient({ clientId }, work, options),
    asSystem: (work, options) => h.deps.db.asSystem(work, options),
    ...more,
  };
}

/** A process that dies before its commit, so its changes are lost. */
const dying = () =>
  context({
    asClient: (work) =>
      h.deps.db.asClient({ clientId }, async (tx) => {
        await work(tx);
        throw new Error("killed");
      }),
  });

/** Removes and returns the waiting jobs of a replay: no worker runs here. */
async function taken(replayId: string) {
  const rows = await h.owner<{ due_in: number; pause: number }[]>`
    with gone as (delete from graphile_worker._private_jobs j using graphile_worker._private_tasks t
      where t.id = j.task_id and t.identifier = 'webhooks.replay' and j.payload->'body'->>'replayId' = ${replayId}
      returning run_at, created_at)
    select extract(epoch from run_at - clock_timestamp())::float8 as due_in,
      extract(epoch from run_at - created_at)::float8 as pause from gone`;
  return rows;
}

const stateOf = async (id: string) => (await h.get(`/webhooks/replays/${id}`)).body.data;

/** Runs the job until it does not queue itself again; `between` runs before each. */
async function work(id: string, between: (nth: number) => Promise<unknown> = async () => {}) {
  const end = performance.now() + 75_000;
  for (let nth = 0; ; nth++) {
    const jobs = await taken(id);
    if (jobs.length === 0) return stateOf(id);
    expect(jobs).toHaveLength(1);
    // A replay waits for transactions that are open on this server, for a minute at most.
    if (jobs[0]!.due_in > 1) await new Promise((passed) => setTimeout(passed, 100));
    if (performance.now() > end) throw new Error("The replay does not end.");
    await between(nth);
    await replay.run({ replayId: id }, context());
  }
}

async function start(path: string, body: object) {
  const answer = await h.post(`${path}/replay`, body);
  expect([answer.status, answer.body.error]).toEqual([202, undefined]);
  return answer.body.data;
}

type PastEvent = { id: string; type: string; at: Date };

/** Events of a past time that were never fanned out. */
async function createEvents(many: number, at: Date, type = "call.ended"): Promise<PastEvent[]> {
  const events = Array.from({ length: many }, () => {
    return { id: idFloor("event", at).slice(0, -16) + newId("event").slice(-16), type, at };
  });
  await h.owner`insert into events (client_id, id, type, subject_type, subject_id, sequence, data, created_at)
    select ${clientId}, id, ${type}, 'call', 'call_x', 1, '{}', ${at}
    from unnest(${events.map(({ id }) => id)}::text[]) as made(id)`;
  return events;
}

/** Creates their deliveries to an endpoint, with one status. */
async function deliver(endpoint: string, events: PastEvent[], is: "pending" | "delivered" | "dead") {
  const ids = events.map(() => newId("delivery"));
  await h.owner`insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status, attempts, next_attempt_at)
    select ${clientId}, made.id, ${endpoint}, e.id, e.type, e.created_at, ${is}, 3, case when ${is} = 'pending' then now() end
    from unnest(${ids}::text[], ${events.map(({ id }) => id)}::text[]) as made(id, event_id) join events e on e.id = made.event_id`;
  return ids;
}

const rowsOf = (endpoint: string) => h.owner`select * from deliveries where endpoint_id = ${endpoint} order by id`;
const sentBy = async (id: string) =>
  (await h.owner`select event_id from deliveries where replay_id = ${id}`).map((row) => row.event_id as string).sort();
const idsOf = (...events: PastEvent[][]) =>
  events
    .flat()
    .map(({ id }) => id)
    .sort();
/** Marks all waiting deliveries as delivered. */
const drain = (endpoint: string) =>
  h.owner`update deliveries set status = 'delivered', next_attempt_at = null, finished_at = now()
    where endpoint_id = ${endpoint} and status = 'pending'`;

describe("dead letters", () => {
  test("of a time range and some types are redelivered, and no others", async () => {
    const [one, other] = [await make(), await make()];
    const [wanted, early, late, failed] = [
      await createEvents(3, ago(5 * day)),
      await createEvents(2, ago(9 * day)),
      await createEvents(2, ago(1 * day)),
      await createEvents(2, ago(5 * day), "call.failed"),
    ];
    await deliver(one.id, [...early, ...wanted, ...late, ...failed], "dead");
    await deliver(one.id, await createEvents(2, ago(5 * day)), "delivered");
    await deliver(other.id, wanted, "dead");
    const [gone, ...kept] = wanted;
    await h.owner`delete from events where id = ${gone!.id}`;
    const before = await rowsOf(other.id);

    const range = { createdAfter: ago(7 * day).toISOString(), createdBefore: ago(3 * day).toISOString() };
    const started = await start(one.path, { which: "dead", ...range, eventTypes: ["call.ended"] });
    expect(started).toMatchObject({ endpointId: one.id, which: "dead", ...range, eventTypes: ["call.ended"] });
    expect(started).toMatchObject({ status: "running", queued: 0, progress: { delivered: 0, dead: 0, pending: 0 } });
    const done = await work(started.id);
    expect(done).toMatchObject({ status: "completed", queued: 2, finishedAt: expect.any(String) });
    expect(done.progress).toEqual({ delivered: 0, dead: 0, pending: 2 });
    expect(await sentBy(started.id)).toEqual(idsOf(kept));
    for (const row of await rowsOf(one.id)) {
      if (row.replay_id === null) expect(row).toMatchObject({ claim: "0", schedule_from: 0 });
      else
        expect(row).toMatchObject({
          status: "pending",
          claim: "1",
          attempts: 3,
          schedule_from: 3,
          admitted_until: null,
        });
    }
    expect(await rowsOf(other.id)).toEqual(before);
  });

  test("of types that the endpoint no longer subscribes to stay dead", async () => {
    const { path, id } = await make(["call.*"]);
    const [ended, failed] = [await createEvents(2, ago(day)), await createEvents(3, ago(day), "call.failed")];
    await deliver(id, [...ended, ...failed], "dead");
    await h.patch(path, { eventTypes: ["call.failed", "agent.*"] });
    const started = await start(path, { which: "dead", eventTypes: ["call.*"] });
    expect(await work(started.id)).toMatchObject({ status: "completed", queued: 3 });
    expect(await sentBy(started.id)).toEqual(idsOf(failed));
    await drain(id);
    expect(await work((await start(path, { which: "dead" })).id)).toMatchObject({ status: "completed", queued: 0 });
    const left = (await h.get(`${path}/deliveries?status=dead`)).body.data;
    expect(left.map(({ eventType }: { eventType: string }) => eventType)).toEqual(["call.ended", "call.ended"]);
    expect((await h.post(`/webhooks/deliveries/${left[0].id}/redeliver`, {})).body.data.status).toBe("pending");
  });

  test("of the last thirty days are the default", async () => {
    const { path, id } = await make();
    await deliver(id, await createEvents(1, ago(20 * day)), "dead");
    const { id: replayId, createdAfter, createdBefore } = await start(path, { which: "dead" });
    expect(Date.parse(createdBefore) - Date.parse(createdAfter)).toBe(30 * day);
    expect(await work(replayId)).toMatchObject({ status: "completed", queued: 1 });
  });

  test("ten thousand are redelivered in batches, each once, although the process dies repeatedly", async () => {
    const { path, id } = await make();
    const events = await createEvents(10_000, ago(2 * day));
    await deliver(id, events, "dead");
    const { id: replayId } = await start(path, { which: "dead" });
    let most = 0;
    let seen = 0;
    let waited = 0;
    const done = await work(replayId, async (nth) => {
      await expect(replay.run({ replayId }, dying())).rejects.toThrow("killed");
      const { queued, status: is, progress } = await stateOf(replayId);
      expect(queued - seen === 500 || queued === seen).toBe(true);
      expect({ is, total: progress.pending + progress.delivered + progress.dead }).toEqual({
        is: "running",
        total: queued,
      });
      if (queued === seen && nth > 0) waited++;
      seen = queued;
      most = Math.max(most, progress.pending);
      if (progress.pending > 1_000) await drain(id); // the job waits because of them
    });
    expect(done).toMatchObject({ status: "completed", queued: 10_000 });
    expect(most).toBe(1_500);
    expect(waited).toBeLessThan(20);
    const rows = await rowsOf(id);
    expect(rows.filter((row) => row.replay_id === replayId && row.claim === "1")).toHaveLength(10_000);
    await drain(id);
    expect((await stateOf(replayId)).progress).toEqual({ delivered: 10_000, dead: 0, pending: 0 });
  }, 120_000);

  test("wait while the endpoint has more than a thousand due deliveries, and the job continues later", async () => {
    const { path, id } = await make();
    await deliver(id, await createEvents(1, ago(day)), "dead");
    await deliver(id, await createEvents(1_001, ago(day)), "pending");
    const { id: replayId } = await start(path, { which: "dead" });
    await taken(replayId);
    await replay.run({ replayId }, context());
    expect(await stateOf(replayId)).toMatchObject({ status: "running", queued: 0 });
    const [job] = await taken(replayId);
    expect(job!.pause).toBeGreaterThanOrEqual(2);
    await h.owner`update deliveries set status = 'delivered' where id = (
      select id from deliveries where endpoint_id = ${id} and status = 'pending' limit 1)`;
    await replay.run({ replayId }, context());
    expect(await stateOf(replayId)).toMatchObject({ queued: 1 });
    await taken(replayId);
  });
});

describe("missed events", () => {
  /** Emits an event, and returns its fan-out. */
  async function emitAgent() {
    const id = newId("agent");
    await h.deps.db.asClient({ clientId }, (tx) =>
      emit(tx, "agent.created", id, { id, name: "Said", status: "active", version: 1 }),
    );
    const [event] = await h.owner`select id, created_at::text from events where subject_id = ${id}`;
    /** Also when no endpoint was enabled, or when it was fanned out before. */
    const runFanOut = async () => {
      await h.owner`delete from event_fan_outs`;
      await h.owner`insert into event_fan_outs (client_id, event_id, event_created_at)
        values (${clientId}, ${event!.id}, ${event!.created_at}::text::timestamptz)`;
      await fanOutAll(context());
    };
    return { id: event!.id as string, fanOut: runFanOut };
  }
  const eventsOf = async (endpoint: string) => (await rowsOf(endpoint)).map((row) => row.event_id as string).sort();

  test("are queued once after the endpoint is enabled, and are then no longer missed", async () => {
    const endpoint = await make(["agent.*"]);
    const delivered = await emitAgent();
    await delivered.fanOut();
    const justBefore = await emitAgent(); // fanned out too late
    await h.patch(endpoint.path, { status: "disabled" });
    await justBefore.fanOut();
    const off = [await emitAgent(), await emitAgent()];
    for (const event of off) await event.fanOut();
    await createEvents(1, new Date(), "call.ended"); // not subscribed
    await h.patch(endpoint.path, { status: "enabled" });
    const after = await emitAgent();
    await after.fanOut();
    expect(await eventsOf(endpoint.id)).toEqual([delivered.id, after.id].sort());

    const { missed } = await endpoint.get();
    const started = await start(endpoint.path, { which: "missed" });
    expect(started.createdAfter < missed.createdAfter).toBe(true);
    const done = await work(started.id);
    expect(done).toMatchObject({ status: "completed", queued: 3 });
    expect(await eventsOf(endpoint.id)).toEqual([delivered, justBefore, ...off, after].map(({ id }) => id).sort());
    for (const event of off) await event.fanOut(); // late and repeated
    expect(await rowsOf(endpoint.id)).toHaveLength(5);
    expect((await endpoint.get()).missed).toBeNull();
    const again = await h.post(`${endpoint.path}/replay`, { which: "missed" });
    expect(again.body.error).toMatchObject({ code: "input_invalid", details: [{ path: "createdAfter" }] });
  }, 180_000);

  test("are all events since the creation of an endpoint that was created disabled", async () => {
    const before = await emitAgent();
    const url = `${receiver.url}/replay-${++named}`;
    const { id } = (await h.post("/webhooks", { url, eventTypes: ["agent.*"], status: "disabled" })).body.data;
    const off = await emitAgent();
    for (const event of [before, off]) await event.fanOut();
    expect(await eventsOf(id)).toEqual([]);
    const path = `/webhooks/${id}`;
    await h.patch(path, { status: "enabled" });
    const started = await start(path, { which: "missed" });
    expect(await work(started.id)).toMatchObject({ status: "completed", queued: 1 });
    expect(await eventsOf(id)).toEqual([off.id]);
    expect((await h.get(path)).body.data.missed).toBeNull();
  }, 180_000);

  test("stay missed when a replay covers only a part, or when more events were missed during it", async () => {
    const endpoint = await make();
    const off = async () => {
      await h.patch(endpoint.path, { status: "disabled" });
      await h.patch(endpoint.path, { status: "enabled" });
    };
    await off();
    const { missed } = await endpoint.get();
    await work((await start(endpoint.path, { which: "missed", eventTypes: ["call.ended"] })).id);
    expect((await endpoint.get()).missed).toEqual(missed);
    await work((await start(endpoint.path, { which: "all", createdAfter: ago(day).toISOString() })).id);
    expect((await endpoint.get()).missed).toEqual(missed);
    const createdAfter = new Date(Date.parse(missed.createdAfter) + 1).toISOString();
    await work((await start(endpoint.path, { which: "missed", createdAfter })).id);
    expect((await endpoint.get()).missed).toEqual(missed);

    // An earlier range, so that it ends before the next missed range.
    await h.owner`update webhook_endpoints set created_at = now() - interval '1 day', missed_since = now() - interval '2 hours', missed_until = now() - interval '1 hour'
      where id = ${endpoint.id}`;
    const started = await start(endpoint.path, { which: "missed" });
    await off();
    expect(await work(started.id)).toMatchObject({ status: "completed" });
    expect((await endpoint.get()).missed).not.toBeNull();
    const exactly = await endpoint.get();
    await work((await start(endpoint.path, { which: "missed", ...exactly.missed })).id);
    expect((await endpoint.get()).missed).toBeNull();
  }, 180_000);

  test("include an event of a transaction that was open when the replay started", async () => {
    const endpoint = await make(["agent.*"]);
    await h.patch(endpoint.path, { status: "disabled" });
    const [isEmitted, isOver] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const agentId = newId("agent");
    const patient = openDatabase({ ...h.database.roles, idleInTransactionTimeoutMs: 180_000 });
    const late = patient.asClient({ clientId }, async (tx) => {
      await emit(tx, "agent.created", agentId, { id: agentId, name: "Late", status: "active", version: 1 });
      isEmitted.resolve();
      await isOver.promise;
    });
    await isEmitted.promise;
    await h.patch(endpoint.path, { status: "enabled" });
    const started = await start(endpoint.path, { which: "missed" });
    for (let round = 0; round < 3; round++) {
      await taken(started.id);
      await replay.run({ replayId: started.id }, context());
      expect(await stateOf(started.id)).toMatchObject({ status: "running", queued: 0 });
    }
    isOver.resolve();
    await late;
    await patient.close();
    expect(await work(started.id)).toMatchObject({ status: "completed", queued: 1 });
    const [event] = await h.owner`select id from events where subject_id = ${agentId}`;
    expect(await sentBy(started.id)).toEqual([event!.id]);
  }, 180_000);

  test("are delayed by an open transaction for a minute at most", async () => {
    const endpoint = await make(["agent.*"]);
    const [isOpen, isOver] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const open = h.owner.begin(async (tx) => {
      await tx`select pg_current_xact_id()`;
      isOpen.resolve();
      await isOver.promise;
    });
    await isOpen.promise;
    const started = await start(endpoint.path, { which: "missed", createdAfter: ago(day).toISOString() });
    await h.owner`update webhook_replays set created_at = now() - interval '61 seconds' where id = ${started.id}`;
    expect(await work(started.id)).toMatchObject({ status: "completed" });
    isOver.resolve();
    await open;
  }, 180_000);
});

describe("all", () => {
  test("includes delivered, dead and never queued events, but not pending deliveries", async () => {
    const { path, id } = await make(["tool.*"]);
    const [done, dead, fresh, waits] = [
      await createEvents(2, ago(2 * day), "tool.created"),
      await createEvents(2, ago(2 * day + minute), "tool.created"),
      await createEvents(3, ago(2 * day + 2 * minute), "tool.created"),
      await createEvents(2, ago(2 * day + 3 * minute), "tool.created"),
    ];
    await createEvents(2, ago(2 * day), "agent.created");
    await createEvents(2, ago(20 * day), "tool.created");
    await deliver(id, done, "delivered");
    await deliver(id, dead, "dead");
    const pending = await deliver(id, waits, "pending");
    const started = await start(path, {
      which: "all",
      createdAfter: ago(3 * day).toISOString(),
      createdBefore: ago(day).toISOString(),
    });
    expect(await work(started.id)).toMatchObject({ status: "completed", queued: 7, progress: { pending: 7 } });
    expect(await sentBy(started.id)).toEqual(idsOf(done, dead, fresh));
    const rows = await rowsOf(id);
    expect(rows).toHaveLength(9);
    const left = rows.filter((row) => pending.includes(row.id));
    for (const row of left) expect(row).toMatchObject({ claim: "0", replay_id: null });
  }, 180_000);

  test("reads many events for few matches, in batches that a crash does not repeat", async () => {
    const { path, id } = await make(["voice.*"]);
    const wanted: PastEvent[] = [];
    for (let n = 10; n > 0; n--) {
      wanted.push(...(await createEvents(90, ago(10 * day + n * minute), "voice.created")));
      await createEvents(1_300, ago(10 * day + n * minute - 10_000), "call.ended");
    }
    const range = { createdAfter: ago(11 * day).toISOString(), createdBefore: ago(9 * day).toISOString() };
    const started = await start(path, { which: "all", ...range });
    const twice = await work(started.id, async () => {
      await expect(replay.run({ replayId: started.id }, dying())).rejects.toThrow("killed");
      // Two concurrent jobs: one was considered lost, but was not.
      await Promise.all([1, 2].map(() => replay.run({ replayId: started.id }, context())));
    });
    expect(twice).toMatchObject({ status: "completed", queued: 900 });
    expect(await sentBy(started.id)).toEqual(idsOf(wanted));
    const rows = await rowsOf(id);
    expect(rows).toHaveLength(900);
    for (const row of rows) expect(row).toMatchObject({ claim: "0", status: "pending" });
  }, 180_000);
});

describe("a replay", () => {
  test("is the only one of its endpoint under concurrent requests", async () => {
    const { path } = await make();
    const answers = await Promise.all(Array.from({ length: 6 }, () => h.post(`${path}/replay`, { which: "dead" })));
    const accepted = answers.filter(({ status }) => status === 202);
    expect(accepted).toHaveLength(1);
    const { id } = accepted[0]!.body.data;
    for (const { status, body } of answers) {
      if (status === 202) continue;
      expect({ status, code: body.error.code }).toEqual({ status: 409, code: "replay_running" });
      expect(body.error.details[0]).toMatchObject({ path: "replays", id });
    }
    await work(id);
    const next = await start(path, { which: "dead" });
    const list = await h.get(`${path}/replays?limit=1`);
    expect(list.body.data.map((one: { id: string }) => one.id)).toEqual([next.id]);
    const rest = await h.get(`${path}/replays?limit=1&cursor=${list.body.meta.nextCursor}`);
    expect(rest.body).toMatchObject({ data: [{ id, status: "completed" }], meta: { hasMore: false } });
  });

  test("that is cancelled stops queueing, and its queued deliveries are still sent", async () => {
    const { path, id } = await make();
    await deliver(id, await createEvents(700, ago(day)), "dead");
    const { id: replayId } = await start(path, { which: "dead" });
    await taken(replayId);
    await replay.run({ replayId }, context());
    const cancelled = await h.post(`/webhooks/replays/${replayId}/cancel`, {});
    expect(cancelled).toMatchObject({ status: 200, body: { data: { status: "cancelled", queued: 500 } } });
    expect(cancelled.body.data.progress).toEqual({ delivered: 0, dead: 0, pending: 500 });
    expect(await work(replayId)).toMatchObject({ status: "cancelled", queued: 500, finishedAt: expect.any(String) });
    expect((await h.post(`/webhooks/replays/${replayId}/cancel`, {})).body.error.code).toBe("replay_finished");
    expect(await work((await start(path, { which: "dead" })).id)).toMatchObject({ queued: 200 });
  });

  test.each([
    ["switched off", (path: string) => h.patch(path, { status: "disabled" })],
    ["deleted", (path: string) => h.remove(path)],
  ])("ends when its endpoint is %s", async (_, end) => {
    const { path, id } = await make();
    await deliver(id, await createEvents(1, ago(day)), "dead");
    const { id: replayId } = await start(path, { which: "dead" });
    await end(path);
    expect(await work(replayId)).toMatchObject({ status: "cancelled", queued: 0 });
  });

  const at = (milliseconds: number) => ago(milliseconds).toISOString();
  const refused: [string, object, string, RegExp?][] = [
    ["missed, without missed events", { which: "missed" }, "createdAfter", /has missed no events/],
    ["all, without a start", { which: "all" }, "createdAfter", /required with `all`/],
    [
      "an end before its beginning",
      { which: "dead", createdAfter: at(day), createdBefore: at(2 * day) },
      "createdAfter",
    ],
    ["a start in the future", { which: "dead", createdAfter: at(-day) }, "createdAfter"],
    ["more than ninety days", { which: "dead", createdAfter: at(91 * day) }, "createdAfter"],
    ["an unknown type", { which: "dead", eventTypes: ["call.finished"] }, "eventTypes.0"],
    ["an invalid time", { which: "dead", createdAfter: "yesterday" }, "createdAfter"],
    ["an unknown `which`", { which: "some" }, "which"],
  ];
  test.each(refused)("refuses %s", async (_, body, path, message = /./) => {
    const endpoint = await make();
    const answer = await h.post(`${endpoint.path}/replay`, body);
    const details = [{ path, message: expect.stringMatching(message) }];
    expect(answer.body.error).toMatchObject({ code: "input_invalid", details });
  });

  test("ends now at the latest, and covers up to ninety days", async () => {
    const { path } = await make();
    const range = { createdAfter: at(90 * day - minute), createdBefore: at(-day) };
    const { createdBefore: end } = await start(path, { which: "all", ...range });
    expect(Date.parse(end)).toBeLessThan(Date.now() + minute);
  });

  test("does not start while the endpoint is disabled", async () => {
    const { path } = await make();
    await h.patch(path, { status: "disabled" });
    expect((await h.post(`${path}/replay`, { which: "dead" })).body.error.code).toBe("webhook_disabled");
  });

  test("is not found by another client", async () => {
    const { path } = await make();
    const { id } = await start(path, { which: "dead" });
    for (const answer of [
      await h.get(`/webhooks/replays/${id}`, bobs),
      await h.post(`/webhooks/replays/${id}/cancel`, {}, bobs),
    ]) {
      expect(answer.body.error.code).toBe("replay_not_found");
    }
    for (const answer of [
      await h.get(`${path}/replays`, bobs),
      await h.post(`${path}/replay`, { which: "dead" }, bobs),
    ]) {
      expect(answer.body.error.code).toBe("webhook_not_found");
    }
    expect(await stateOf(id)).toMatchObject({ status: "running" });
  });

  test("with a lost job gets a new one, but not one that is active or finished", async () => {
    const [lost, active, finished] = [await make(), await make(), await make()];
    const replays = await Promise.all([lost, active, finished].map(({ path }) => start(path, { which: "dead" })));
    for (const { id } of replays) await taken(id);
    await h.owner`update webhook_replays set updated_at = now() - interval '3 minutes'
      where id in ${h.owner([replays[0]!.id, replays[2]!.id])}`;
    await h.owner`update webhook_replays set status = 'cancelled' where id = ${replays[2]!.id}`;
    const round = () => sweep.run({}, context({ clientId: null }));
    await round();
    await round();
    const jobs = await Promise.all(replays.map(async ({ id }) => (await taken(id)).length));
    expect(jobs).toEqual([1, 0, 0]);
    await replay.run({ replayId: replays[0]!.id }, context());
    expect(await stateOf(replays[0]!.id)).toMatchObject({ status: "completed" });
  });
});

describe("with workers", async () => {
  const w = await startTestApp({ workers: true });

  test("dead letters reach the receiver with their original id, and the replay shows it", async () => {
    let open = false;
    receiver.answer("/alive", (response) => response.writeHead(open ? 200 : 410).end());
    const hook = (await w.post("/webhooks", { url: `${receiver.url}/alive`, eventTypes: ["agent.*"] })).body.data;
    const emitAgent = (id: string) =>
      w.deps.db.asClient({ clientId: w.ada.clientId }, (tx) =>
        emit(tx, "agent.created", id, { id, name: "Said", status: "active", version: 1 }),
      );
    const get = async () => (await w.get(`/webhooks/${hook.id}`)).body.data;
    await emitAgent(newId("agent"));
    await until(async () => (await get()).status === "disabled"); // it responded 410
    for (let n = 0; n < 30; n++) await emitAgent(newId("agent"));
    open = true;
    await w.patch(`/webhooks/${hook.id}`, { status: "enabled" });
    const ends = async (which: string) => {
      const answer = await w.post(`/webhooks/${hook.id}/replay`, { which });
      expect(answer.status).toBe(202);
      const { id } = answer.body.data;
      return until(async () => {
        const { data } = (await w.get(`/webhooks/replays/${id}`)).body;
        return data.status === "completed" && data.progress.pending === 0 && data;
      }, 90);
    };
    expect(await ends("dead")).toMatchObject({ queued: 1, progress: { delivered: 1, dead: 0 } });
    expect(await ends("missed")).toMatchObject({ queued: 30, progress: { delivered: 30, dead: 0 } });
    expect(await get()).toMatchObject({ missed: null, health: { status: "healthy" } });
    const events = await w.owner`select id from events where type = 'agent.created' order by id`;
    const received = receiver.at("/alive").map(({ headers }) => headers["webhook-id"]!);
    expect([...new Set(received)].sort()).toEqual(events.map(({ id }) => id));
    expect(received).toHaveLength(32); // the one with the 410 came twice
  }, 240_000);
});
