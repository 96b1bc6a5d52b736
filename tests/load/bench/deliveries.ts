import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { eventTypes } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { eventEnvelope } from "../../routers/events/service.ts";
import { createEndpoint } from "../../routers/webhooks/service.ts";
import { seedClient } from "../../server/dev/seed.ts";
import { bareDatabase } from "./bare-database.ts";
import type { Child } from "./child.ts";
import type { BenchOptions, Ground } from "./ground.ts";
import type { Posts } from "./post-loop.ts";
import { type Round, summed } from "./rounds.ts";
import { table } from "./table.ts";

/** Of each round. */
const count = 10_000;
const warmUpCount = 2_000;
const rounds = 3;
/** As many at once as our worker runs by default. */
const concurrency = 150;
/** Enough of both that the places per endpoint and per client are never what is waited for. */
const clientCount = 10;
const endpointsEach = 5;
const wantedBytes = 1024;
/** Events that were delivered before: a table that is all but empty is nobody's, and Postgres plans for it badly. */
const history = 20_000;
const patienceMs = 60_000;
const lookEveryMs = 100;

type Endpoint = { clientId: string; id: string; type: string };
type Event = Endpoint & { eventId: string; at: string; data: string };
type Contestant = {
  name: string;
  profile: string;
  child: Child;
  /** What lies ready before anything is measured. */
  prepare?(events: Event[]): Promise<unknown>;
  run(events: Event[]): Promise<unknown>;
  /** How much has been recorded so far, of that which must grow by one for each event. */
  recorded?(): Promise<Record<string, number>>;
};

/** Webhooks out, every attempt recorded, beside a loop that only posts the same bodies to the same sink. */
export async function benchDeliveries(ground: Ground, { profiles, say }: BenchOptions): Promise<string> {
  const sink = await ground.child("./sink.ts");
  const url = `http://127.0.0.1:${await sink.ask<number>("port")}/hook`;
  const endpoints = await openEndpoints(ground, url);
  const { clientId } = endpoints[0]!;
  const loop = await ground.child("./post-loop.ts");
  const bare = await openBare(ground);
  const queue = await ground.child("./worker-rows.ts", { DATABASE_URL: bare.url });
  const worker = await ground.child("./worker-ours.ts");
  const posting = (recorded: boolean) => (events: Event[]) =>
    loop.ask("post", { url, bodies: events.map(bodyOf), concurrency, clientId, recorded } satisfies Posts);
  const ours = {
    child: worker,
    run: () => settled(ground),
    recorded: () => records(ground),
  };

  const contestants: Contestant[] = [
    { name: "undici loop", profile: "loop", child: loop, run: posting(false) },
    { name: "undici loop, a row inserted for each", profile: "loop-rows", child: loop, run: posting(true) },
    {
      name: "graphile-worker, a row inserted for each",
      profile: "queue",
      child: queue,
      run: (events) => bare.drained(events.map((event) => ({ url, body: bodyOf(event) }))),
      recorded: bare.recorded,
    },
    {
      name: "ours, deliveries that are due",
      profile: "ours",
      ...ours,
      async prepare(events) {
        await insertEvents(ground, events);
        await insertDeliveries(ground, events);
      },
    },
    {
      name: "ours, from the event on",
      profile: "events",
      ...ours,
      async prepare(events) {
        await insertEvents(ground, events);
        await queueFanOuts(ground, events);
      },
    },
  ];
  await insertHistory(ground, endpoints);
  const taken = new Map<Contestant, Round[]>(contestants.map((contestant) => [contestant, []]));
  const last = profiles === null ? rounds : rounds + 1;
  for (let round = 0; round <= last; round++) {
    for (const contestant of contestants) {
      const { name, profile, child, prepare, run, recorded } = contestant;
      if (round === 0) say(`warming up: ${name}`);
      const watched = profiles !== null && round > rounds;
      const events = eventsFor(endpoints, round === 0 ? warmUpCount : count);
      const before = await recorded?.();
      await sink.ask("forget");
      if (watched) await child.ask("profile.start");
      await prepare?.(events);
      const [cpuBefore, postgresBefore] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
      await run(events);
      const ended = performance.timeOrigin + performance.now();
      const [cpu, postgres] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
      if (watched) await child.ask("profile.stop", join(profiles, `deliveries-${profile}.cpuprofile`));
      const { posts, firstAt } = await sink.ask<{ posts: number; firstAt: number }>("seen");
      if (posts !== events.length) throw new Error(`${name}: ${posts} posts of ${events.length} events`);
      for (const [what, soFar] of Object.entries((await recorded?.()) ?? {})) {
        const grown = soFar - before![what]!;
        if (grown !== events.length) throw new Error(`${name}: ${grown} ${what} of ${events.length} events`);
      }
      if (round === 0 || watched) continue;
      const inPostgres = postgres === null || postgresBefore === null ? null : postgres - postgresBefore;
      taken
        .get(contestant)!
        .push({ count, seconds: (ended - firstAt) / 1000, cpu: cpu - cpuBefore, postgres: inPostgres });
    }
  }
  await Promise.all([worker.stop(), queue.stop(), loop.stop(), sink.stop()]);
  await bare.close();

  const first = summed(taken.get(contestants[0]!)!);
  const second = summed(taken.get(contestants[1]!)!);
  const rows = contestants.map((contestant) => {
    const { perSecond, cpu, postgres } = summed(taken.get(contestant)!);
    return [contestant.name, perSecond, cpu, postgres, perSecond / first.perSecond, perSecond / second.perSecond];
  });
  const heads = ["deliveries", "per second", "CPU us", "Postgres us", "to the loop", "to the loop with rows"];
  const places = `${clientCount} clients with ${endpointsEach} endpoints each`;
  return table(`Deliveries: ${rounds} times ${count} of 1 KB, ${concurrency} at once, ${places}`, heads, rows);
}

