import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { isInFlight } from "./conditions.ts";
import {
  endpointAndEvent,
  type LoadedDelivery,
  type LoadedRow,
  loadedColumns,
  toLoadedDelivery,
} from "./loaded-delivery.ts";
import type { Reservation } from "./record-attempts.ts";
import { tuneForKeyLookups } from "./slots.ts";

/** Names a reserved slot. */
export type Claim = Pick<Reservation, "clientId" | "deliveryId" | "claim">;

/**
 * Loads each delivery with the endpoint and event of the same client. null: the claim no longer holds a slot, because the
 * result was recorded, or because the lease expired.
 */
export async function loadDeliveries(tx: Tx, claims: readonly Claim[]): Promise<(LoadedDelivery | null)[]> {
  const given = claims.map(({ clientId, deliveryId, claim }, n) => ({ n, clientId, deliveryId, claim }));
  const [, rows] = await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute<LoadedRow & { n: number }>(sql`
      select g.n, ${loadedColumns}
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, "clientId" text, "deliveryId" text, claim bigint)
      join deliveries d on d.client_id = g."clientId" and d.id = g."deliveryId" and d.claim = g.claim and ${isInFlight}
      ${endpointAndEvent}`),
  ]);
  const found = new Map(rows.map((row) => [row.n, toLoadedDelivery(row)]));
  return claims.map((_, n) => found.get(n) ?? null);
}
