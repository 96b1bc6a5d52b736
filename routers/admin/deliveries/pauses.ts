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
  const page = await Promise.all(rows.map((row) => onTheWire(tx, row)));
  return toPage(key, page, limit, ({ scope }) => scope);
}

/** From the commit on nothing new is admitted there. Who pauses what is paused only gives it another reason. */
export async function setPause(tx: Tx, { scope, reason }: SetPause, pausedBy: string): Promise<Pause> {
  await scopeOf(tx, scope);
  const [row] = await tx
    .insert(deliveryPauses)
    .values({ scope, reason, pausedBy })
    .onConflictDoUpdate({ target: deliveryPauses.scope, set: { reason } })
    .returning();
  return onTheWire(tx, row!);
}

/** Of exactly this scope; a wider one may hold all the same. */
export async function findPause(tx: Tx, scope: string): Promise<Pause | null> {
  const [row] = await tx.select().from(deliveryPauses).where(eq(deliveryPauses.scope, scope));
  return row ? onTheWire(tx, row) : null;
}

/** The sweep admits what waits, within seconds. */
export async function clearPause(tx: Tx, scope: string) {
  const gone = await tx.delete(deliveryPauses).where(eq(deliveryPauses.scope, scope)).returning();
  if (gone.length === 0) throw new ApiError("delivery_pause_not_found", `There is no pause with the scope ${scope}.`);
}

/** How many deliveries there are in the queue or at work, in a scope. */
export async function countInFlight(tx: Tx, scope: string): Promise<number> {
  const isThere = await scopeOf(tx, scope, { orDeleted: true });
  const [row] = await tx
    .select({ n: count() })
    .from(deliveries)
    .where(and(isThere, eq(deliveries.status, "pending"), isNotNull(deliveries.admittedUntil)));
  return row!.n;
}

/** Of those, endpoint by endpoint, and until when each lease lasts at the most: who keeps a scope from being drained. */
export async function listInFlight(tx: Tx, scope: string) {
  const isThere = await scopeOf(tx, scope, { orDeleted: true });
  return tx
    .select({
      clientId: deliveries.clientId,
      endpointId: deliveries.endpointId,
      inFlight: count(),
      until: max(deliveries.admittedUntil),
    })
    .from(deliveries)
    .where(and(isThere, eq(deliveries.status, "pending"), isNotNull(deliveries.admittedUntil)))
    .groupBy(deliveries.clientId, deliveries.endpointId)
    .orderBy(desc(count()), deliveries.endpointId)
    .limit(20);
}

/** Which deliveries a scope means. Throws Fault when it names nothing. */
async function scopeOf(tx: Tx, scope: string, { orDeleted = false } = {}): Promise<SQL | undefined> {
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

async function onTheWire(tx: Tx, { scope, reason, pausedBy, pausedAt }: Row): Promise<Pause> {
  return { scope, reason, pausedBy, pausedAt: toIso(pausedAt), inFlight: await countInFlight(tx, scope) };
}
