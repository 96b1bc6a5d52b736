import { afterAll, afterEach, describe, expect, test } from "vitest";
import { Fenced } from "../../jobs/runtime/fence.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { until } from "../support/app.ts";
import { openDeliveryGround, type Tenant } from "../support/deliveries.ts";

const ground = await openDeliveryGround();
const { owner, receiver, tenant } = ground;
afterEach(() => receiver.forget());
afterAll(() => ground.close());

type Batch = { deliveries: { deliveryId: string; claim: number }[] };

/** Emits events and fans them out. Returns the jobs of their deliveries. */
async function batchesOf(t: Tenant, events: number): Promise<Batch[]> {
  await t.say(events);
  await t.fanOut();
  const jobs = await t.take(1_000);
  expect(jobs.every(({ task }) => task === "webhooks.deliver")).toBe(true);
  return jobs.map(({ payload }) => payload.body);
}

/** A worker of its own, with its own fence, limits and signals. */
function workerOf(t: Tenant, slots = 400) {
  const [draining, stopping] = [new AbortController(), new AbortController()];
  let isFenced = false;
  const fence = {
    check() {
      if (isFenced) throw new Fenced();
    },
  };
  const fenced: JobContext["asSystem"] = async (work, options) => {
    fence.check();
    return await t.ctx.asSystem(async (tx) => {
      const result = await work(tx);
      fence.check();
      return result;
    }, options);
  };
  const pool = { slots, draining: draining.signal };
  const ctx: JobContext = { ...t.ctx, fence, pool, asSystem: fenced, signal: stopping.signal };
  return {
    run: (batch: Batch) => t.deliver.run(batch, ctx),
    drain: () => draining.abort(),
    stop: () => {
      draining.abort();
      stopping.abort(new Error("The worker is stopping."));
    },
    kill() {
      isFenced = true;
    },
  };
}

/** Holds every response on this path until it is released. */
function holding(path: string) {
  const { promise, resolve } = Promise.withResolvers<void>();
  receiver.answer(path, (response) => void promise.then(() => response.end("ok")));
  return resolve;
}

const idsAt = (path: string) => receiver.at(path).map(({ headers }) => headers["webhook-id"]!);
const delivered = async (t: Tenant) => (await t.rows()).filter(({ status }) => status === "delivered").length;

describe("a batch", () => {
  test("is one job for many endpoints, and takes the backlog after it without more jobs", async () => {
    const t = await tenant();
    for (const name of ["a", "b"]) await t.endpoint(name);
    const jobs = await batchesOf(t, 40);
    expect(jobs.flatMap(({ deliveries }) => deliveries)).toHaveLength(20);
    expect(jobs.length).toBeLessThanOrEqual(2);
    await Promise.all(jobs.map((job) => workerOf(t).run(job)));
    expect(receiver.at(t.path("a")).length + receiver.at(t.path("b")).length).toBe(80);
    expect(await delivered(t)).toBe(80);
    expect(await t.take(10)).toEqual([]);
  });

  test("does not wait for a slow receiver to record the others, and to send the next", async () => {
    const t = await tenant();
    for (const name of ["slow", "quick"]) await t.endpoint(name);
    const release = holding(t.path("slow"));
    const jobs = await batchesOf(t, 15);
    const running = Promise.all(jobs.map((job) => workerOf(t).run(job)));
    await until(async () => (await delivered(t)) === 15);
    expect(receiver.at(t.path("slow"))).toHaveLength(10);
    release();
    await running;
    expect(await delivered(t)).toBe(30);
  });

  test("of a killed worker loses nothing, and repeats only what was not recorded", async () => {
    const t = await tenant();
    for (const name of ["held", "quick"]) await t.endpoint(name);
    const release = holding(t.path("held"));
    const jobs = await batchesOf(t, 10);
    const worker = workerOf(t);
    const running = Promise.allSettled(jobs.map(worker.run));
    await until(async () => (await delivered(t)) === 10);
    worker.kill();
    release();
    expect((await running).map(({ status }) => status)).toContain("rejected");
    expect(await delivered(t)).toBe(10);

    for (const job of jobs) await workerOf(t).run(job);
    expect(await delivered(t)).toBe(20);
    expect(idsAt(t.path("quick"))).toHaveLength(10);
    expect(idsAt(t.path("held"))).toHaveLength(20);
    expect(new Set(idsAt(t.path("held"))).size).toBe(10);
    expect(await t.attempts()).toHaveLength(20);
  });

  test("that runs again does not send what failed before its retry is due", async () => {
    const t = await tenant();
    await t.endpoint("a");
    receiver.answer(t.path("a"), (response) => response.writeHead(500).end());
    const [job] = await batchesOf(t, 1);
    await workerOf(t).run(job!);
    await workerOf(t).run(job!);
    expect(receiver.at(t.path("a"))).toHaveLength(1);
    expect(await t.row()).toMatchObject({ status: "pending", attempts: 1, admitted_until: null });
  });

  test("ends: late in it, the next deliveries get a job of their own", async () => {
    const t = await tenant({ takesForMs: 0 });
    await t.endpoint("a");
    const [job] = await batchesOf(t, 15);
    await t.run({ task: "webhooks.deliver", payload: { body: job as never } });
    expect(receiver.at(t.path("a"))).toHaveLength(10);
    await t.work();
    expect(receiver.at(t.path("a"))).toHaveLength(15);
  });

  test("sends the others when the secret of one endpoint cannot be opened", async () => {
    const t = await tenant();
    const broken = await t.endpoint("broken");
    await t.endpoint("good");
    const jobs = await batchesOf(t, 12);
    await owner`update webhook_endpoints set secret = '\\x00' where id = ${broken.id}`;
    const results = await Promise.allSettled(jobs.map((job) => workerOf(t).run(job)));
    expect(results.some(({ status }) => status === "rejected")).toBe(true);
    expect(receiver.at(t.path("good"))).toHaveLength(12);
    expect(receiver.at(t.path("broken"))).toHaveLength(0);
  });

  test("leaves a delivery that it took and cannot send to a job with its retries", async () => {
    const t = await tenant();
    const { id } = await t.endpoint("a");
    const release = holding(t.path("a"));
    const [job] = await batchesOf(t, 12);
    const running = workerOf(t).run(job!);
    await until(async () => receiver.at(t.path("a")).length === 10);
    await owner`update webhook_endpoints set secret = '\\x00' where id = ${id}`;
    release();
    await running;
    const queued =
      await owner`select (payload->>'attempt')::int as attempt, payload #> '{body,deliveries}' as deliveries
      from graphile_worker._private_jobs where payload->>'clientId' = ${t.clientId}`;
    expect(queued.map(({ attempt, deliveries }) => [attempt, deliveries.length])).toEqual([
      [1, 1],
      [1, 1],
    ]);
  });
});