/** A database of its own for the queue's library alone. */
async function openBare({ environment, owner }: Ground) {
  const url = await bareDatabase({ environment, owner });
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql`create table attempts (id text primary key, status int, latency_ms int, response text,
    created_at timestamptz not null default clock_timestamp())`;
  return {
    url,
    /** Queues them in one commit, and waits until the last is gone from the table. */
    async drained(payloads: { url: string; body: string }[]) {
      await sql`
        select count(*) from graphile_worker.add_jobs(array(
          select row('webhooks.deliver', payload, null, now(), 10, null, 0, null)::graphile_worker.job_spec
          from json_array_elements(${sql.json(payloads)}::json) payload))`;
      await patiently(async () => (await sql`select from graphile_worker._private_jobs limit 1`).length === 0);
    },
    async recorded() {
      const [kept] = await sql`select count(*)::int as attempts from attempts where status = 200`;
      return { attempts: kept!.attempts as number };
    },
    close: () => sql.end({ timeout: 1 }),
  };
}

/** Each wants one type of event, so that one event is one delivery. */
async function openEndpoints({ deps }: Ground, url: string): Promise<Endpoint[]> {
  const endpoints: Endpoint[] = [];
  for (let n = 0; n < clientCount; n++) {
    const { clientId } = await seedClient(deps, { name: `Client ${n}`, subject: `auth0|client-${n}`, credits: 1 });
    const ring = await deps.providers.vault.keys(clientId, "webhook_secret");
    for (const type of eventTypes.slice(0, endpointsEach)) {
      const wanted = { url, description: null, eventTypes: [type] };
      const made = await deps.db.asClient({ clientId }, (tx) =>
        createEndpoint(tx, wanted, ring, { allowPrivate: true }),
      );
      endpoints.push({ clientId, id: made.id, type });
    }
  }
  return endpoints;
}

