import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beatingDefaults } from "../../jobs/runtime/heartbeat.ts";
import type { WorkerOptions } from "../../jobs/runtime/worker.ts";
import { readEnv } from "../../server/env.ts";
import type { Child } from "./child.ts";
import { clock } from "./clock.ts";
import {
  AlreadyStated,
  type CallEvent,
  type Customer,
  callEvents,
  newSubject,
  openCustomers,
  stateOnce,
} from "./customers.ts";
import { type Ground, openGround } from "./ground.ts";
import { between, chance, type Manner, mannersOf } from "./plan.ts";
import type { Arrival, Known } from "./receiver.ts";
import type { Accepted, Disturbance, Evidence, Recorded } from "./verdict.ts";

export type ChaosOptions = {
  events: number;
  endpoints: number;
  workers: number;
  seed: number;
  kills: number;
  restarts: number;
  /** The duration of commits and disturbances. */
  stormSeconds: number;
  /** The time limit until every accepted event has arrived. */
  calmSeconds: number;
  settings?: Record<string, string>;
  tempo?: Pick<WorkerOptions, "heartbeat" | "rescueEveryMs" | "pollIntervalMs">;
  keep?: boolean;
  say(line: string): void;
  /** Aborts when the user interrupts. */
  over?: AbortSignal;
};

export type ChaosEnd = {
  evidence: Evidence;
  manners: Manner[];
  stormSeconds: number;
  calmSeconds: number;
  /** Commits with an unknown outcome, and those of them that were committed. */
  unknownCommits: { settled: number; found: number };
  home: string;
};

/** Clients have no more endpoints than this. */
const endpointsPerClient = 10;
const commitsAtOnce = 16;
/** Longer than any outage of a run. */
const commitPatienceMs = 120_000;
/** After a restart, time for new connections and for records of earlier attempts. */
const settlingMs = 10_000;
/** The longest duration of an attempt, with its record and the wait for a connection. */
const attemptMs = 30_000;

/**
 * Commits events for clients whose endpoints are healthy, failing, slow and hanging, while workers are killed and Postgres
 * is restarted at times chosen by the seed. Then waits until everything has arrived and returns the evidence.
 */
export async function runChaos(options: ChaosOptions, stops: (() => Promise<unknown>)[]): Promise<ChaosEnd> {
  const { say: print, settings = {}, keep = false } = options;
  const ended = new AbortController();
  const over = AbortSignal.any([ended.signal, ...(options.over ? [options.over] : [])]);
  const ground = await openGround(stops, { settings, keep });
  const manners = mannersOf(options.endpoints, options.seed);
  const receiver = await ground.child("./receiver.ts");
  const customers = await openWithManners(ground, receiver, manners, options);
  const storm: Disturbance[] = [];
  const crew = openCrew(ground, options, storm, over);
  stops.push(async () => {
    ended.abort(new Error("The run was ended."));
    await crew.stop();
  });
  await crew.start();
  over.throwIfAborted();

  const began = clock();
  const counted = { accepted: 0, settled: 0, found: 0 };
  const news = async () => {
    const arrived = await receiver.ask<number>("count");
    const kills = storm.filter(({ what }) => what === "kill").length;
    const restarts = storm.length - kills;
    print(`${counted.accepted} committed, ${arrived} requests, ${kills} kills, ${restarts} restarts of Postgres`);
  };
  const reporter = setInterval(() => news().catch(() => {}), 5_000);
  try {
    const [accepted] = await Promise.all([acceptAll(ground, customers, options, counted, over), crew.disturb()]);
    const calmFrom = clock();
    print("all events are committed; waiting until they have arrived, with later retries made due now");
    const settled = await arriveAll(ground, options.calmSeconds * 1000, over);
    const arrivedAt = clock();
    const diedAlone = crew.diedAlone();
    await crew.stop();
    const fromLogs = await disturbancesInLogs(ground, options);
    const { arrivals, refused } = await receiver.ask<{ arrivals: Arrival[]; refused: string[] }>("arrivals");
    const places = { perWorker: readEnv(ground.environment).WORKER_DELIVERY_JOBS, workers: options.workers };
    const inDatabase = await recordsOf(ground, customers);
    const evidence = {
      settled,
      accepted,
      arrivals,
      refused,
      ...inDatabase,
      disturbances: [...storm, ...fromLogs],
      diedAlone,
      places,
    };
    if (keep) await writeFile(join(ground.home, "evidence.json"), JSON.stringify(evidence));
    return {
      ...{ evidence, manners, home: ground.home },
      unknownCommits: { settled: counted.settled, found: counted.found },
      stormSeconds: (calmFrom - began) / 1000,
      calmSeconds: (arrivedAt - calmFrom) / 1000,
    };
  } finally {
    clearInterval(reporter);
  }
}

