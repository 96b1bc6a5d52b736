import { and, count, desc, eq, isNotNull, isNull, lt, max, ne, type SQL } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { clients } from "../../../db/schema/clients.ts";
import { deliveries, deliveryPauses, webhookEndpoints } from "../../../db/schema/events.ts";
import { platformClientId } from "../../core/authorize.ts";
import { ApiError } from "../../core/errors.ts";
import { toIso } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import type { ListPauses, Pause, SetPause } from "./schema.ts";

type Row = typeof deliveryPauses.$inferSelect;

/** The newest pauses of endpoints first, then those of clients, then that of all: by scope, backwards. */
export async function listPauses(tx: Tx, { limit, cursor }: ListPauses, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(deliveryPauses)
    .where(before === null ? undefined : lt(deliveryPauses.scope, before))
    .orderBy(desc(deliveryPauses.scope))
    .limit(limit + 1);
  const page = await Promise.all(rows.map((row) => toPause(tx, row)));
  return toPage(key, page, limit, ({ scope }) => scope);
}

/** From the commit on, no new deliveries start in the scope. Pausing it again only changes the reason. */
export async function setPause(tx: Tx, { scope, reason }: SetPause, pausedBy: string): Promise<Pause> {
  await isInScope(tx, scope);
  const [row] = await tx
    .insert(deliveryPauses)
    .values({ scope, reason, pausedBy })
    .onConflictDoUpdate({ target: deliveryPauses.scope, set: { reason } })
    .returning();
  return toPause(tx, row!);
}

/** The pause of exactly this scope. A wider scope may be paused too. */
export async function findPause(tx: Tx, scope: string): Promise<Pause | null> {
  const [row] = await tx.select().from(deliveryPauses).where(eq(deliveryPauses.scope, scope));
  return row ? toPause(tx, row) : null;
}

/** The sweep starts the waiting deliveries within seconds. */
export async function removePause(tx: Tx, scope: string) {
  const deleted = await tx.delete(deliveryPauses).where(eq(deliveryPauses.scope, scope)).returning();
  if (deleted.length === 0)
    throw new ApiError("delivery_pause_not_found", `There is no pause with the scope ${scope}.`);
}

/** The number of deliveries of a scope that are in the queue or being sent. */
export async function countInFlight(tx: Tx, scope: string): Promise<number> {
  const inScope = await isInScope(tx, scope, { orDeleted: true });
  const [row] = await tx
    .select({ n: count() })
    .from(deliveries)
    .where(and(inScope, eq(deliveries.status, "pending"), isNotNull(deliveries.admittedUntil)));
  return row!.n;
}

/** Deliveries in flight by endpoint, and the end of the last lease: shows what keeps a scope from draining. */
export async function listInFlight(tx: Tx, scope: string) {
  const inScope = await isInScope(tx, scope, { orDeleted: true });
  return tx
    .select({
      clientId: deliveries.clientId,
      endpointId: deliveries.endpointId,
      inFlight: count(),
      until: max(deliveries.admittedUntil),
    })
    .from(deliveries)
    .where(and(inScope, eq(deliveries.status, "pending"), isNotNull(deliveries.admittedUntil)))
    .groupBy(deliveries.clientId, deliveries.endpointId)
    .orderBy(desc(count()), deliveries.endpointId)
    .limit(20);
}

/** The condition on deliveries of a scope. Throws an ApiError if the client or endpoint does not exist. */
async function isInScope(tx: Tx, scope: string, { orDeleted = false } = {}): Promise<SQL | undefined> {
  if (scope === "all") return undefined;
  if (!scope.startsWith("wh_")) {
    const isClient = and(eq(clients.id, scope), ne(clients.id, platformClientId));
    const found = await tx.select({ id: clients.id }).from(clients).where(isClient);
    if (found.length === 0) throw new ApiError("client_not_found", `There is no client ${scope}.`);
    return eq(deliveries.clientId, scope);
  }
  const [endpoint] = await tx
    .select({ clientId: webhookEndpoints.clientId })
    .from(webhookEndpoints)
    .where(and(eq(webhookEndpoints.id, scope), orDeleted ? undefined : isNull(webhookEndpoints.deletedAt)));
  if (!endpoint) throw new ApiError("webhook_not_found", `There is no webhook endpoint ${scope}.`);
  return and(eq(deliveries.clientId, endpoint.clientId), eq(deliveries.endpointId, scope));
}

async function toPause(tx: Tx, { scope, reason, pausedBy, pausedAt }: Row): Promise<Pause> {
  return { scope, reason, pausedBy, pausedAt: toIso(pausedAt), inFlight: await countInFlight(tx, scope) };
}
