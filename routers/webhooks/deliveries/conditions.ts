import { sql } from "drizzle-orm";

// Conditions on rows of `deliveries d`.
export const isInFlight = sql`d.status = 'pending' and d.admitted_until is not null`;
export const isWaiting = sql`d.status = 'pending' and d.admitted_until is null`;

/**
 * For `with recursive`: the CTE `waiting_endpoints` (client_id, endpoint_id) lists each endpoint with waiting deliveries.
 * It steps from endpoint to endpoint, so a client with a hundred thousand due rows costs no more than one with ten.
 */
export const waitingEndpoints = sql`waiting_endpoints as (
    (select d.client_id, d.endpoint_id from deliveries d where ${isWaiting} order by 1, 2 limit 1)
    union all
    select further.client_id, further.endpoint_id from waiting_endpoints w cross join lateral (
      select d.client_id, d.endpoint_id from deliveries d
      where ${isWaiting} and (d.client_id, d.endpoint_id) > (w.client_id, w.endpoint_id)
      order by 1, 2 limit 1
    ) further
  )`;

/** Ids and event types contain no commas, and the driver cannot send arrays. */
export const textArray = (texts: readonly string[]) => sql`string_to_array(${texts.join(",")}::text, ',')`;

/** Our own number, inlined: the statement keeps one text, and the planner sees the value. */
export const inlined = (value: number) => sql.raw(String(value));
