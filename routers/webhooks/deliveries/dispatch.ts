import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import {
  admit,
  isDue,
  isInFlight,
  isWaiting,
  lockRated,
  lockSlots,
  places,
  swiftly,
  textArray,
  tryLockPlaces,
} from "./slots.ts";

/** The limits of deliveries in one list. */
export const dispatchLimits = {
  endpointsPerClient: 50,
  inFlightPerEndpoint: places.perEndpoint,
  inFlightPerClient: places.perClient,
  /** From the first byte sent to the last byte read. */
  deadlineSeconds: 15,
  /** When the secret cannot be opened because the key service is away. */
  deferSeconds: 30,
} as const;

/**
 * Frees admissions whose lease is over, then admits what is due, for each of the clients whose places nobody else is
 * counting at the moment. A lease that is over by less than `lagSeconds` may still be waiting in the queue.
 */
export async function refill(
  tx: Tx,
  { clientIds, lagSeconds }: { clientIds: readonly string[]; lagSeconds: number },
): Promise<{ clients: number; freed: number; admitted: number }> {
  const [, held] = await Promise.all([swiftly(tx), tryLockPlaces(tx, clientIds)]);
  if (held.length === 0) return { clients: 0, freed: 0, admitted: 0 };
  const [, [freed], , [admitted]] = await Promise.all([
    lockRated(tx, held),
    // Rows at which somebody is writing are passed over: he may be waiting for the lock that we hold.
    tx.execute<{ n: number }>(sql`
      with expired as materialized (
        select d.client_id, d.id from unnest(${textArray(held)}) c(id) cross join lateral (
          select d.client_id, d.id from deliveries d where d.client_id = c.id and ${isInFlight}
            and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)
          for update skip locked) d
      ), freed as (
        update deliveries d set admitted_until = null from expired
        where d.client_id = expired.client_id and d.id = expired.id returning 1
      )
      select count(*)::int as n from freed`),
    lockSlots(tx),
    admit(
      tx,
      held.map((clientId) => ({ clientId, endpointId: null })),
    ),
  ]);
  return { clients: held.length, freed: freed?.n ?? 0, admitted: admitted?.n ?? 0 };
}

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
 * Every client for whom something is due, unless it is suspended, or has expired, found by stepping from endpoint to
 * endpoint: a client with a hundred thousand due rows costs no more than one with ten.
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
    select line.client_id from line join clients c on c.id = line.client_id and c.status = 'active' cross join lateral (
      select d.id from deliveries d
      where d.client_id = line.client_id and d.endpoint_id = line.endpoint_id and ${isDue}
      order by d.next_attempt_at limit 1
    ) due
    union
    select d.client_id from deliveries d
    where ${isInFlight} and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)`);
  return rows.map((row) => row.client_id);
}
