import { setTimeout as sleep } from "node:timers/promises";
import type { Child } from "./child.ts";
import { clock } from "./clock.ts";
import { type Customer, callEvents, openCustomers } from "./customers.ts";
import type { Drive, Driven } from "./driver.ts";
import type { Ground } from "./ground.ts";
import type { Arrival, Known } from "./receiver.ts";

export type Stage = { customers: Customer[]; receiver: Child; driver: Child; workers: Child[] };
export type Paced = {
  /** Milliseconds from the confirmed commit until the last byte of the request was read. */
  latencies: Map<Customer, number[]>;
  /** The same from the due time of the commit, which a slow driver cannot hide. */
  fromDue: number[];
  perSecond: number;
  failed: Record<string, number>;
  missing: number;
  /** The share of commits confirmed more than 100 ms after their due time. */
  late: number;
};

const lateMs = 100;

/** Clients whose endpoints subscribe to one event type each, a receiver that responds immediately, a driver and workers. */
export async function openStage(ground: Ground, size: { clients: number; endpointsEach: number; workers: number }) {
  const { clients, endpointsEach, workers: count } = size;
  const receiver = await ground.child("./receiver.ts");
  const url = `http://127.0.0.1:${await receiver.ask<number>("port")}`;
  const endpoints = Array.from({ length: clients * endpointsEach }, (_, n) => [callEvents[Math.floor(n / clients)]!]);
  const customers = await openCustomers(ground, { clients, endpoints, url });
  const known = customers.map(({ secret }) => ({ secret, manner: "healthy" as const }));
  await receiver.ask("know", { seed: 1, endpoints: known } satisfies Known);
  const driver = await ground.child("./driver.ts");
  const workers: Child[] = [];
  for (let n = 0; n < count; n++) workers.push(await ground.child("./worker-ours.ts"));
  return { customers, receiver, driver, workers } satisfies Stage;
}

export type Pace = { seconds: number; rate: number; patienceMs: number; over: AbortSignal };

/** Commits at a constant rate to these customers, and waits until everything has arrived, or the timeout. */
export async function measurePace(ground: Ground, stage: Stage, to: Customer[], pace: Pace): Promise<Paced> {
  const { receiver, driver } = stage;
  await receiver.ask("forget");
  const writers = to.map(({ clientId, types }) => ({ clientId, type: types[0]! }));
  const drive: Drive = { writers, perSecond: pace.rate, seconds: pace.seconds };
  const { committed, failed, seconds } = await driver.ask<Driven>("run", drive);
  const arrivals = await untilArrived(ground, receiver, committed, pace);
  const latencies = new Map<Customer, number[]>(to.map((customer) => [customer, []]));
  const fromDue: number[] = [];
  let missing = 0;
  for (const { writer, subjectId, dueAt, at } of committed) {
    const arrived = arrivals.get(subjectId);
    if (arrived === undefined) missing += 1;
    else {
      latencies.get(to[writer]!)!.push(arrived - at);
      fromDue.push(arrived - dueAt);
    }
  }
  const late = committed.filter(({ dueAt, at }) => at - dueAt > lateMs).length / Math.max(1, committed.length);
  return { latencies, fromDue, perSecond: committed.length / seconds, failed, missing, late };
}

/** The first arrival of each subject. Polls only the receiver's count until it has as many as were sent. */
async function untilArrived(ground: Ground, receiver: Child, committed: Driven["committed"], pace: Pace) {
  const until = clock() + pace.patienceMs;
  while ((await receiver.ask<number>("count")) < committed.length && clock() < until) {
    pace.over.throwIfAborted();
    await sleep(50);
  }
  const rows = await ground.owner<{ id: string; subject: string }[]>`
    select id, subject_id as subject from events
    where subject_id = any(${committed.map(({ subjectId }) => subjectId)})`;
  const subjects = new Map(rows.map(({ id, subject }) => [id, subject]));
  const firstOf = async () => {
    const { arrivals, refused } = await receiver.ask<{ arrivals: Arrival[]; refused: string[] }>("arrivals");
    if (refused.length > 0) throw new Error(`The receiver refused this: ${refused[0]}`);
    const first = new Map<string, number>();
    for (const { eventId, at } of arrivals.toReversed()) first.set(subjects.get(eventId) ?? eventId, at);
    return first;
  };
  let first = await firstOf();
  // A duplicate is counted too: then the last may still be in flight.
  while (committed.some(({ subjectId }) => !first.has(subjectId)) && clock() < until) {
    pace.over.throwIfAborted();
    await sleep(500);
    first = await firstOf();
  }
  return first;
}
