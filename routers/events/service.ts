import { and, asc, desc, eq, gte, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { eventHorizon } from "../../db/event-position.ts";
import { eventTypes } from "../../db/events.ts";
import { idFloor } from "../../db/ids.ts";
import { deliveries, eventCounters, events } from "../../db/schema/events.ts";
import { ApiError } from "../core/errors.ts";
import { matchesAny } from "../core/event-pattern.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { type ListKey, readCursor, toPage, writeCursor } from "../core/pagination.ts";
import type { Page } from "../core/reply.ts";
import type { Event, EventWithDeliveries, ListEvents } from "./schema.ts";

export type EventRow = Omit<typeof events.$inferSelect, "position">;

export async function listEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  if (input.subjectId) await requireSubject(tx, input.subjectId);
  return input.order === "asc" ? tailEvents(tx, input, key) : newestEvents(tx, input, key);
}

/** Every resource has at least one event, so a subject without events does not exist for this client. */
async function requireSubject(tx: Tx, subjectId: string) {
  const [counter] = await tx.select().from(eventCounters).where(eq(eventCounters.subjectId, subjectId));
  if (!counter) throw new ApiError("resource_not_found", `There are no events for ${subjectId}.`);
}

/** An event with its deliveries. */
export async function getEvent(tx: Tx, id: string): Promise<EventWithDeliveries> {
  const [[found], sent] = await Promise.all([
    tx.select().from(events).where(eq(events.id, id)),
    tx.select().from(deliveries).where(eq(deliveries.eventId, id)).orderBy(asc(deliveries.id)),
  ]);
  if (!found) throw new ApiError("event_not_found", `There is no event ${id}, or it is past its retention.`);
  return {
    ...eventEnvelope(found),
    deliveries: sent.map((row) => ({
      id: row.id,
      endpointId: row.endpointId,
      status: row.status,
      attemptCount: row.attempts,
      lastStatus: row.lastStatus,
      lastError: row.lastError,
      nextAttemptAt: toIsoOrNull(row.nextAttemptAt),
      createdAt: toIso(row.createdAt),
      finishedAt: toIsoOrNull(row.finishedAt),
    })),
  };
}

/** Ids use the clocks of our processes, `created_at` the database's clock. Clocks further apart than this fail authentication. */
const maxClockSkewMs = 10 * 60_000;
/** The list is scanned by id: this bound lets the scan start close to the requested time. */
const idBoundAt = (instant: string, byMs: number) => idFloor("event", new Date(Date.parse(instant) + byMs));

export type EventFilter = Partial<
  Pick<ListEvents, "type" | "types" | "subjectType" | "subjectId" | "createdAfter" | "createdBefore">
>;

/** The filter as a condition. */
export const filterCondition = ({ type, types, subjectType, subjectId, createdAfter, createdBefore }: EventFilter) =>
  and(
    type && eq(events.type, type),
    types && sql`${events.type} = any(${textArray(eventTypes.filter((each) => matchesAny(types, each)))})`,
    subjectType && eq(events.subjectType, subjectType),
    subjectId ? eq(events.subjectId, subjectId) : undefined,
    createdAfter === undefined
      ? undefined
      : and(gte(events.createdAt, new Date(createdAfter)), gte(events.id, idBoundAt(createdAfter, -maxClockSkewMs))),
    createdBefore === undefined
      ? undefined
      : and(lt(events.createdAt, new Date(createdBefore)), lt(events.id, idBoundAt(createdBefore, maxClockSkewMs))),
  );

/** One parameter, so that the statement text does not depend on the number of types. */
const textArray = (types: readonly string[]) => sql`string_to_array(${types.join(",")}::text, ',')`;

async function newestEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  const before = readCursor(key, input.cursor);
  const rows = await tx
    .select()
    .from(events)
    .where(and(before === null ? undefined : lt(events.id, before), filterCondition(input)))
    .orderBy(desc(events.id))
    .limit(input.limit + 1);
  return toPage(key, rows.map(eventEnvelope), input.limit, ({ id }) => id);
}

/** A place in commit order: after this event, or, without an id, before all events of this position. */
export type Position = { position: number; sequence: number; id: string };

/** The present horizon. A read that starts later sees all events below it. */
export async function currentPosition(tx: Tx): Promise<Position> {
  const [row] = await tx.execute<{ horizon: string }>(sql`select ${eventHorizon} as horizon`);
  return { position: Number(row!.horizon), sequence: 0, id: "" };
}

export const later = (one: Position, other: Position) => (other.position > one.position ? other : one);

export const writePosition = (key: ListKey, { position, sequence, id }: Position) =>
  writeCursor(key, `${position}:${sequence}:${id}`);

/**
 * Also reads the cursor of an earlier version: a transaction id and an event id. It continues before that transaction, since
 * its events were in another order then: they may be repeated, and none is skipped.
 */
export function positionOf(text: string | null): Position | null {
  const [position, ...rest] = text?.split(":") ?? [];
  const [sequence, id] = rest.length === 1 ? ["0", ""] : rest;
  if (position === undefined || sequence === undefined || id === undefined) return null;
  return { position: Number(position), sequence: Number(sequence), id };
}

export const isBehind = ({ position, sequence, id }: Position) =>
  sql`(${events.position}, ${events.sequence}, ${events.id}) > (${position}::bigint, ${sequence}::int, ${id}::text)`;

export const inCommitOrder = [asc(events.position), asc(events.sequence), asc(events.id)];

/**
 * Reads in commit order, and only below the horizon. Events that commit later have a higher position, so a reader that
 * continues from its cursor misses nothing. The cursor of the last page, also of an empty one, is the horizon taken before
 * the read.
 */
async function tailEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  const after = positionOf(readCursor(key, input.cursor));
  const [present, rows] = await Promise.all([
    currentPosition(tx),
    tx
      .select()
      .from(events)
      .where(
        and(sql`${events.position} < ${eventHorizon}`, after ? isBehind(after) : undefined, filterCondition(input)),
      )
      .orderBy(...inCommitOrder)
      .limit(input.limit + 1),
  ]);
  const page = rows.slice(0, input.limit);
  const hasMore = rows.length > input.limit;
  const reached = page.at(-1) ?? after;
  const position = reached && hasMore ? reached : later(reached ?? present, present);
  return { items: page.map(eventEnvelope), nextCursor: writePosition(key, position), hasMore };
}

/** An event in the API. Its JSON is the body of each delivery. */
export function eventEnvelope(row: EventRow): Event {
  return {
    id: row.id,
    type: row.type,
    createdAt: toIso(row.createdAt),
    clientId: row.clientId,
    subject: { type: row.subjectType, id: row.subjectId, sequence: row.sequence },
    data: row.data as Event["data"], // emit() wrote it through the catalogue: always an object
  };
}
