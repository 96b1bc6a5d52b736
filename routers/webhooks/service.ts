import { and, asc, count, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { catalogue, emit, eventTypes } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { deliveries, deliveryAttempts, webhookEndpoints } from "../../db/schema/events.ts";
import { Fault } from "../fault.ts";
import { type ListKey, readCursor, toPage } from "../page.ts";
import type { KeyRing } from "../providers.ts";
import { wire, wireOrNull } from "../words.ts";
import { type Attempt, dispatchLimits, type Held, record } from "./dispatch.ts";
import type {
  CreatedEndpoint,
  CreateEndpoint,
  Delivery,
  DeliveryWithAttempts,
  Endpoint,
  ListDeliveries,
  ListEndpoints,
  UpdateEndpoint,
} from "./schema.ts";
import { newSecret } from "./signature.ts";
import { type AddressRules, objectionTo } from "./url.ts";

type EndpointRow = typeof webhookEndpoints.$inferSelect;
type DeliveryRow = typeof deliveries.$inferSelect;

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value
const notFound = (id: string) => new Fault("webhook_not_found", `There is no webhook endpoint ${id}.`);
const isEndpoint = (id: string) => and(eq(webhookEndpoints.id, id), isNull(webhookEndpoints.deletedAt));

/** Makes an endpoint. Its secret is shown this once and kept sealed. */
export async function createEndpoint(
  tx: Tx,
  input: CreateEndpoint,
  ring: KeyRing,
  rules: AddressRules,
): Promise<CreatedEndpoint> {
  refuseForbidden(input.url, rules);
  await refuseTooMany(tx);
  const id = newId("endpoint");
  const secret = newSecret();
  const [made] = await tx
    .insert(webhookEndpoints)
    .values({ id, ...input, secret: ring.seal(secret, id) })
    .returning();
  return { ...onTheWire(made!), secret };
}

export async function getEndpoint(tx: Tx, id: string): Promise<Endpoint> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id));
  if (!found) throw notFound(id);
  return onTheWire(found);
}

