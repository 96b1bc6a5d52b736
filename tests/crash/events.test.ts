import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { startEventBridge } from "../../dev/simulators/eventbridge.ts";
import type { Event } from "../../routers/events/schema.ts";
import { listEvents } from "../../routers/events/service.ts";
import { addEndpoint } from "../support/dispatch.ts";
import { breaksOf, writeAll } from "../support/event-order.ts";
import { type JobsDatabase, openJobsDatabase, until } from "../support/jobs-database.ts";

const bridge = await startEventBridge();
afterAll(() => bridge.close());
let base: JobsDatabase;
const children: ChildProcess[] = [];

beforeAll(async () => {
  base = await openJobsDatabase();
}, 60_000);
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await base.close();
}, 30_000);

function startWorker() {
  const env = { ...process.env, AWS_ACCESS_KEY_ID: "stand-in", AWS_SECRET_ACCESS_KEY: "stand-in" };
  const options = JSON.stringify({ ...base.urls, endpoint: bridge.url });
  const child = fork(new URL("../support/event-worker-child.ts", import.meta.url), [options], { execArgv: [], env });
  children.push(child);
}

async function killWorkers() {
  const killed = children.splice(0);
  for (const child of killed) {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

/** Follows one client's events, again and again after a lost connection. */
function tailOf(clientId: string) {
  const key = { secret: Buffer.alloc(32), clientId, procedure: "events.list", filters: {} };
  const seen: Event[] = [];
  let cursor: string | undefined;
  return {
    seen,
    async read() {
      const page = await base.db
        .asClient({ clientId }, (tx) => listEvents(tx, { limit: 50, order: "asc", ...(cursor && { cursor }) }, key))
        .catch(() => null);
      if (!page) return;
      cursor = page.nextCursor!;
      seen.push(...page.items);
    },
  };
}

test("events keep their order, and each is fanned out once, while workers are killed and Postgres restarts", async () => {
  const count = 150;
  const clients = [newId("client"), newId("client")].map((clientId) => ({ clientId, sharedId: newId("agent") }));
  for (const { clientId } of clients) {
    await base.owner`insert into clients (id, name) values (${clientId}, 'a client')`;
    await addEndpoint(base.owner, clientId);
  }
  startWorker();
  startWorker();
  await until("the bus has a position", async () => (await base.owner`select from bus_positions`).length > 0);
  const tails = clients.map(({ clientId }) => tailOf(clientId));
  let isOver = false;
  const reading = Promise.all(
    tails.map(async ({ read }) => {
      while (!isOver) await Promise.all([read(), sleep(30)]);
    }),
  );
  const writing = writeAll(base.db, clients, count);
  for (let round = 0; round < 3; round++) {
    await sleep(700);
    await killWorkers();
    if (round > 0) await base.restart();
    startWorker();
    startWorker();
  }
  await writing;
  const written = async () => (await base.owner`select count(*)::int as n from events`)[0]!.n as number;
  const total = await written();
  expect(total).toBeGreaterThanOrEqual(2 * count); // a writer repeats a transaction whose commit it did not see
  const published = () => bridge.accepted.map(({ Detail }) => JSON.parse(Detail) as Event);
  await until(
    "everyone has seen every event",
    async () => {
      await base.owner`update bus_positions set free_at = clock_timestamp() where holder is null or free_at < clock_timestamp() + interval '25 seconds'`;
      const [waiting] = await base.owner`select count(*)::int as n from event_fan_outs`;
      const tailed = tails.reduce((sum, { seen }) => sum + seen.length, 0);
      return waiting!.n === 0 && tailed === total && new Set(published().map(({ id }) => id)).size === total;
    },
    90_000,
  );
  isOver = true;
  await reading;
  for (const { seen } of tails) expect(breaksOf(seen)).toEqual([]);
  expect(breaksOf(published())).toEqual([]);
  const [made] = await base.owner`select count(*)::int as n, count(distinct event_id)::int as events from deliveries`;
  expect(made).toEqual({ n: total, events: total });
}, 180_000);
