import { sql } from "drizzle-orm";
import { announce, type Tx } from "../../../db/client.ts";
import { isInFlight, textArray } from "./conditions.ts";
import { reserveSlots, type SlotRequest } from "./slot-reservation.ts";

/**
 * Runs first in transactions that read many rows by key. Commits are asynchronous: a crash may lose the last few. That is
 * safe, because the queue removes a job only in a later commit, so lost work runs again. The planner settings force index
 * lookups: a prepared statement keeps its plan, and the plan may come from a time when the table was empty.
 */
export function tuneForKeyLookups(tx: Tx) {
  return tx.execute(sql`
    select set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),
      set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`);
}

/**
 * Locks the slot counts of these clients until the commit. Count in a later statement. Locks are taken in order, and before
 * any row of `deliveries` is locked.
 */
export function lockClientSlots(tx: Tx, clientIds: readonly string[]) {
  return tx.execute(sql`
    select pg_advisory_xact_lock(hashtextextended('webhooks.admit:' || c.id, 0))
    from (select id from ${distinctIds(clientIds)} order by id) c`);
}

/** Locks the slot counts that no other transaction holds, and returns the ids of those clients. */
export async function tryLockClientSlots(tx: Tx, clientIds: readonly string[]): Promise<string[]> {
  const rows = await tx.execute<{ id: string }>(sql`
    select c.id from (select id from ${distinctIds(clientIds)} order by id) c
    where pg_try_advisory_xact_lock(hashtextextended('webhooks.admit:' || c.id, 0))`);
  return rows.map(({ id }) => id);
}

/**
 * Locks endpoints with a rate limit before their deliveries, since a reservation writes when their next attempt may start.
 * Taken in order, and after the client locks.
 */
export function lockRatedEndpoints(tx: Tx, clientIds: readonly string[]) {
  return tx.execute(sql`
    select e.id from (select id from ${distinctIds(clientIds)} order by id) c join webhook_endpoints e on e.client_id = c.id
    where e.rate_per_second is not null order by e.client_id, e.id for no key update of e`);
}

/**
 * Locks the slot count of the installation until the commit: two concurrent counts would give the same slots to two
 * clients. Taken last, right before the reservation, so that no wait happens under this lock.
 */
export const lockSlots = (tx: Tx) =>
  tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('webhooks.slots', 0))`);

/** Gives freed slots to due deliveries, as the only work of a transaction. Returns how many were reserved. */
export async function reserveDueSlots(tx: Tx, requests: readonly SlotRequest[]): Promise<number> {
  const clientIds = requests.map(({ clientId }) => clientId);
  const [, , , , [reserved]] = await Promise.all([
    tuneForKeyLookups(tx),
    lockClientSlots(tx, clientIds),
    lockRatedEndpoints(tx, clientIds),
    lockSlots(tx),
    reserveSlots(tx, requests),
  ]);
  announce(tx, { jobs: reserved?.n ?? 0 });
  return reserved?.n ?? 0;
}

/** Returns an unused slot if the claim still holds it. The delivery keeps its attempts and its due time. */
export function releaseSlot(tx: Tx, { deliveryId, claim }: { deliveryId: string; claim: number }) {
  return tx.execute(sql`
    update deliveries d set admitted_until = null where d.id = ${deliveryId} and d.claim = ${claim}::bigint and ${isInFlight}`);
}

const distinctIds = (ids: readonly string[]) =>
  sql`(select distinct given.id from unnest(${textArray(ids)}) given(id)) ids`;