describe("a worker that stops", () => {
  test("gives back what it did not send, and another worker sends it", async () => {
    const t = await tenant();
    await t.endpoint("a");
    const [job] = await batchesOf(t, 8);
    const worker = workerOf(t);
    worker.drain();
    await worker.run(job!);
    expect(receiver.at(t.path("a"))).toHaveLength(0);
    expect(await t.inFlight()).toMatchObject({ all: 0 });
    await t.sweep();
    await t.work();
    expect(idsAt(t.path("a"))).toHaveLength(8);
  });

  test("finishes what it has sent, and takes no more", async () => {
    const t = await tenant();
    await t.endpoint("a");
    const release = holding(t.path("a"));
    const [job] = await batchesOf(t, 15);
    const worker = workerOf(t);
    const running = worker.run(job!);
    await until(async () => receiver.at(t.path("a")).length === 10);
    worker.drain();
    release();
    await running;
    expect(await delivered(t)).toBe(10);
    expect(receiver.at(t.path("a"))).toHaveLength(10);
    await until(async () => (await t.take(10)).length > 0); // the others are queued, for any worker
  });

  test("frees the slots of requests that it has to abort", async () => {
    const t = await tenant();
    await t.endpoint("a");
    const release = holding(t.path("a"));
    const [job] = await batchesOf(t, 3);
    const worker = workerOf(t);
    const running = worker.run(job!);
    await until(async () => receiver.at(t.path("a")).length === 3);
    worker.stop();
    await expect(running, "its job stays in the queue").rejects.toThrow();
    expect(await t.inFlight()).toMatchObject({ all: 0 });
    expect((await t.rows()).every(({ status, attempts }) => status === "pending" && attempts === 0)).toBe(true);
    release();
  });
});

describe("a worker with less slots than a batch has deliveries", () => {
  test("sends no more than its slots at the same time, and leaves the rest to others", async () => {
    const t = await tenant();
    await t.endpoint("a");
    const release = holding(t.path("a"));
    const [job] = await batchesOf(t, 8);
    const running = workerOf(t, 3).run(job!);
    await until(async () => (await t.inFlight()).all === 3);
    expect(receiver.at(t.path("a"))).toHaveLength(3);
    await t.sweep();
    const [rest] = await t.take(10);
    const other = t.run(rest!);
    await until(async () => receiver.at(t.path("a")).length === 8);
    release();
    await Promise.all([running, other]);
    expect(new Set(idsAt(t.path("a"))).size).toBe(8);
    expect(await delivered(t)).toBe(8);
  });
});

test("no delivery is sent twice at the same time, however many workers and sweeps reserve", async () => {
  const t = await tenant();
  const names = ["a", "b", "c"];
  const open = new Set<string>();
  let overlaps = 0;
  for (const name of names) {
    await t.endpoint(name);
    receiver.answer(t.path(name), (response, { path, headers }) => {
      const id = `${path} ${headers["webhook-id"]}`;
      if (open.has(id)) overlaps += 1;
      open.add(id);
      setTimeout(() => {
        open.delete(id);
        response.end("ok");
      }, 5);
    });
  }
  await t.say(60);
  await t.fanOut();
  const work = async () => {
    const worker = workerOf(t);
    while ((await delivered(t)) < 180) {
      const jobs = await t.take(5);
      await Promise.all([t.sweep(), ...jobs.map(({ payload }) => worker.run(payload.body))]);
    }
  };
  await Promise.all([work(), work(), work()]);
  expect(overlaps).toBe(0);
  for (const name of names) {
    expect(receiver.at(t.path(name))).toHaveLength(60);
    expect(receiver.most(t.path(name))).toBeLessThanOrEqual(10);
  }
});
