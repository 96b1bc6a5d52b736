import { and, eq, isNull, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { events, webhookEndpoints } from "../../db/schema/events.ts";
import { wants } from "./match.ts";

/** The limits of deliveries in one list. */
export const dispatchLimits = {
  endpointsPerClient: 50,
  /** Deliveries that are queued or at work at once. A place is taken only by what is due, never by what waits. */
  inFlightPerEndpoint: 10,
  inFlightPerClient: 100,
  /** An admission is good for so long, from the moment the delivery is due. */
  leaseSeconds: 60,
  /** The sweep comes by every second or two: what falls due until then is admitted, to run on its second. */
  admitAheadSeconds: 2,
  /** From the first byte sent to the last byte read. */
  deadlineSeconds: 15,
  /** When the secret cannot be opened because the key service is away. */
  deferSeconds: 30,
} as const;

const { inFlightPerEndpoint, inFlightPerClient, leaseSeconds, admitAheadSeconds } = dispatchLimits;

const isWaiting = sql`d.state = 'pending' and d.admitted_until is null`;
const isDue = sql`${isWaiting}
  and d.next_attempt_at <= clock_timestamp() + make_interval(secs => ${sql.raw(String(admitAheadSeconds))})`;
const isInFlight = sql`d.state = 'pending' and d.admitted_until is not null`;

/** Takes a place for the rows of the CTE `chosen`, and queues them: the claim names the admission. */
const admitAndQueue = sql`admitted as (
    update deliveries d set claim = d.claim + 1,
      admitted_until = greatest(clock_timestamp(), d.next_attempt_at) + make_interval(secs => ${sql.raw(String(leaseSeconds))})
    from chosen where d.id = chosen.id and d.admitted_until is null
    returning d.id, d.claim, d.next_attempt_at
  ), queued as materialized (
    select count(*) as n, case when count(*) > 0 then graphile_worker.patchbay_enqueue(json_agg(json_build_object(
      'task', 'webhooks.deliver', 'body', json_build_object('deliveryId', id, 'claim', claim),
      'runAt', greatest(clock_timestamp(), next_attempt_at)))) end
    from admitted
  )`;

/**
 * Lets a crash forget the last instants of this transaction. The queue forgets a job only in a later commit, so what is
 * forgotten here is done again. Whoever holds the admission lock is thus spared from waiting for the disk.
 */
const forgetful = sql`select set_config('synchronous_commit', 'off', true)`;

const admissionKey = sql`hashtextextended('webhooks.admit:' || current_setting('app.client_id'), 0)`;

/** One delivery per endpoint that wants the event, however often this runs; then admits what has room. null: no such event. */
export async function fanOut(
  tx: Tx,
  { eventId, createdAt }: { eventId: string; createdAt: string },
): Promise<number | null> {
  const isEvent = sql`${events.id} = ${eventId} and ${events.createdAt} = ${createdAt}::text::timestamptz`;
  const rows = await tx
    .select({ type: events.type, endpointId: webhookEndpoints.id, patterns: webhookEndpoints.eventTypes })
    .from(events)
    .leftJoin(
      webhookEndpoints,
      and(
        eq(webhookEndpoints.clientId, events.clientId),
        eq(webhookEndpoints.status, "enabled"),
        isNull(webhookEndpoints.deletedAt),
      ),
    )
    .where(isEvent);
  if (rows.length === 0) return null;
  const endpointIds = rows.flatMap(({ type, endpointId, patterns }) => {
    return endpointId && patterns && wants(patterns, type) ? [endpointId] : [];
  });
  if (endpointIds.length === 0) return 0;
  const ids = endpointIds.map(() => newId("delivery"));
  // All of the same kind, so that they are sent in this order, in one trip. The count must come after the lock.
  await Promise.all([
    tx.execute(forgetful),
    tx.execute(sql`
      insert into deliveries (id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at)
      select made.id, made.endpoint_id, events.id, events.type, events.created_at, clock_timestamp()
      from events, unnest(${textArray(ids)}, ${textArray(endpointIds.toSorted())}) as made(id, endpoint_id)
      where ${isEvent}
      on conflict (client_id, endpoint_id, event_id) do nothing`),
    tx.execute(sql`select pg_advisory_xact_lock(${admissionKey})`),
    tx.execute(admission(sql`= any(${textArray(endpointIds)})`)),
  ]);
  return endpointIds.length;
}

/** Frees admissions whose lease is over, then admits what is due. null when somebody else is admitting for this client. */
export async function refill(
  tx: Tx,
  { lagSeconds }: { lagSeconds: number },
): Promise<{ freed: number; admitted: number } | null> {
  const [lock] = await tx.execute<{ held: boolean }>(sql`select pg_try_advisory_xact_lock(${admissionKey}) as held`);
  if (!lock?.held) return null;
  const [, [freed], [admitted]] = await Promise.all([
    tx.execute(forgetful),
    // Rows at which somebody is writing are passed over: he may be waiting for the lock that we hold.
    tx.execute<Counted>(sql`
      with expired as (
        select d.id from deliveries d where ${isInFlight}
          and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)
        for update skip locked
      ), freed as (
        update deliveries d set admitted_until = null from expired where d.id = expired.id returning 1
      )
      select count(*)::int as n from freed`),
    tx.execute<Counted>(admission()),
  ]);
  return { freed: freed?.n ?? 0, admitted: admitted?.n ?? 0 };
}

type Counted = { n: number };

/** Who holds an admission: its row, and the claim that must still be good when he writes. */
export type Held = { deliveryId: string; endpointId: string; claim: number };

export type Attempt = { status: number | null; error: string | null; latencyMs: number; response: string | null };

export type Finding = {
  /** null: nothing was sent, and no attempt is used up. */
  attempt: Attempt | null;
  outcome:
    | { state: "delivered" }
    | { state: "dead"; error?: string }
    | { state: "pending"; inSeconds: number; error?: string };
};

/**
 * Writes down what became of an admission, if it still holds; false, and nothing is written, if it does not.
 * The place that comes free goes to the endpoint's next due delivery in the same statement. That changes no count, so it
 * needs no lock. Only where the client's places are all taken it is given up, for the endpoint that has waited longest.
 */
export async function record(tx: Tx, held: Held, { attempt, outcome }: Finding): Promise<boolean> {
  const { status, error, latencyMs, response } = attempt ?? { status: null, error: null, latencyMs: 0, response: null };
  const inSeconds = outcome.state === "pending" ? outcome.inSeconds : null;
  const lastError = ("error" in outcome ? outcome.error : undefined) ?? error;
  const handsOn = attempt !== null || outcome.state === "dead";
  const [, [written]] = await Promise.all([
    tx.execute(forgetful),
    tx.execute<{ recorded: boolean; crowded: boolean }>(sql`
      with held as (
        select id, endpoint_id, admitted_until is not null as has_place from deliveries
        where id = ${held.deliveryId} and claim = ${held.claim}::bigint and state = 'pending' for update
      ), recorded as (
        update deliveries d set
          state = ${outcome.state}, attempts = d.attempts + ${attempt ? 1 : 0}::int,
          last_status = case when ${attempt !== null}::bool then ${status}::int else d.last_status end,
          last_error = ${lastError}::text,
          admitted_until = null,
          next_attempt_at = clock_timestamp() + make_interval(secs => ${inSeconds}::float8),
          finished_at = case when ${outcome.state}::text <> 'pending' then clock_timestamp() end
        from held where d.id = held.id
        returning d.attempts, held.has_place
      ), kept as (
        insert into delivery_attempts (id, delivery_id, endpoint_id, attempt, status, error, latency_ms, response)
        select ${newId("attempt")}, ${held.deliveryId}, ${held.endpointId}, attempts, ${status}::int, ${error}::text,
          ${latencyMs}::int, ${response}::text
        from recorded where ${attempt !== null}::bool
      ), free as (
        select has_place and ${handsOn}::bool as place,
          (select count(*) from deliveries d where ${isInFlight}) >= ${inFlightPerClient}::int as crowded
        from recorded
      ), chosen as (
        select d.id from deliveries d
        where d.endpoint_id = ${held.endpointId} and ${isDue} and (select place and not crowded from free)
        order by d.next_attempt_at limit 1 for update skip locked
      ), ${admitAndQueue}
      select exists (select from recorded) as recorded, coalesce((select place and crowded from free), false) as crowded, n from queued`),
  ]);
  if (written?.crowded) {
    await Promise.all([tx.execute(sql`select pg_advisory_xact_lock(${admissionKey})`), tx.execute(admission())]);
  }
  return written?.recorded ?? false;
}

/**
 * Admits what is due, as far as there is room: an endpoint's first delivery goes before another's second.
 * The caller holds the client's admission lock, and took it in an earlier statement.
 */
function admission(endpoints?: SQL): SQL {
  return sql`
    with busy as (
      select d.endpoint_id, count(*)::int as n from deliveries d where ${isInFlight} group by d.endpoint_id
    ), waiting as (
      select due.id, due.next_attempt_at, coalesce(busy.n, 0) + row_number() over (partition by e.id order by due.next_attempt_at) as turn
      from webhook_endpoints e
      left join busy on busy.endpoint_id = e.id
      cross join lateral (
        select d.id, d.next_attempt_at from deliveries d
        where d.client_id = e.client_id and d.endpoint_id = e.id and ${isDue}
        order by d.next_attempt_at limit greatest(0, ${inFlightPerEndpoint}::int - coalesce(busy.n, 0))
        for update skip locked
      ) due
      where ${endpoints ? sql`e.id ${endpoints}` : sql`true`}
    ), chosen as (
      select id from waiting order by turn, next_attempt_at
      limit greatest(0, ${inFlightPerClient}::int - coalesce((select sum(n) from busy), 0)::int)
    ), ${admitAndQueue}
    select n::int as n from queued`;
}

/** Ids hold no commas; the driver knows no arrays. */
const textArray = (ids: readonly string[]) => sql`string_to_array(${ids.join(",")}::text, ',')`;

/** The sweeps of all workers take turns: false when another one is at it. */
export async function leadSweep(house: Tx): Promise<boolean> {
  const [lock] = await house.execute<{ held: boolean }>(
    sql`select pg_try_advisory_xact_lock(hashtextextended('webhooks.sweep', 0)) as held`,
  );
  return lock?.held ?? false;
}

/** An admitted delivery may still be waiting in the queue. So long as the queue is behind, leases last longer. */
export async function queueLagSeconds(house: Tx): Promise<number> {
  const [queue] = await house.execute<{ seconds: number }>(
    sql`select graphile_worker.patchbay_oldest_due_seconds() as seconds`,
  );
  return Math.min(queue?.seconds ?? 0, 1_800);
}

/**
 * Every client for whom something is due or has expired, found by stepping from endpoint to endpoint: a client with a
 * hundred thousand due rows costs no more than one with ten.
 */
export async function clientsWithWork(house: Tx, { lagSeconds }: { lagSeconds: number }): Promise<string[]> {
  const rows = await house.execute<{ client_id: string }>(sql`
    with recursive line as (
      (select d.client_id, d.endpoint_id from deliveries d where ${isWaiting} order by 1, 2 limit 1)
      union all
      select further.client_id, further.endpoint_id from line cross join lateral (
        select d.client_id, d.endpoint_id from deliveries d
        where ${isWaiting} and (d.client_id, d.endpoint_id) > (line.client_id, line.endpoint_id)
        order by 1, 2 limit 1
      ) further
    )
    select line.client_id from line cross join lateral (
      select d.id from deliveries d
      where d.client_id = line.client_id and d.endpoint_id = line.endpoint_id and ${isDue}
      order by d.next_attempt_at limit 1
    ) due
    union
    select d.client_id from deliveries d
    where ${isInFlight} and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)`);
  return rows.map((row) => row.client_id);
}

export type Found = Held & {
  state: string;
  /** Attempts made so far. */
  attempts: number;
  url: string;
  endpointState: "enabled" | "disabled" | "deleted";
  secret: Buffer;
  /** null when the event is past its age and gone. */
  event: FoundEvent | null;
};

type FoundEvent = {
  id: string;
  type: string;
  createdAt: Date;
  clientId: string;
  subjectType: string;
  subjectId: string;
  sequence: number;
  data: unknown;
};

/** A delivery with its endpoint and its event, for `readOne`: the text is constant and $4 the id. */
export const hotDelivery = `
  select d.id, d.endpoint_id, d.claim, d.state, d.attempts, w.url, w.secret,
         case when w.deleted_at is not null then 'deleted' else w.status end as endpoint_state,
         e.id as event_id, e.type, e.created_at, e.client_id, e.subject_type, e.subject_id, e.sequence, e.data
  from deliveries d
  join webhook_endpoints w on w.client_id = d.client_id and w.id = d.endpoint_id
  left join events e on e.client_id = d.client_id and e.id = d.event_id and e.created_at = d.event_created_at
  where d.id = $4`;

/** A row of `hotDelivery`, as the driver gives it: timestamps and bigints are text. */
export function fromHotDelivery(row: Record<string, unknown>): Found {
  const hot = row as HotRow;
  return {
    deliveryId: hot.id,
    endpointId: hot.endpoint_id,
    claim: Number(hot.claim),
    state: hot.state,
    attempts: hot.attempts,
    url: hot.url,
    endpointState: hot.endpoint_state,
    secret: hot.secret,
    event: hot.event_id === null ? null : eventOf(hot, hot.event_id),
  };
}

function eventOf(hot: HotRow, id: string): FoundEvent {
  return {
    id,
    type: hot.type,
    createdAt: new Date(hot.created_at),
    clientId: hot.client_id,
    subjectType: hot.subject_type,
    subjectId: hot.subject_id,
    sequence: hot.sequence,
    data: hot.data,
  };
}

type HotRow = {
  id: string;
  endpoint_id: string;
  claim: string;
  state: string;
  attempts: number;
  url: string;
  secret: Buffer;
  endpoint_state: Found["endpointState"];
  event_id: string | null;
  type: string;
  created_at: string;
  client_id: string;
  subject_type: string;
  subject_id: string;
  sequence: number;
  data: unknown;
};
