import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";

/** Deliveries that are queued or at work at once. A place is taken only by what is due, never by what waits. */
export const places = {
  perEndpoint: 10,
  /** Of one that has failed so often in a row: it may hang, and whoever hangs holds a worker's attention for long. */
  perFailing: 2,
  failingFrom: 5,
  perClient: 100,
} as const;

/**
 * What the slots of all workers are shared by. A client may hold at most as many as are free, and a quarter; so may each
 * client with slow endpoints of the half that those get together. The last tenth is for what has just happened to a client
 * that holds nothing: no backlog is admitted to it, whoever it belongs to.
 */
export const sharing = {
  clientsPart: 4,
  slowPart: 2,
  reservedPart: 10,
  /** An endpoint is slow for so long after an answer that took so long. */
  slowFromMs: 5_000,
  slowForSeconds: 300,
  /** Slots where no worker has said how many it has. */
  slotsUnlessKnown: 400,
  /** A worker that was silent for so long counts no more. */
  silentSeconds: 30,
} as const;

/** A number of ours, in the text itself: the text stays one, and the planner knows it. */
const number = (value: number) => sql.raw(String(value));

/** An admission is good for so long, from the moment the delivery is to begin. */
const leaseSeconds = 60;
/** The sweep comes by every second: what is to begin until the one after is admitted, and begins on its instant. */
const aheadSeconds = 2;

/** An endpoint with a place that came free, or (null) a client of whose endpoints any may have one. */
export type SlotRequest = { clientId: string; endpointId: string | null };

/**
 * For transactions that look at many rows by their keys. A crash may forget their last instants: the queue forgets a job
 * only in a later commit, so what is forgotten here is done again, and nobody waits for the disk. And since a plan is kept
 * for long, and a table may have been empty when it was made, they look keys up one by one.
 */
export function swiftly(tx: Tx) {
  return tx.execute(sql`
    select set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),
      set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`);
}

/**
 * Who counts places holds this until his commit, and counts in a later statement. Taken in order, and before any row of
 * `deliveries` is locked.
 */
export function lockPlaces(tx: Tx, clientIds: readonly string[]) {
  return tx.execute(sql`
    select pg_advisory_xact_lock(hashtextextended('webhooks.admit:' || c.id, 0))
    from (select id from ${unnested(clientIds, "id")} order by id) c`);
}

/** Those of the clients whose places nobody else is counting at the moment, now locked. */
export async function tryLockPlaces(tx: Tx, clientIds: readonly string[]): Promise<string[]> {
  const rows = await tx.execute<{ id: string }>(sql`
    select c.id from (select id from ${unnested(clientIds, "id")} order by id) c
    where pg_try_advisory_xact_lock(hashtextextended('webhooks.admit:' || c.id, 0))`);
  return rows.map(({ id }) => id);
}

/**
 * Endpoints with a rate are locked before their deliveries: the admission notes on them when the next attempt may begin.
 * In order, and after the places.
 */
export function lockRated(tx: Tx, clientIds: readonly string[]) {
  return tx.execute(sql`
    select e.id from (select id from ${unnested(clientIds, "id")} order by id) c join webhook_endpoints e on e.client_id = c.id
    where e.rate_per_second is not null order by e.client_id, e.id for no key update of e`);
}

/**
 * Whoever counts the slots of the installation holds this until the commit: two that counted at the same time would give
 * the same slots to two clients. Taken last, right before the admission, so that nobody waits for anything under it.
 */
