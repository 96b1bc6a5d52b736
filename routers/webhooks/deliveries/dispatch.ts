import { sql } from "drizzle-orm";
import { announce, type Tx } from "../../../db/client.ts";
import { isInFlight, textArray, waitingEndpoints } from "./conditions.ts";
import { slotLimits } from "./slot-limits.ts";
import { isDue, reserveSlots } from "./slot-reservation.ts";
import { lockRatedEndpoints, lockSlots, tryLockClientSlots, tuneForKeyLookups } from "./slots.ts";

/** All limits of deliveries in one list. */
export const dispatchLimits = {
  endpointsPerClient: 50,
  inFlightPerEndpoint: slotLimits.perEndpoint,
  inFlightPerClient: slotLimits.perClient,
  /** From the first byte sent to the last byte read. */
  deadlineSeconds: 15,
  /** The pause when the key service is unavailable and the secret cannot be opened. */
  deferSeconds: 30,
} as const;

/**
 * Frees slots with an expired lease, then reserves slots for due deliveries. Skips clients whose slots another transaction
 * is counting. A lease that expired less than `lagSeconds` ago may still wait in the queue, so it is kept.
 */
export async function refill(
  tx: Tx,
  { clientIds, lagSeconds }: { clientIds: readonly string[]; lagSeconds: number },
): Promise<{ clients: number; freed: number; admitted: number }> {
  const [, lockedIds] = await Promise.all([tuneForKeyLookups(tx), tryLockClientSlots(tx, clientIds)]);
  if (lockedIds.length === 0) return { clients: 0, freed: 0, admitted: 0 };
  const [, [freed], , [reserved]] = await Promise.all([
    lockRatedEndpoints(tx, lockedIds),
    // Rows locked by another transaction are skipped: it may wait for the lock that we hold.
    tx.execute<{ n: number }>(sql`
      with expired as materialized (
        select d.client_id, d.id from unnest(${textArray(lockedIds)}) c(id) cross join lateral (
          select d.client_id, d.id from deliveries d where d.client_id = c.id and ${isInFlight}
            and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)
          for update skip locked) d
      ), freed as (
        update deliveries d set admitted_until = null from expired
        where d.client_id = expired.client_id and d.id = expired.id returning 1
      )
      select count(*)::int as n from freed`),
    lockSlots(tx),
    reserveSlots(
      tx,
      lockedIds.map((clientId) => ({ clientId, endpointId: null })),
    ),
  ]);
  announce(tx, { jobs: reserved?.n ?? 0 });
  return { clients: lockedIds.length, freed: freed?.n ?? 0, admitted: reserved?.n ?? 0 };
}

/** Only one worker sweeps at a time. False: another worker holds the lock. */
export async function leadSweep(systemTx: Tx): Promise<boolean> {
  const [lock] = await systemTx.execute<{ held: boolean }>(
    sql`select pg_try_advisory_xact_lock(hashtextextended('webhooks.sweep', 0)) as held`,
  );
  return lock?.held ?? false;
}

/** A delivery with a slot may still wait in the queue. While the queue is behind, leases last longer: 30 minutes at most. */
export async function queueLagSeconds(systemTx: Tx): Promise<number> {
  const [queue] = await systemTx.execute<{ seconds: number }>(
    sql`select graphile_worker.patchbay_oldest_due_seconds() as seconds`,
  );
  return Math.min(queue?.seconds ?? 0, 1_800);
}

/** Active clients with due deliveries, and all clients with an expired lease. */
export async function clientsWithWork(systemTx: Tx, { lagSeconds }: { lagSeconds: number }): Promise<string[]> {
  const rows = await systemTx.execute<{ client_id: string }>(sql`
    with recursive ${waitingEndpoints}
    select w.client_id from waiting_endpoints w join clients c on c.id = w.client_id and c.status = 'active'
    cross join lateral (
      select d.id from deliveries d
      where d.client_id = w.client_id and d.endpoint_id = w.endpoint_id and ${isDue}
      order by d.next_attempt_at limit 1
    ) due
    union
    select d.client_id from deliveries d
    where ${isInFlight} and d.admitted_until < clock_timestamp() - make_interval(secs => ${lagSeconds}::float8)`);
  return rows.map((row) => row.client_id);
}