function eventsFor(endpoints: Endpoint[], wanted: number): Event[] {
  const at = new Date().toISOString();
  return Array.from({ length: wanted }, (_, place) => {
    const bare = { ...endpoints[place % endpoints.length]!, eventId: newId("event"), at, data: '{"note":""}' };
    const missing = wantedBytes - bodyOf(bare).length;
    return { ...bare, data: JSON.stringify({ note: "n".repeat(Math.max(0, missing)) }) };
  });
}

function bodyOf({ clientId, eventId: id, type, at, data }: Event): string {
  const subject = { subjectType: "call", subjectId: id, sequence: 1 };
  return JSON.stringify(
    eventEnvelope({ clientId, id, type, ...subject, createdAt: new Date(at), data: JSON.parse(data) }),
  );
}

async function insertEvents({ owner }: Ground, events: Event[]) {
  const column = (read: (event: Event) => string) => owner.array(events.map(read));
  await owner`
    insert into events (client_id, id, type, subject_type, subject_id, sequence, data, created_at)
    select client_id, id, type, 'call', id, 1, data::jsonb, at::timestamptz
    from unnest(${column((e) => e.clientId)}::text[], ${column((e) => e.eventId)}::text[], ${column((e) => e.type)}::text[],
      ${column((e) => e.data)}::text[], ${column((e) => e.at)}::text[]) as made(client_id, id, type, data, at)`;
}

async function insertHistory(ground: Ground, endpoints: Endpoint[]) {
  const events = eventsFor(endpoints, history);
  await insertEvents(ground, events);
  await insertDeliveries(ground, events, "delivered");
  await ground.owner`analyze`;
}

/** As the fan-out leaves them where no place is free: the next sweep admits the first of each endpoint. */
async function insertDeliveries({ owner }: Ground, events: Event[], state: "pending" | "delivered" = "pending") {
  const column = (read: (event: Event) => string) => owner.array(events.map(read));
  await owner`
    insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, state, next_attempt_at)
    select e.client_id, made.id, made.endpoint_id, e.id, e.type, e.created_at, ${state},
      case when ${state} = 'pending' then clock_timestamp() end
    from unnest(${owner.array(events.map(() => newId("delivery")))}::text[], ${column((e) => e.eventId)}::text[],
      ${column((e) => e.id)}::text[]) as made(id, event_id, endpoint_id)
    join events e on e.id = made.event_id`;
}

/** As `emit` queues them, in one commit. */
async function queueFanOuts({ owner }: Ground, events: Event[]) {
  const jobs = Map.groupBy(events, ({ clientId }) => clientId);
  await owner.begin(async (tx) => {
    for (const [clientId, theirs] of jobs) {
      const rows = theirs.map(({ eventId, at }) => ({ task: "events.fanOut", body: { eventId, createdAt: at } }));
      await tx`select graphile_worker.patchbay_add(${clientId}, ${tx.json(rows)}::json)`;
    }
  });
}

/** Waits until nothing is pending and nothing is queued. */
const settled = ({ owner }: Ground) =>
  patiently(async () => {
    const [left] = await owner`
      select exists (select from deliveries where state = 'pending' and admitted_until is null)
          or exists (select from deliveries where state = 'pending' and admitted_until is not null)
          or exists (select from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
                     where t.identifier in ('events.fanOut', 'webhooks.deliver')) as some`;
    return !left!.some;
  });

async function patiently(isOver: () => Promise<boolean>) {
  const until = performance.now() + patienceMs;
  while (!(await isOver())) {
    if (performance.now() > until) throw new Error(`deliveries are still under way after ${patienceMs / 1000} s`);
    await sleep(lookEveryMs);
  }
}

async function records({ owner }: Ground) {
  const [seen] = await owner<{ delivered: number; attempts: number }[]>`
    select (select count(*)::int from deliveries where state = 'delivered' and attempts = 1) as delivered,
      (select count(*)::int from delivery_attempts where status = 200) as attempts`;
  return { ...seen! };
}