export async function listEndpoints(tx: Tx, { limit, cursor }: ListEndpoints, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(webhookEndpoints)
    .where(and(before === null ? undefined : lt(webhookEndpoints.id, before), isNull(webhookEndpoints.deletedAt)))
    .orderBy(desc(webhookEndpoints.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/** Changes an endpoint. While it is disabled nothing new is queued for it, and what falls due for it is dead. */
export async function updateEndpoint(
  tx: Tx,
  { id, ...change }: UpdateEndpoint,
  rules: AddressRules,
): Promise<Endpoint> {
  if (change.url !== undefined) refuseForbidden(change.url, rules);
  const before = await lockEndpoint(tx, id);
  if (change.status === "disabled" && before.status === "enabled")
    await disableEndpoint(tx, before, "Disabled by request.");
  const disabledReason = change.status === "enabled" ? { disabledReason: null } : {};
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({ ...change, ...disabledReason, updatedAt: now })
    .where(eq(webhookEndpoints.id, id))
    .returning();
  return onTheWire(changed!);
}

/** Locks an endpoint; always before its deliveries. */
export async function lockEndpoint(tx: Tx, id: string): Promise<EndpointRow> {
  const [found] = await tx.select().from(webhookEndpoints).where(isEndpoint(id)).for("no key update");
  if (!found) throw notFound(id);
  return found;
}

/** Switches a locked endpoint off, and says so to the others. */
export async function disableEndpoint(tx: Tx, { id, url }: Pick<EndpointRow, "id" | "url">, reason: string) {
  await tx
    .update(webhookEndpoints)
    .set({ status: "disabled", disabledReason: reason, updatedAt: now })
    .where(eq(webhookEndpoints.id, id));
  await emit(tx, "webhook.endpoint.disabled", id, { id, url, reason });
}

/** The receiver said 410: this delivery is dead, and nothing more is sent there. A stale claim changes nothing. */
export async function recordGone(tx: Tx, held: Held, attempt: Attempt): Promise<boolean> {
  const [endpoint] = await tx.select().from(webhookEndpoints).where(isEndpoint(held.endpointId)).for("no key update");
  const recorded = await record(tx, held, { attempt, outcome: { state: "dead", error: "gone" } });
  if (recorded && endpoint?.status === "enabled")
    await disableEndpoint(tx, endpoint, "The receiver answered 410 Gone.");
  return recorded;
}

/** Removes an endpoint and forgets its secret. What was still on its way there is dead; the record stays. */
export async function removeEndpoint(tx: Tx, id: string) {
  await lockEndpoint(tx, id);
  await tx
    .update(webhookEndpoints)
    .set({ deletedAt: now, updatedAt: now, secret: Buffer.alloc(0) })
    .where(eq(webhookEndpoints.id, id));
  await tx
    .update(deliveries)
    .set({ state: "dead", lastError: "endpoint_deleted", nextAttemptAt: null, admittedUntil: null, finishedAt: now })
    .where(and(eq(deliveries.endpointId, id), eq(deliveries.state, "pending")));
}

export async function listDeliveries(tx: Tx, { id, limit, cursor, state }: ListDeliveries, key: ListKey) {
  const before = readCursor(key, cursor);
  const [endpoint, rows] = await Promise.all([
    tx.select({ id: webhookEndpoints.id }).from(webhookEndpoints).where(isEndpoint(id)),
    tx
      .select()
      .from(deliveries)
      .where(
        and(
          eq(deliveries.endpointId, id),
          before === null ? undefined : lt(deliveries.id, before),
          state && eq(deliveries.state, state),
        ),
      )
      .orderBy(desc(deliveries.id))
      .limit(limit + 1),
  ]);
  if (endpoint.length === 0) throw notFound(id);
  return toPage(key, rows.map(deliveryOnTheWire), limit, (row) => row.id);
}

export async function getDelivery(tx: Tx, id: string): Promise<DeliveryWithAttempts> {
  const [[found], attempts] = await Promise.all([
    tx.select().from(deliveries).where(eq(deliveries.id, id)),
    tx
      .select()
      .from(deliveryAttempts)
      .where(eq(deliveryAttempts.deliveryId, id))
      .orderBy(asc(deliveryAttempts.attempt)),
  ]);
  if (!found) throw new Fault("webhook_not_found", `There is no delivery ${id}.`);
  return {
    ...deliveryOnTheWire(found),
    attempts: attempts.map(({ attempt, status, error, latencyMs, response, createdAt }) => {
      return { attempt, status, error, latencyMs, response, createdAt: wire(createdAt) };
    }),
  };
}

/** Every event that there is, with what it says. */
export function listEventTypes() {
  const items = eventTypes.map((type) => ({ type, description: catalogue[type].says }));
  return { items, nextCursor: null, hasMore: false };
}

function refuseForbidden(url: string, rules: AddressRules) {
  const objection = objectionTo(url, rules);
  if (objection)
    throw new Fault("webhook_url_forbidden", objection, { details: [{ path: "url", message: objection }] });
}

/** Counted under a lock, so that two at once do not both become the last. */
async function refuseTooMany(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('webhooks.create:' || current_setting('app.client_id'), 0))`,
  );
  const [existing] = await tx.select({ n: count() }).from(webhookEndpoints).where(isNull(webhookEndpoints.deletedAt));
  if (existing!.n < dispatchLimits.endpointsPerClient) return;
  const message = `A client has at most ${dispatchLimits.endpointsPerClient} webhook endpoints. Delete one first.`;
  throw new Fault("invalid_input", message, { details: [{ path: "", message }] });
}

function onTheWire(row: EndpointRow): Endpoint {
  return {
    id: row.id,
    url: row.url,
    description: row.description,
    eventTypes: row.eventTypes,
    status: row.status,
    disabledReason: row.disabledReason,
    createdAt: wire(row.createdAt),
    updatedAt: wire(row.updatedAt),
  };
}

function deliveryOnTheWire(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    endpointId: row.endpointId,
    eventId: row.eventId,
    eventType: row.eventType,
    state: row.state,
    attemptCount: row.attempts,
    lastStatus: row.lastStatus,
    lastError: row.lastError,
    nextAttemptAt: wireOrNull(row.nextAttemptAt),
    createdAt: wire(row.createdAt),
    finishedAt: wireOrNull(row.finishedAt),
  };
}
