import { and, asc, desc, eq, gte, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { eventTypes } from "../../../db/events.ts";
import { idFloor } from "../../../db/ids.ts";
import { deliveries, deliveryAttempts, eventCounters, events, webhookEndpoints } from "../../../db/schema/events.ts";
import { ApiError } from "../../core/errors.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { toIso, toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { endpointNotFound, findEndpoint } from "../endpoints/service.ts";
import { textArray } from "./conditions.ts";
import type { Delivery, DeliveryWithAttempts, ListDeliveries, SearchDeliveries } from "./schema.ts";

type DeliveryRow = typeof deliveries.$inferSelect;

const notFound = (id: string) => new ApiError("delivery_not_found", `There is no delivery ${id}.`);

export async function listDeliveries(tx: Tx, { id, ...filters }: ListDeliveries, key: ListKey) {
  await findEndpoint(tx, id);
  return searchDeliveries(tx, { ...filters, endpointId: id }, key);
}

/** Newest first. The resources named by filters must belong to the client; they may be deleted. */
export async function searchDeliveries(tx: Tx, input: SearchDeliveries, key: ListKey) {
  const before = readCursor(key, input.cursor);
  if (input.endpointId) await requireEndpoint(tx, input.endpointId);
  if (input.eventId) await requireEvent(tx, input.eventId);
  if (input.subjectId) await requireSubject(tx, input.subjectId);
  const rows = await tx
    .select()
    .from(deliveries)
    .where(and(before === null ? undefined : lt(deliveries.id, before), matchesFilters(tx, input)))
    .orderBy(desc(deliveries.id))
    .limit(input.limit + 1);
  return toPage(key, rows.map(toDelivery), input.limit, ({ id }) => id);
}

function matchesFilters(tx: Tx, input: SearchDeliveries): SQL | undefined {
  const { endpointId, status, eventType, eventId, subjectId, lastStatus, lastError, createdAfter, createdBefore } =
    input;
  return and(
    endpointId ? eq(deliveries.endpointId, endpointId) : undefined,
    status && eq(deliveries.status, status),
    eventType === undefined ? undefined : matchesPattern(eventType),
    eventId ? eq(deliveries.eventId, eventId) : undefined,
    subjectId ? inArray(deliveries.eventId, eventsAbout(tx, subjectId)) : undefined,
    lastStatus === undefined ? undefined : eq(deliveries.lastStatus, lastStatus),
    lastError ? eq(deliveries.lastError, lastError) : undefined,
    // Ids contain their creation time, so the index on ids serves this range.
    createdAfter ? gte(deliveries.id, idFloor("delivery", new Date(createdAfter))) : undefined,
    createdBefore ? lt(deliveries.id, idFloor("delivery", new Date(createdBefore))) : undefined,
  );
}

/** One parameter for any number of types, so that the statement keeps one text. */
const matchesPattern = (pattern: string) =>
  sql`${deliveries.eventType} = any(${textArray(eventTypes.filter((type) => matchesAny([pattern], type)))})`;

const eventsAbout = (tx: Tx, subjectId: string) =>
  tx.select({ id: events.id }).from(events).where(eq(events.subjectId, subjectId));

/** Also finds deleted endpoints: their deliveries are kept. */
async function requireEndpoint(tx: Tx, endpointId: string) {
  const [endpoint] = await tx
    .select({ id: webhookEndpoints.id })
    .from(webhookEndpoints)
    .where(eq(webhookEndpoints.id, endpointId));
  if (!endpoint) throw endpointNotFound(endpointId);
}

/** Deliveries can outlive their event, so either is enough. */
async function requireEvent(tx: Tx, id: string) {
  const [[event], [delivery]] = await Promise.all([
    tx.select({ id: events.id }).from(events).where(eq(events.id, id)).limit(1),
    tx.select({ id: deliveries.id }).from(deliveries).where(eq(deliveries.eventId, id)).limit(1),
  ]);
  if (!event && !delivery) throw new ApiError("event_not_found", `There is no event ${id}.`);
}

async function requireSubject(tx: Tx, subjectId: string) {
  const [counter] = await tx.select().from(eventCounters).where(eq(eventCounters.subjectId, subjectId));
  if (!counter) throw new ApiError("resource_not_found", `There is no resource ${subjectId} with events.`);
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
  if (!found) throw notFound(id);
  return {
    ...toDelivery(found),
    attempts: attempts.map(({ attempt, status, error, latencyMs, response, createdAt }) => {
      return { attempt, status, error, latencyMs, response, createdAt: toIso(createdAt) };
    }),
  };
}

/** Due now, with a full schedule of attempts. */
const restartedSchedule = "schedule_from = attempts, next_attempt_at = clock_timestamp()";

/**
 * The columns of a redelivery. The schedule restarts, and the new claim invalidates earlier slots. The sweep reserves a slot
 * within two seconds.
 */
export const redelivered = sql.raw(`status = 'pending', ${restartedSchedule},
  finished_at = null, admitted_until = null, claim = claim + 1`);

/**
 * Sends a delivery again, with the same `webhook-id`. A finished one restarts; a waiting one becomes due now with a full
 * schedule; one in flight is returned unchanged.
 */
export async function redeliver(tx: Tx, id: string): Promise<Delivery> {
  const [found] = await tx.select().from(deliveries).where(eq(deliveries.id, id)).for("update");
  if (!found) throw notFound(id);
  // Not locked: if the endpoint is disabled concurrently, the delivery is marked dead when it becomes due.
  const { status } = await findEndpoint(tx, found.endpointId);
  if (status === "disabled") throw new ApiError("webhook_disabled");
  if (found.status === "pending" && found.admittedUntil !== null) return toDelivery(found);
  if (!(await isEventKept(tx, id))) throw new ApiError("event_expired");
  const change = found.status === "pending" ? sql.raw(restartedSchedule) : redelivered;
  await tx.execute(sql`update deliveries set ${change} where id = ${id}`);
  const [changed] = await tx.select().from(deliveries).where(eq(deliveries.id, id));
  return toDelivery(changed!);
}

/** Compared in the database, because a Date drops the microseconds. */
async function isEventKept(tx: Tx, deliveryId: string): Promise<boolean> {
  const [event] = await tx
    .select({ id: events.id })
    .from(events)
    .innerJoin(deliveries, and(eq(deliveries.eventId, events.id), eq(deliveries.eventCreatedAt, events.createdAt)))
    .where(eq(deliveries.id, deliveryId));
  return event !== undefined;
}

function toDelivery(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    endpointId: row.endpointId,
    eventId: row.eventId,
    eventType: row.eventType,
    status: row.status,
    attemptCount: row.attempts,
    lastStatus: row.lastStatus,
    lastError: row.lastError,
    replayId: row.replayId,
    nextAttemptAt: toIsoOrNull(row.nextAttemptAt),
    createdAt: toIso(row.createdAt),
    finishedAt: toIsoOrNull(row.finishedAt),
  };
}
