import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { inlined, isInFlight, isWaiting, textArray } from "./conditions.ts";
import { slotLimits, slotSharing } from "./slot-limits.ts";

/** The lease of a slot, from the planned start of the delivery. */
const leaseSeconds = 60;
/** The sweep runs every second and reserves ahead, so a delivery starts at its due time. */
const aheadSeconds = 2;

export const isDue = sql`${isWaiting}
  and d.next_attempt_at <= statement_timestamp() + make_interval(secs => ${inlined(aheadSeconds)})`;

/** An endpoint with a freed slot. `endpointId` null: any endpoint of the client may get slots. */
export type SlotRequest = { clientId: string; endpointId: string | null };

/** `isFresh`: the deliveries belong to a new event, not to a backlog. */
type Freshness = { isFresh: boolean };

/**
 * Reserves slots for due deliveries and queues them. Returns how many. Slots are shared round-robin: each endpoint's first
 * delivery comes before another's second, and each client's first before another's second. Deliveries of a rate-limited
 * endpoint start one after the other at that rate. Reservations never exceed the slots that workers have, so no job waits in
 * the queue behind another client's slow receivers. For a client at its limit, freed slots go to the endpoint that has waited
 * longest. Deliveries that are paused, or whose client is suspended, wait. The caller announces the queued jobs.
 */
export function reserveSlots(tx: Tx, requests: readonly SlotRequest[], options?: Freshness) {
  return tx.execute<{ n: number }>(slotReservation(requests, options));
}

const room = sql`case when e.consecutive_failures < ${inlined(slotLimits.failingFrom)} then ${inlined(slotLimits.perEndpoint)}
    else ${inlined(slotLimits.perFailing)} end as room`;
const slow = sql`coalesce(e.slow_at > statement_timestamp() - make_interval(secs => ${inlined(slotSharing.slowForSeconds)}), false) as slow`;

/**
 * The statement of `reserveSlots`; exported for the test of its plan. Chosen rows stay locked from `waiting` to `admitted`,
 * so `admitted` finds them by their ctid.
 */
export function slotReservation(requests: readonly SlotRequest[], { isFresh }: Freshness = { isFresh: false }): SQL {
  return sql`
    with ${demand(requests)}, ${candidates}, chosen as materialized ( -- what gets a slot; "before": its position in its endpoint
      select r.*, row_number() over (partition by r.client_id, r.endpoint_id order by r.next_attempt_at) - 1 as before
      from (${shareOut(isFresh)}) r
    ), ${commitChoice}
    select n from queued`;
}

/** What the requests ask for, and what each client holds and may hold. */
function demand(requests: readonly SlotRequest[]): SQL {
  const clientIds = requests.map(({ clientId }) => clientId);
  const endpointIds = requests.map(({ endpointId }) => endpointId ?? "*");
  return sql`
    wanted as materialized ( -- one row per request; '*' is any endpoint of the client
      select * from rows from (unnest(${textArray(clientIds)}), unnest(${textArray(endpointIds)})) as w(client_id, endpoint_id)
    ), requesting as materialized ( -- one row per client
      select client_id, count(*) filter (where endpoint_id <> '*') as freed, bool_or(endpoint_id = '*') as any_endpoint
      from wanted group by 1
    ), busy as materialized ( -- slots in use, by endpoint
      select a.client_id, d.endpoint_id, count(*)::int as n, count(*) filter (where d.slow)::int as slow
      from requesting a cross join lateral (
        select d.endpoint_id, d.slow from deliveries d where d.client_id = a.client_id and ${isInFlight} offset 0) d
      group by 1, 2
    ), taken as materialized ( -- slots in use, by client
      select a.client_id, a.freed, a.any_endpoint, coalesce(sum(b.n), 0)::int as n, coalesce(sum(b.slow), 0)::int as slow
      from requesting a left join busy b on b.client_id = a.client_id group by 1, 2, 3
    ), slots as materialized (
      ${installationSlots}
    ), shares as materialized (
      ${clientShares}
    )`;
}

/** The endpoints that may get slots, and their due deliveries, as many as could start. */
const candidates = sql`paused as materialized (
      select array(select scope from delivery_pauses) as scopes
    ), open as materialized ( -- the requested endpoints, and all endpoints of a client that is at its limit
      select e.client_id, e.id, ${room}, ${slow}, e.rate_per_second as rate, greatest(e.rate_due_at, statement_timestamp()) as rate_due_at
      from (select distinct client_id, endpoint_id from wanted where endpoint_id <> '*') w
      join clients c on c.id = w.client_id and c.status = 'active'
      join webhook_endpoints e on e.client_id = w.client_id and e.id = w.endpoint_id
      union
      select e.client_id, e.id, ${room}, ${slow}, e.rate_per_second, greatest(e.rate_due_at, statement_timestamp())
      from shares s join clients c on c.id = s.client_id and c.status = 'active'
      join webhook_endpoints e on e.client_id = s.client_id
      where s.any_endpoint or s.held + s.freed >= s.most
    ), waiting as materialized ( -- due deliveries, locked; "turn": position in the endpoint, counting what is in flight
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
          ceil(extract(epoch from statement_timestamp() - e.rate_due_at + make_interval(secs => ${inlined(aheadSeconds)})) * e.rate) end))::bigint
        for update skip locked
      ) due
      where not array['all', e.client_id, e.id] && (select scopes from paused)
    )`;

/** Writes the leases, moves the rate limits on, and queues one job per delivery. */
const commitChoice = sql`timed as materialized ( -- when each one starts
      select client_id, id, spot, slow, greatest(statement_timestamp(), next_attempt_at,
        case when rate is not null then rate_due_at + make_interval(secs => before / rate::float8) end) as run_at
      from chosen
    ), admitted as (
      update deliveries d set claim = d.claim + 1, slow = timed.slow,
        admitted_until = timed.run_at + make_interval(secs => ${inlined(leaseSeconds)})
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
    )`;

/** The slots of all live workers, and what is in flight for all clients. */
const installationSlots = sql`
  select flying.n as flying, flying.slow as flying_slow,
    coalesce(nullif((select sum(h.slots) from worker_heartbeats h where h.kind = 'deliveries'
      and h.beat_at > clock_timestamp() - make_interval(secs => ${inlined(slotSharing.silentSeconds)})), 0),
      ${inlined(slotSharing.defaultSlots)})::int as n
  from (select count(*)::int as n, count(*) filter (where d.slow)::int as slow from deliveries d where ${isInFlight}) flying`;

/** For each client: what it holds, the most that it may hold, and what is free for all clients. */
const clientShares = sql`
  select t.client_id, t.freed, t.any_endpoint, t.n as held, t.slow as held_slow,
    greatest(1, least(${inlined(slotLimits.perClient)}, s.n / ${inlined(slotSharing.clientsPart)}, (s.n - (s.flying - t.n)) / 2)) as most,
    greatest(1, (s.n / ${inlined(slotSharing.slowPart)} - (s.flying_slow - t.slow)) / 2) as most_slow,
    s.n - s.flying as free, greatest(1, s.n / ${inlined(slotSharing.slowPart)}) - s.flying_slow as free_slow,
    s.n / ${inlined(slotSharing.reservedPart)} as reserved
  from taken t cross join slots s`;

/** Applies three limits in turn: the part for slow endpoints, each client's most, and the free slots of the installation. */
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
