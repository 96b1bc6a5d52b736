import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { textArray } from "./conditions.ts";
import { reserveSlots } from "./slot-reservation.ts";
import { lockClientSlots, lockRatedEndpoints, lockSlots, tuneForKeyLookups } from "./slots.ts";

/** `createdAt` is the database's text of it, in microseconds, so that only one partition is read. */
export type EventRef = { clientId: string; eventId: string; createdAt: string };

/** An event with the endpoints that subscribe to it. null: the event does not exist, or its retention has ended. */
export type MatchedEvent = (EventRef & { endpointIds: string[] }) | null;

/** Finds the enabled endpoints that subscribe to each event, among those of its client. For a read-only transaction. */
export async function matchEndpoints(tx: Tx, events: readonly EventRef[]): Promise<MatchedEvent[]> {
  const given = events.map(({ clientId, eventId, createdAt }, n) => ({ n, clientId, eventId, createdAt }));
  const [, found, endpoints] = await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute<{ n: number; type: string }>(sql`
      select g.n, e.type
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, "clientId" text, "eventId" text, "createdAt" text)
      cross join lateral (
        select e.type from events e
        where e.client_id = g."clientId" and e.id = g."eventId" and e.created_at = g."createdAt"::timestamptz) e`),
    tx.execute<{ client_id: string; id: string; patterns: string }>(sql`
      select w.client_id, w.id, array_to_json(w.event_types)::text as patterns
      from (select distinct id from unnest(${textArray(events.map(({ clientId }) => clientId))}) c(id)) c
      join webhook_endpoints w on w.client_id = c.id
      where w.status = 'enabled' and w.deleted_at is null order by w.client_id, w.id`),
  ]);
  const types = new Map(found.map(({ n, type }) => [n, type]));
  const enabled = endpoints.map(({ client_id, id, patterns }) => {
    return { clientId: client_id, id, patterns: JSON.parse(patterns) as string[] };
  });
  const byClient = Map.groupBy(enabled, ({ clientId }) => clientId);
  return events.map((event, n) => {
    const type = types.get(n);
    if (type === undefined) return null;
    const matching = (byClient.get(event.clientId) ?? []).filter(({ patterns }) => matchesAny(patterns, type));
    return { ...event, endpointIds: matching.map(({ id }) => id) };
  });
}

/** Creates one delivery per event and endpoint, however often this runs, then reserves free slots for them. */
export async function fanOutEvents(tx: Tx, events: readonly NonNullable<MatchedEvent>[]): Promise<void> {
  const created = events.flatMap(({ clientId, eventId, createdAt, endpointIds }) =>
    endpointIds.map((endpointId) => ({ id: newId("delivery"), clientId, endpointId, eventId, createdAt })),
  );
  if (created.length === 0) return;
  const clientIds = created.map(({ clientId }) => clientId);
  // Sent in this order, in one round trip. The count of slots must come after the locks.
  await Promise.all([
    tuneForKeyLookups(tx),
    tx.execute(sql`
      insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at)
      select e.client_id, g.id, g."endpointId", e.id, e.type, e.created_at, clock_timestamp()
      from json_to_recordset(${JSON.stringify(created)}::text::json)
        as g(id text, "clientId" text, "endpointId" text, "eventId" text, "createdAt" text)
      cross join lateral (
        select e.client_id, e.id, e.type, e.created_at from events e
        where e.client_id = g."clientId" and e.id = g."eventId" and e.created_at = g."createdAt"::timestamptz) e
      order by e.client_id, e.id, g."endpointId"
      on conflict (client_id, event_id, endpoint_id) do nothing`),
    lockClientSlots(tx, clientIds),
    lockRatedEndpoints(tx, clientIds),
    lockSlots(tx),
    reserveSlots(tx, created, { isFresh: true }),
  ]);
}
