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
import type { Delivery, DeliveryWithAttempts, ListDeliveries, SearchDeliveries } from "./schema.ts";
import { textArray } from "./slots.ts";

type DeliveryRow = typeof deliveries.$inferSelect;

const notFound = (id: string) => new ApiError("delivery_not_found", `There is no delivery ${id}.`);

export async function listDeliveries(tx: Tx, { id, ...filters }: ListDeliveries, key: ListKey) {
  await findEndpoint(tx, id);
  return searchDeliveries(tx, { ...filters, endpointId: id }, key);
}

/** The deliveries of one endpoint, or of all, newest first. What is named must be the client's own, and may be deleted. */
export async function searchDeliveries(tx: Tx, input: SearchDeliveries, key: ListKey) {
  const before = readCursor(key, input.cursor);
  if (input.endpointId) await mustHaveHad(tx, input.endpointId);
  if (input.eventId) await mustHaveEvent(tx, input.eventId);
  if (input.subjectId) await mustHaveSpoken(tx, input.subjectId);
  const rows = await tx
    .select()
    .from(deliveries)
    .where(and(before === null ? undefined : lt(deliveries.id, before), chosenBy(tx, input)))
    .orderBy(desc(deliveries.id))
    .limit(input.limit + 1);
  return toPage(key, rows.map(deliveryOnTheWire), input.limit, ({ id }) => id);
}

function chosenBy(tx: Tx, input: SearchDeliveries): SQL | undefined {
  const { endpointId, status, eventType, eventId, subjectId, lastStatus, lastError, since, until } = input;
  return and(
    endpointId ? eq(deliveries.endpointId, endpointId) : undefined,
    status && eq(deliveries.status, status),
    eventType === undefined ? undefined : isOfKind(eventType),
    eventId ? eq(deliveries.eventId, eventId) : undefined,
    subjectId ? inArray(deliveries.eventId, eventsAbout(tx, subjectId)) : undefined,
    lastStatus === undefined ? undefined : eq(deliveries.lastStatus, lastStatus),
    lastError ? eq(deliveries.lastError, lastError) : undefined,
    // An id tells when it was made: so the list is walked from there to there, and not through what lies beside.
    since ? gte(deliveries.id, idFloor("delivery", new Date(since))) : undefined,
    until ? lt(deliveries.id, idFloor("delivery", new Date(until))) : undefined,
  );
}

/** One parameter, however many types the pattern wants: the text of the statement stays the same. */
const isOfKind = (pattern: string) =>
  sql`${deliveries.eventType} = any(${textArray(eventTypes.filter((type) => matchesAny([pattern], type)))})`;

const eventsAbout = (tx: Tx, subjectId: string) =>
  tx.select({ id: events.id }).from(events).where(eq(events.subjectId, subjectId));

/** An endpoint is gone when it is deleted; what was sent there is not. */
async function mustHaveHad(tx: Tx, endpointId: string) {
  const [endpoint] = await tx
    .select({ id: webhookEndpoints.id })
    .from(webhookEndpoints)
    .where(eq(webhookEndpoints.id, endpointId));
  if (!endpoint) throw endpointNotFound(endpointId);
}

/** Deliveries may be kept longer than the event itself. */
async function mustHaveEvent(tx: Tx, id: string) {
  const [[event], [delivery]] = await Promise.all([
    tx.select({ id: events.id }).from(events).where(eq(events.id, id)).limit(1),
    tx.select({ id: deliveries.id }).from(deliveries).where(eq(deliveries.eventId, id)).limit(1),
  ]);
  if (!event && !delivery) throw new ApiError("event_not_found", `There is no event ${id}.`);
}

async function mustHaveSpoken(tx: Tx, subjectId: string) {
  const [counter] = await tx.select().from(eventCounters).where(eq(eventCounters.subjectId, subjectId));
  if (!counter) throw new ApiError("resource_not_found", `There is no ${subjectId} with events.`);
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
    ...deliveryOnTheWire(found),
    attempts: attempts.map(({ attempt, status, error, latencyMs, response, createdAt }) => {
      return { attempt, status, error, latencyMs, response, createdAt: toIso(createdAt) };
    }),
  };
}

/** Due now, with all its attempts to come: what was tried before is held against it no more. */
const begunAgain = "schedule_from = attempts, next_attempt_at = clock_timestamp()";

/**
 * What sending a delivery anew changes: its schedule begins again, and who still holds an earlier admission of it can
 * write nothing. The sweep admits it within a second or two.
 */
export const sentAnew = sql.raw(`status = 'pending', ${begunAgain},
  finished_at = null, admitted_until = null, claim = claim + 1`);

/**
 * Sends a delivery once more, with the same `webhook-id`: one that is over begins anew, one that waits is due now
 * with its whole schedule before it, and one that is on its way is left alone.
 */
export async function redeliver(tx: Tx, id: string): Promise<Delivery> {
  const [found] = await tx.select().from(deliveries).where(eq(deliveries.id, id)).for("update");
  if (!found) throw notFound(id);
  // Not locked: should it be switched off at this moment, the delivery is found dead when it falls due.
  const { status } = await findEndpoint(tx, found.endpointId);
  if (status === "disabled") throw new ApiError("webhook_disabled");
  if (found.status === "pending" && found.admittedUntil !== null) return deliveryOnTheWire(found);
  if (!(await isKept(tx, id))) throw new ApiError("event_expired");
  const change = found.status === "pending" ? sql.raw(begunAgain) : sentAnew;
  await tx.execute(sql`update deliveries set ${change} where id = ${id}`);
  const [changed] = await tx.select().from(deliveries).where(eq(deliveries.id, id));
  return deliveryOnTheWire(changed!);
}

/** Compared in the database: it counts microseconds, and a Date does not. */
async function isKept(tx: Tx, deliveryId: string): Promise<boolean> {
  const [event] = await tx
    .select({ id: events.id })
    .from(events)
    .innerJoin(deliveries, and(eq(deliveries.eventId, events.id), eq(deliveries.eventCreatedAt, events.createdAt)))
    .where(eq(deliveries.id, deliveryId));
  return event !== undefined;
}

function deliveryOnTheWire(row: DeliveryRow): Delivery {
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