/** Each endpoint subscribes to two event types, and each event has two or more endpoints of its client. */
async function openWithManners(
  ground: Ground,
  receiver: Child,
  manners: Manner[],
  { endpoints, seed }: ChaosOptions,
): Promise<Customer[]> {
  const clients = Math.max(2, Math.ceil(endpoints / endpointsPerClient));
  const types = typesFor(Math.floor(endpoints / clients));
  const wants = Array.from({ length: endpoints }, (_, n) => {
    const place = Math.floor(n / clients);
    return [...new Set([types[place % types.length]!, types[(place + 1) % types.length]!])];
  });
  const url = `http://127.0.0.1:${await receiver.ask<number>("port")}`;
  const customers = await openCustomers(ground, { clients, endpoints: wants, url });
  const known = customers.map(({ secret, endpoint }) => ({ secret, manner: manners[endpoint]! }));
  await receiver.ask("know", { seed, endpoints: known } satisfies Known);
  return customers;
}

/** No more types than the client with the fewest endpoints has, so that each has a subscriber. */
const typesFor = (endpoints: number): CallEvent[] => callEvents.slice(0, Math.max(1, endpoints));

type Counted = { accepted: number; settled: number; found: number };

/** Commits events at a constant rate, some in parallel, and retries while the database is down. */
async function acceptAll(
  ground: Ground,
  customers: Customer[],
  { events, seed, stormSeconds }: ChaosOptions,
  counted: Counted,
  over: AbortSignal,
): Promise<Accepted[]> {
  const clientIds = [...new Set(customers.map(({ clientId }) => clientId))];
  const began = clock();
  const accepted: Accepted[] = [];
  let next = 0;
  const commitInTurn = async () => {
    while (next < events) {
      const n = next++;
      over.throwIfAborted();
      await sleep(Math.max(0, began + (n * stormSeconds * 1000) / events - clock()));
      const clientId = clientIds[Math.floor(chance(seed, "client", n) * clientIds.length)]!;
      const theirs = customers.filter((customer) => customer.clientId === clientId);
      const types = [...new Set(theirs.flatMap((customer) => customer.types))];
      const type = types[Math.floor(chance(seed, "type", n) * types.length)]!;
      const eventId = await accept(ground, { clientId, type, subjectId: newSubject(), n }, counted, over);
      const endpoints = theirs.filter((customer) => customer.types.includes(type)).map(({ endpoint }) => endpoint);
      accepted.push({ eventId, endpoints });
      counted.accepted = accepted.length;
    }
  };
  await Promise.all(Array.from({ length: commitsAtOnce }, commitInTurn));
  return accepted;
}

/** After a failed commit the outcome is unknown: the next attempt finds out, and emits the event if it was not committed. */
async function accept(
  ground: Ground,
  fact: Parameters<typeof stateOnce>[1],
  counted: Counted,
  over: AbortSignal,
): Promise<string> {
  const until = clock() + commitPatienceMs;
  for (let tries = 1; ; tries++) {
    try {
      return await stateOnce(ground, fact);
    } catch (error) {
      if (error instanceof AlreadyStated) {
        counted.found += 1;
        return error.eventId;
      }
      over.throwIfAborted();
      if (clock() > until) throw error;
      if (tries === 1) counted.settled += 1;
      await sleep(100);
    }
  }
}

const logOf = (home: string, place: number) => join(home, `worker-${place}.log`);

/** The workers, and the disturbances of workers and database. */
function openCrew(
  ground: Ground,
  { workers, seed, kills, restarts, stormSeconds, tempo, say: print }: ChaosOptions,
  storm: Disturbance[],
  over: AbortSignal,
) {
  const places: (Child | null)[] = Array.from({ length: workers }, () => null);
  const killed = new Set<Child>();
  const starting = new Set<Promise<void>>();
  let striking: Promise<void> = Promise.resolve();
  let stopped = false;
  let deaths = 0;

  const stopping = () => stopped || over.aborted;

  /** Retries until it runs: the database may be down. */
  async function fill(place: number) {
    const more = { LOG_LEVEL: "warn", WORKER_TEMPO: JSON.stringify(tempo ?? {}) };
    while (!stopping()) {
      const output = logOf(ground.home, place);
      const child = await ground.child("./worker-ours.ts", more, output).catch(() => null);
      if (!child) {
        await sleep(200);
        continue;
      }
      places[place] = child;
      child.gone.then(() => {
        if (stopping() || killed.has(child)) return;
        deaths += 1;
        print(`worker ${place} ended by itself`);
        places[place] = null;
        refill(place);
      });
      return;
    }
  }
  function refill(place: number) {
    const started = fill(place).finally(() => starting.delete(started));
    starting.add(started);
  }

  /** Waits for a running worker: all may have been killed. */
  async function kill(share: number) {
    const up = () => places.flatMap((child, place) => (child ? [{ child, place }] : []));
    while (up().length === 0 && !stopping()) await sleep(50);
    const victim = up()[Math.floor(share * up().length)];
    if (!victim) return;
    killed.add(victim.child);
    places[victim.place] = null;
    const from = clock();
    await victim.child.kill();
    storm.push({ what: "kill", from, to: clock() });
    refill(victim.place);
  }

  async function restart(how: "immediate" | "fast") {
    const from = clock();
    await ground.restart(how);
    storm.push({ what: how === "fast" ? "fast restart" : "crash", from, to: clock() + settlingMs });
  }

  return {
    start: () => Promise.all(places.map((_, place) => fill(place))),
    diedAlone: () => deaths,
    /** At random times, one in each equal part of the storm. */
    async disturb() {
      const moment = (what: string, n: number, count: number) =>
        ((n + between(0.1, 0.9, chance(seed, what, n))) / count) * stormSeconds * 1000;
      const killings = Array.from({ length: kills }, (_, n) => ({
        at: moment("kill", n, kills),
        strike: () => kill(chance(seed, "victim", n)),
      }));
      const restartings = Array.from({ length: restarts }, (_, n) => ({
        at: moment("restart", n, restarts),
        strike: () => restart(n % 2 === 0 ? "immediate" : "fast"),
      }));
      const began = clock();
      for (const { at, strike } of [...killings, ...restartings].toSorted((a, b) => a.at - b.at)) {
        await sleep(Math.max(0, began + at - clock()), undefined, { signal: over });
        if (stopping()) return;
        striking = strike();
        await striking;
      }
    },
    async stop() {
      stopped = true;
      await striking.catch(() => {}); // already reported
      await Promise.all(starting);
      await Promise.all(places.map((child) => child?.stop()));
    },
  };
}