export const lockSlots = (tx: Tx) =>
  tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('webhooks.slots', 0))`);

export const isInFlight = sql`d.status = 'pending' and d.admitted_until is not null`;
export const isWaiting = sql`d.status = 'pending' and d.admitted_until is null`;
export const isDue = sql`${isWaiting}
  and d.next_attempt_at <= statement_timestamp() + make_interval(secs => ${number(aheadSeconds)})`;

/** Gives places that came free to what is due, in a transaction of its own. Answers how many there were. */
export async function reserveDueSlots(tx: Tx, wanted: readonly SlotRequest[]): Promise<number> {
  const clientIds = wanted.map(({ clientId }) => clientId);
  const [, , , , [admitted]] = await Promise.all([
    swiftly(tx),
    lockPlaces(tx, clientIds),
    lockRated(tx, clientIds),
    lockSlots(tx),
    admit(tx, wanted),
  ]);
  return admitted?.n ?? 0;
}

/**
 * Admits what is due and queues it, as far as there is room: an endpoint's first delivery goes before another's second, a
 * client's first before another's second, and each of an endpoint with a rate begins so much later than the one before. Its
 * answer is how many. What is admitted never exceeds the slots that workers have, so nothing waits in the queue behind
 * another client's slow receivers. Where a client was at its limit, the slots that came free go to whichever of its
 * endpoints has waited longest. What the operator has paused waits, and so does what belongs to a client that is suspended.
 * The rows stay locked from the choice to the update, so that it finds them by where they lie.
 */
export function admit(tx: Tx, wanted: readonly SlotRequest[], options?: Freshness) {
  return tx.execute<{ n: number }>(admission(wanted, options));
}

/** `isFresh`: it has just happened, and is no backlog. */
type Freshness = { isFresh: boolean };

/** The statement of it; exported for the test that pins its plan. */
export function admission(wanted: readonly SlotRequest[], { isFresh }: Freshness = { isFresh: false }): SQL {
  const room = sql`case when e.consecutive_failures < ${number(places.failingFrom)} then ${number(places.perEndpoint)}
    else ${number(places.perFailing)} end as room`;
  const slow = sql`coalesce(e.slow_at > statement_timestamp() - make_interval(secs => ${number(sharing.slowForSeconds)}), false) as slow`;
  const [ahead, lease] = [number(aheadSeconds), number(leaseSeconds)];
  const clientIds = wanted.map(({ clientId }) => clientId);
  const endpointIds = wanted.map(({ endpointId }) => endpointId ?? "*");
  return sql`
    with wanted as materialized (
      select * from rows from (${list(clientIds)}, ${list(endpointIds)}) as w(client_id, endpoint_id)
    ), asking as materialized (
      select client_id, count(*) filter (where endpoint_id <> '*') as freed, bool_or(endpoint_id = '*') as any_endpoint
      from wanted group by 1
    ), busy as materialized (
      select a.client_id, d.endpoint_id, count(*)::int as n, count(*) filter (where d.slow)::int as slow
      from asking a cross join lateral (
        select d.endpoint_id, d.slow from deliveries d where d.client_id = a.client_id and ${isInFlight} offset 0) d
      group by 1, 2
    ), taken as materialized (
      select a.client_id, a.freed, a.any_endpoint, coalesce(sum(b.n), 0)::int as n, coalesce(sum(b.slow), 0)::int as slow
      from asking a left join busy b on b.client_id = a.client_id group by 1, 2, 3
    ), slots as materialized (
      ${slotsInAll}
    ), shares as materialized (
      ${sharesOf}
    ), paused as materialized (
      select array(select scope from delivery_pauses) as scopes
    ), open as materialized (
      select e.client_id, e.id, ${room}, ${slow}, e.rate_per_second as rate, greatest(e.rate_due_at, statement_timestamp()) as rate_due_at
      from (select distinct client_id, endpoint_id from wanted where endpoint_id <> '*') w
      join clients c on c.id = w.client_id and c.status = 'active'
      join webhook_endpoints e on e.client_id = w.client_id and e.id = w.endpoint_id
      union
      select e.client_id, e.id, ${room}, ${slow}, e.rate_per_second, greatest(e.rate_due_at, statement_timestamp())
      from shares s join clients c on c.id = s.client_id and c.status = 'active'
      join webhook_endpoints e on e.client_id = s.client_id
      where s.any_endpoint or s.held + s.freed >= s.most
    ), waiting as materialized (
      select e.client_id, e.id as endpoint_id, e.slow, e.rate, e.rate_due_at, due.id, due.spot, due.next_attempt_at,
        coalesce(busy.n, 0) + row_number() over (partition by e.client_id, e.id order by due.next_attempt_at) as turn
      from open e
      join shares s on s.client_id = e.client_id
      left join busy on busy.client_id = e.client_id and busy.endpoint_id = e.id
      cross join lateral (
        select d.id, d.ctid as spot, d.next_attempt_at from deliveries d
        where d.client_id = e.client_id and d.endpoint_id = e.id and ${isDue}
        order by d.next_attempt_at
        limit greatest(0, least(e.room - coalesce(busy.n, 0), s.most - s.held, s.free,
          case when e.slow then least(s.most_slow - s.held_slow, s.free_slow) end, case when e.rate is not null then
          ceil(extract(epoch from statement_timestamp() - e.rate_due_at + make_interval(secs => ${ahead})) * e.rate) end))::bigint
        for update skip locked
      ) due
      where not array['all', e.client_id, e.id] && (select scopes from paused)
    ), chosen as materialized (
      select r.*, row_number() over (partition by r.client_id, r.endpoint_id order by r.next_attempt_at) - 1 as before
      from (${shareOut(isFresh)}) r
    ), timed as materialized (
      select client_id, id, spot, slow, greatest(statement_timestamp(), next_attempt_at,
        case when rate is not null then rate_due_at + make_interval(secs => before / rate::float8) end) as run_at
      from chosen
    ), admitted as (
      update deliveries d set claim = d.claim + 1, slow = timed.slow,
        admitted_until = timed.run_at + make_interval(secs => ${lease})
      from timed where d.ctid = timed.spot and d.client_id = timed.client_id and d.id = timed.id and d.admitted_until is null
      returning d.client_id, d.id, d.claim, timed.run_at
    ), slowed as (
      update webhook_endpoints e set rate_due_at = c.rate_due_at + make_interval(secs => c.n / c.rate::float8)
      from (select client_id, endpoint_id, rate, rate_due_at, count(*) as n from chosen where rate is not null group by 1, 2, 3, 4) c
      where e.client_id = c.client_id and e.id = c.endpoint_id
    ), queued as materialized (
      select count(*)::int as n, case when count(*) > 0 then graphile_worker.patchbay_enqueue_all('webhooks.deliver',
        array_agg(client_id), array_agg(json_build_object('deliveryId', id, 'claim', claim)), array_agg(run_at)) end
      from admitted
    )
    select n from queued`;
}

/** What the workers that are alive can send at once, and what is in flight for all clients. */
const slotsInAll = sql`
  select flying.n as flying, flying.slow as flying_slow,
    coalesce(nullif((select sum(h.slots) from worker_heartbeats h where h.kind = 'deliveries'
      and h.beat_at > clock_timestamp() - make_interval(secs => ${number(sharing.silentSeconds)})), 0),
      ${number(sharing.slotsUnlessKnown)})::int as n
  from (select count(*)::int as n, count(*) filter (where d.slow)::int as slow from deliveries d where ${isInFlight}) flying`;

/** Of each client: what it holds, the most that it may hold, and what is free for anybody. */
const sharesOf = sql`
  select t.client_id, t.freed, t.any_endpoint, t.n as held, t.slow as held_slow,
    greatest(1, least(${number(places.perClient)}, s.n / ${number(sharing.clientsPart)}, (s.n - (s.flying - t.n)) / 2)) as most,
    greatest(1, (s.n / ${number(sharing.slowPart)} - (s.flying_slow - t.slow)) / 2) as most_slow,
    s.n - s.flying as free, greatest(1, s.n / ${number(sharing.slowPart)}) - s.flying_slow as free_slow,
    s.n / ${number(sharing.reservedPart)} as reserved
  from taken t cross join slots s`;

/** What is slow within the part for it; then what each client may have; then what there is for all. */
function shareOut(isFresh: boolean): SQL {
  const fresh = sql.raw(String(isFresh));
  return sql`
    select * from (
      select p.*, row_number() over (order by p.held + p.place, p.next_attempt_at) as rank from (
        select q.*, row_number() over (partition by q.client_id order by q.turn, q.next_attempt_at) as place,
          row_number() over (partition by q.slow order by q.held_slow + q.slow_place, q.next_attempt_at) as slow_rank
        from (
          select w.*, s.held, s.most, s.held_slow, s.most_slow, s.free, s.free_slow, s.reserved,
            row_number() over (partition by w.client_id, w.slow order by w.turn, w.next_attempt_at) as slow_place
          from waiting w join shares s on s.client_id = w.client_id) q
        where not q.slow or q.slow_place <= q.most_slow - q.held_slow) p
      where p.place <= p.most - p.held and (not p.slow
        or p.slow_rank <= p.free_slow - case when ${fresh} and p.held_slow + p.slow_place = 1 then 0 else p.reserved end)) r
    where r.rank <= r.free - case when ${fresh} and r.held + r.place = 1 then 0 else r.reserved end`;
}

/** Gives a place back unused, if the claim still holds it: nothing was sent, no attempt is used up, and it is due as before. */
export function releaseSlot(tx: Tx, { deliveryId, claim }: { deliveryId: string; claim: number }) {
  return tx.execute(sql`
    update deliveries d set admitted_until = null where d.id = ${deliveryId} and d.claim = ${claim}::bigint and ${isInFlight}`);
}

/** Ids hold no commas; the driver knows no arrays. */
export const textArray = (ids: readonly string[]) => sql`string_to_array(${ids.join(",")}::text, ',')`;
const list = (ids: readonly string[]) => sql`unnest(${textArray(ids)})`;
const unnested = (ids: readonly string[], name: string) =>
  sql`(select distinct given.one as ${sql.raw(name)} from ${list(ids)} given(one)) ids`;
