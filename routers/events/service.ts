import { and, asc, desc, eq, gte, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { eventTypes } from "../../db/events.ts";
import { idFloor } from "../../db/ids.ts";
import { deliveries, eventCounters, events } from "../../db/schema/events.ts";
import { ApiError } from "../core/errors.ts";
import { matchesAny } from "../core/event-pattern.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { type ListKey, readCursor, toPage, writeCursor } from "../core/pagination.ts";
import type { Page } from "../core/reply.ts";
import type { Event, EventWithDeliveries, ListEvents } from "./schema.ts";

export type EventRow = Omit<typeof events.$inferSelect, "txid">;

export async function listEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  if (input.subjectId) await mustHaveSpoken(tx, input.subjectId);
  return input.order === "asc" ? tailEvents(tx, input, key) : newestEvents(tx, input, key);
}

/** Whatever is made says so: a subject without a single event is none of this client's. */
async function mustHaveSpoken(tx: Tx, subjectId: string) {
  const [counter] = await tx.select().from(eventCounters).where(eq(eventCounters.subjectId, subjectId));
  if (!counter) throw new ApiError("resource_not_found", `There is no ${subjectId} with events.`);
}

/** The event, and how far it has come on its way to each endpoint that wanted it. */
export async function getEvent(tx: Tx, id: string): Promise<EventWithDeliveries> {
  const [[found], sent] = await Promise.all([
    tx.select().from(events).where(eq(events.id, id)),
    tx.select().from(deliveries).where(eq(deliveries.eventId, id)).orderBy(asc(deliveries.id)),
  ]);
  if (!found) throw new ApiError("event_not_found", `There is no event ${id}, or it is past its age.`);
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

/** Ids are made by the clocks of our processes, `created_at` by the database's: further apart than this no token is good. */
const clocksApartMs = 10 * 60_000;
/** The list is walked by id: so it begins near the time that is asked for. */
const madeAround = (instant: string, byMs: number) => idFloor("event", new Date(Date.parse(instant) + byMs));

export type EventFilter = Partial<Pick<ListEvents, "type" | "types" | "subjectType" | "subjectId" | "since" | "until">>;

/** Which events are asked for, as a condition. */
export const chosenBy = ({ type, types, subjectType, subjectId, since, until }: EventFilter) =>
  and(
    type && eq(events.type, type),
    types && sql`${events.type} = any(${textArray(eventTypes.filter((each) => matchesAny(types, each)))})`,
    subjectType && eq(events.subjectType, subjectType),
    subjectId ? eq(events.subjectId, subjectId) : undefined,
    since === undefined
      ? undefined
      : and(gte(events.createdAt, new Date(since)), gte(events.id, madeAround(since, -clocksApartMs))),
    until === undefined
      ? undefined
      : and(lt(events.createdAt, new Date(until)), lt(events.id, madeAround(until, clocksApartMs))),
  );

/** One parameter, however many there are: the text of the statement stays the same. */
const textArray = (types: readonly string[]) => sql`string_to_array(${types.join(",")}::text, ',')`;

async function newestEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  const before = readCursor(key, input.cursor);
  const rows = await tx
    .select()
    .from(events)
    .where(and(before === null ? undefined : lt(events.id, before), chosenBy(input)))
    .orderBy(desc(events.id))
    .limit(input.limit + 1);
  return toPage(key, rows.map(eventEnvelope), input.limit, ({ id }) => id);
}

/** A place in the order of commits: behind this event, or (no id) before all that this transaction wrote. */
export type Position = { txid: string; id: string };

/** Below it is all that there is, and ever will be there: the oldest transaction that is still running. */
export const horizon = sql<string>`pg_snapshot_xmin(pg_current_snapshot())`;

/** Whatever is read after it was taken, and lies below it, is the whole. */
export async function currentPosition(tx: Tx): Promise<Position> {
  const [now] = await tx.execute<{ txid: string }>(sql`select ${horizon}::text as txid`);
  return { txid: now!.txid, id: "" };
}

export const later = (one: Position, other: Position) => (BigInt(other.txid) > BigInt(one.txid) ? other : one);

export const writePosition = (key: ListKey, { txid, id }: Position) => writeCursor(key, `${txid}:${id}`);

export function positionOf(text: string | null): Position | null {
  const [txid, id] = text?.split(":") ?? [];
  return txid === undefined || id === undefined ? null : { txid, id };
}

export const isBehind = ({ txid, id }: Position) =>
  sql`(${events.txid}, ${events.id}) > (${txid}::text::xid8, ${id}::text)`;

/**
 * Reads by the transactions that wrote, and only below the oldest that is still running: whatever commits later has a
 * higher position, so a reader who goes on from his cursor misses nothing. Behind the last page, an empty one too, his
 * cursor is the horizon that was taken before it was read.
 */
async function tailEvents(tx: Tx, input: ListEvents, key: ListKey): Promise<Page<Event>> {
  const after = positionOf(readCursor(key, input.cursor));
  const [present, rows] = await Promise.all([
    currentPosition(tx),
    tx
      .select()
      .from(events)
      .where(and(sql`${events.txid} < ${horizon}`, after ? isBehind(after) : undefined, chosenBy(input)))
      .orderBy(asc(events.txid), asc(events.id))
      .limit(input.limit + 1),
  ]);
  const shown = rows.slice(0, input.limit);
  const hasMore = rows.length > input.limit;
  const reached = shown.at(-1) ?? after;
  const position = reached && hasMore ? reached : later(reached ?? present, present);
  return { items: shown.map(eventEnvelope), nextCursor: writePosition(key, position), hasMore };
}

/** An event as the world sees it; its JSON is the body of every delivery. */
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