/** Waits until nothing is pending or queued, and makes later retries due now. Returns false after the time limit. */
async function arriveAll({ owner }: Ground, patienceMs: number, over: AbortSignal): Promise<boolean> {
  const until = clock() + patienceMs;
  for (;;) {
    over.throwIfAborted();
    await owner`
      with later as (
        select client_id, id from deliveries
        where status = 'pending' and admitted_until is null and next_attempt_at > clock_timestamp() + interval '2 seconds'
        order by client_id, id for update skip locked
      )
      update deliveries d set next_attempt_at = clock_timestamp() from later
      where d.client_id = later.client_id and d.id = later.id`;
    await owner`
      update graphile_worker._private_jobs j set run_at = now() from graphile_worker._private_tasks t
      where t.id = j.task_id and t.identifier = 'webhooks.deliver'
        and j.locked_at is null and j.run_at > now() + interval '5 seconds'`;
    const [left] = await owner<{ pending: number; queued: number }[]>`
      select (select count(*)::int from deliveries where status = 'pending')
          + (select count(*)::int from event_fan_outs) as pending,
        (select count(*)::int from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
         where t.identifier = 'webhooks.deliver') as queued`;
    if (left!.pending + left!.queued === 0) return true;
    if (clock() > until) return false;
    await sleep(500);
  }
}

/** From the workers' logs: causes for which an event may have been posted twice. */
async function disturbancesInLogs({ home }: Ground, { workers, tempo }: ChaosOptions): Promise<Disturbance[]> {
  const { everyMs, deadAfterMs } = tempo?.heartbeat ?? beatingDefaults;
  const clockAhead = clock() - Date.now();
  const logs = await Promise.all(
    Array.from({ length: workers }, (_, place) => readFile(logOf(home, place), "utf8").catch(() => "")),
  );
  const lines = logs.flatMap((log) => log.split("\n"));
  return lines.flatMap((line): Disturbance[] => {
    const at = Date.parse(/"time":"([^"]+)"/.exec(line)?.[1] ?? "") + clockAhead;
    if (line.includes('"pool replaced"'))
      return [{ what: "pool replaced", from: at - deadAfterMs - everyMs, to: at + settlingMs }];
    const isUnwritten =
      line.includes("an attempt came too late to be recorded") ||
      (/"task":"webhooks.deliver"/.test(line) && /"outcome":"(retry|unrecorded)"/.test(line));
    return isUnwritten ? [{ what: "not written down", from: at - attemptMs, to: at }] : [];
  });
}

async function recordsOf({ owner }: Ground, customers: Customer[]) {
  const endpointOf = new Map(customers.map(({ id, endpoint }) => [id, endpoint]));
  const rows = await owner`
    select d.endpoint_id, d.event_id, d.status, d.attempts,
      coalesce((select json_agg(a.status order by a.attempt) from delivery_attempts a
                where a.client_id = d.client_id and a.delivery_id = d.id), '[]') as statuses
    from deliveries d`;
  const recorded = rows.map(
    ({ endpoint_id, event_id, status, attempts, statuses }): Recorded => ({
      ...{ endpoint: endpointOf.get(endpoint_id) ?? -1, eventId: event_id, status, attempts, statuses },
    }),
  );
  const stated = (await owner`select id from events where subject_type = 'call'`).map(({ id }) => String(id));
  const lost = await owner`
    select task, error from dead_jobs where task = 'webhooks.deliver'`;
  const off = await owner`select id, disabled_code from webhook_endpoints where status <> 'enabled'`;
  return {
    ...{ recorded, stated },
    gaveUp: lost.map(({ task, error }) => `${task}: ${error}`),
    disabledEndpoints: off.map(({ id, disabled_code }) => `${id}: ${disabled_code}`),
  };
}
