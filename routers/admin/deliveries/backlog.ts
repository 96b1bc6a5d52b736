import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { ageInSeconds, atMost, countedAtMost, isInFlight, isWaiting } from "./conditions.ts";
import type { Cause } from "./schema.ts";

/** Endpoints with waiting deliveries that are looked at. */
const endpointsAtMost = 10_000;

/**
 * `held`: every endpoint for which something waits, found by stepping from one to the next, with why and since when it is
 * due. `flying`: what is in the queue or at work.
 */
const backlog = sql`
  recursive line as (
    (select d.client_id, d.endpoint_id from deliveries d where ${isWaiting} order by 1, 2 limit 1)
    union all
    select further.client_id, further.endpoint_id from line cross join lateral (
      select d.client_id, d.endpoint_id from deliveries d
      where ${isWaiting} and (d.client_id, d.endpoint_id) > (line.client_id, line.endpoint_id)
      order by 1, 2 limit 1
    ) further
  ), held as materialized (
    select line.client_id, line.endpoint_id, first.due_at,
      case when c.status <> 'active' then 'suspended'
           when exists (select from delivery_pauses p where p.scope in ('all', line.client_id, line.endpoint_id)) then 'paused'
           else 'waiting' end as cause
    from (select client_id, endpoint_id from line limit ${sql.raw(String(endpointsAtMost))}) line
    cross join lateral (select status from clients where id = line.client_id offset 0) c
    left join lateral (
      select d.next_attempt_at as due_at from deliveries d
      where d.client_id = line.client_id and d.endpoint_id = line.endpoint_id and ${isWaiting} and d.next_attempt_at <= now()
      order by d.next_attempt_at limit 1
    ) first on true
  ), flying as materialized (
    select d.client_id, d.endpoint_id, d.next_attempt_at,
      case when d.next_attempt_at <= now() and c.status = 'active' then d.next_attempt_at end as due_at
    from (
      select d.client_id, d.endpoint_id, d.next_attempt_at from deliveries d where ${isInFlight}
      order by d.client_id, d.endpoint_id, d.admitted_until limit ${atMost}
    ) d
    cross join lateral (select status from clients where id = d.client_id offset 0) c
  )`;

/** The waiting deliveries of one endpoint, the earliest first: rows of `held` beside them. */
const waitingAt = (bound = sql``) => sql`
  select from deliveries d
  where d.client_id = h.client_id and d.endpoint_id = h.endpoint_id and ${isWaiting} ${bound}
  order by d.next_attempt_at limit ${atMost}`;

export type BacklogRow = { cause: Cause; pending: number; due: number; oldestDueSeconds: number; capped: boolean };
export type OldestRow = { clientId: string; endpointId: string; cause: Cause; oldestDueSeconds: number };

/** What is pending, by what holds it up, and the endpoints that have waited longest. Bounded in all it counts. */
export async function readBacklog(tx: Tx): Promise<{ causes: BacklogRow[]; oldest: OldestRow[] }> {
  const [row] = await tx.execute<{ causes: unknown; oldest: unknown }>(sql`
    with ${backlog}, counted as (
      select kind.cause,
        (select count(*)::int from (
           select from held h cross join lateral (${waitingAt()}) each where h.cause = kind.cause limit ${atMost}) one) as pending,
        (select count(*)::int from (
           select from held h cross join lateral (${waitingAt(sql`and d.next_attempt_at <= now()`)}) each
           where h.cause = kind.cause and h.due_at is not null limit ${atMost}) one) as due,
        (select min(h.due_at) from held h where h.cause = kind.cause) as due_at,
        (select count(*) from held) >= ${sql.raw(String(endpointsAtMost))} as cut
      from (values ('waiting'), ('paused'), ('suspended')) kind(cause)
      union all
      select 'inFlight', count(*)::int, count(due_at)::int, min(due_at), false from flying
    ), longest as (
      select distinct on (client_id, endpoint_id) client_id, endpoint_id, cause, due_at from (
        select client_id, endpoint_id, cause, due_at from held where due_at is not null and cause <> 'suspended'
        union all
        select client_id, endpoint_id, 'inFlight', due_at from flying where due_at is not null
      ) either
      order by client_id, endpoint_id, due_at
    )
    select
      (select json_agg(json_build_object('cause', cause, 'pending', least(pending, ${countedAtMost}::int),
         'due', least(due, ${countedAtMost}::int), 'oldestDueSeconds', ${ageInSeconds(sql`due_at`)},
         'capped', cut or pending > ${countedAtMost}::int)) from counted) as causes,
      (select coalesce(json_agg(json_build_object('clientId', client_id, 'endpointId', endpoint_id, 'cause', cause,
         'oldestDueSeconds', ${ageInSeconds(sql`due_at`)}) order by due_at), '[]')
       from (select * from longest order by due_at limit 10) ten) as oldest`);
  return { causes: row!.causes as BacklogRow[], oldest: row!.oldest as OldestRow[] };
}

/** How long the oldest delivery has been due, whatever holds it up but its client's suspension; 0 when nothing is due. */
export async function oldestDueSeconds(tx: Tx): Promise<number> {
  const [row] = await tx.execute<{ seconds: number }>(sql`
    with ${backlog}
    select ${ageInSeconds(sql`least(
      (select min(due_at) from held where cause <> 'suspended'), (select min(due_at) from flying))`)} as seconds`);
  return row!.seconds;
}
