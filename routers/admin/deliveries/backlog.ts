import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { isInFlight, isWaiting, waitingEndpoints } from "../../webhooks/deliveries/conditions.ts";
import { ageInSeconds, countLimit, maxCount } from "./conditions.ts";
import type { Cause } from "./schema.ts";

/** The most endpoints with waiting deliveries that are read. */
const maxEndpoints = 10_000;

/**
 * `held`: each endpoint with waiting deliveries, why they wait, and the oldest due time. `flying`: deliveries in the queue
 * or being sent.
 */
const backlog = sql`
  recursive ${waitingEndpoints}, held as materialized (
    select w.client_id, w.endpoint_id, first.due_at,
      case when c.status <> 'active' then 'suspended'
           when exists (select from delivery_pauses p where p.scope in ('all', w.client_id, w.endpoint_id)) then 'paused'
           else 'waiting' end as cause
    from (select client_id, endpoint_id from waiting_endpoints limit ${sql.raw(String(maxEndpoints))}) w
    cross join lateral (select status from clients where id = w.client_id offset 0) c
    left join lateral (
      select d.next_attempt_at as due_at from deliveries d
      where d.client_id = w.client_id and d.endpoint_id = w.endpoint_id and ${isWaiting} and d.next_attempt_at <= now()
      order by d.next_attempt_at limit 1
    ) first on true
  ), flying as materialized (
    select d.client_id, d.endpoint_id, d.next_attempt_at,
      case when d.next_attempt_at <= now() and c.status = 'active' then d.next_attempt_at end as due_at
    from (
      select d.client_id, d.endpoint_id, d.next_attempt_at from deliveries d where ${isInFlight}
      order by d.client_id, d.endpoint_id, d.admitted_until limit ${countLimit}
    ) d
    cross join lateral (select status from clients where id = d.client_id offset 0) c
  )`;

/** The waiting deliveries of a row of `held h`, earliest first. */
const waitingAt = (bound = sql``) => sql`
  select from deliveries d
  where d.client_id = h.client_id and d.endpoint_id = h.endpoint_id and ${isWaiting} ${bound}
  order by d.next_attempt_at limit ${countLimit}`;

export type BacklogRow = { cause: Cause; pending: number; due: number; oldestDueSeconds: number; capped: boolean };
export type OldestRow = { clientId: string; endpointId: string; cause: Cause; oldestDueSeconds: number };

/** Pending deliveries by cause, and the ten endpoints that have waited longest. All counts are bounded. */
export async function readBacklog(tx: Tx): Promise<{ causes: BacklogRow[]; oldest: OldestRow[] }> {
  const [row] = await tx.execute<{ causes: unknown; oldest: unknown }>(sql`
    with ${backlog}, counted as (
      select kind.cause,
        (select count(*)::int from (
           select from held h cross join lateral (${waitingAt()}) each where h.cause = kind.cause limit ${countLimit}) one) as pending,
        (select count(*)::int from (
           select from held h cross join lateral (${waitingAt(sql`and d.next_attempt_at <= now()`)}) each
           where h.cause = kind.cause and h.due_at is not null limit ${countLimit}) one) as due,
        (select min(h.due_at) from held h where h.cause = kind.cause) as due_at,
        (select count(*) from held) >= ${sql.raw(String(maxEndpoints))} as cut
      from (values ('waiting'), ('paused'), ('suspended')) kind(cause)
      union all
      select 'in_flight', count(*)::int, count(due_at)::int, min(due_at), false from flying
    ), longest as (
      select distinct on (client_id, endpoint_id) client_id, endpoint_id, cause, due_at from (
        select client_id, endpoint_id, cause, due_at from held where due_at is not null and cause <> 'suspended'
        union all
        select client_id, endpoint_id, 'in_flight', due_at from flying where due_at is not null
      ) either
      order by client_id, endpoint_id, due_at
    )
    select
      (select json_agg(json_build_object('cause', cause, 'pending', least(pending, ${maxCount}::int),
         'due', least(due, ${maxCount}::int), 'oldestDueSeconds', ${ageInSeconds(sql`due_at`)},
         'capped', cut or pending > ${maxCount}::int)) from counted) as causes,
      (select coalesce(json_agg(json_build_object('clientId', client_id, 'endpointId', endpoint_id, 'cause', cause,
         'oldestDueSeconds', ${ageInSeconds(sql`due_at`)}) order by due_at), '[]')
       from (select * from longest order by due_at limit 10) ten) as oldest`);
  return { causes: row!.causes as BacklogRow[], oldest: row!.oldest as OldestRow[] };
}

/** How long the oldest delivery has been due, without those of suspended clients; 0 when nothing is due. */
export async function oldestDueSeconds(tx: Tx): Promise<number> {
  const [row] = await tx.execute<{ seconds: number }>(sql`
    with ${backlog}
    select ${ageInSeconds(sql`least(
      (select min(due_at) from held where cause <> 'suspended'), (select min(due_at) from flying))`)} as seconds`);
  return row!.seconds;
}
