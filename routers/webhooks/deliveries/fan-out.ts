import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { admit, lockPlaces, lockRated, lockSlots, swiftly, textArray } from "./slots.ts";

/** `createdAt` is the database's own text of it, so that only one partition is read. */
export type EventRef = { clientId: string; eventId: string; createdAt: string };

/** Who wants which event. null: there is no such event (any more). */
export type MatchedEvent = (EventRef & { endpointIds: string[] }) | null;

/** Finds for each event the endpoints of its client that want it. For a transaction that only reads. */
export async function matchEndpoints(tx: Tx, stated: readonly EventRef[]): Promise<MatchedEvent[]> {
  const given = stated.map(({ clientId, eventId, createdAt }, n) => ({ n, clientId, eventId, createdAt }));
  const [, found, endpoints] = await Promise.all([
    swiftly(tx),
    tx.execute<{ n: number; type: string }>(sql`
      select g.n, e.type
      from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, "clientId" text, "eventId" text, "createdAt" text)
      cross join lateral (
        select e.type from events e
        where e.client_id = g."clientId" and e.id = g."eventId" and e.created_at = g."createdAt"::timestamptz) e`),
    tx.execute<{ client_id: string; id: string; patterns: string }>(sql`
      select w.client_id, w.id, array_to_json(w.event_types)::text as patterns
      from (select distinct id from unnest(${textArray(stated.map(({ clientId }) => clientId))}) c(id)) c
      join webhook_endpoints w on w.client_id = c.id
      where w.status = 'enabled' and w.deleted_at is null order by w.client_id, w.id`),
  ]);
  const types = new Map(found.map(({ n, type }) => [n, type]));
  const open = endpoints.map(({ client_id, id, patterns }) => {
    return { clientId: client_id, id, patterns: JSON.parse(patterns) as string[] };
  });
  const ofClient = Map.groupBy(open, ({ clientId }) => clientId);
  return stated.map((event, n) => {
    const type = types.get(n);
    if (type === undefined) return null;
    const wanting = (ofClient.get(event.clientId) ?? []).filter(({ patterns }) => matchesAny(patterns, type));
    return { ...event, endpointIds: wanting.map(({ id }) => id) };
  });
}

/** One delivery per event and endpoint, however often this runs; then admits what has room. */
export async function fanOutEvents(tx: Tx, reached: readonly NonNullable<MatchedEvent>[]): Promise<void> {
  const made = reached.flatMap(({ clientId, eventId, createdAt, endpointIds }) =>
    endpointIds.map((endpointId) => ({ id: newId("delivery"), clientId, endpointId, eventId, createdAt })),
  );
  if (made.length === 0) return;
  const clientIds = made.map(({ clientId }) => clientId);
  // All of the same kind, so that they are sent in this order, in one trip. The count must come after the lock.
  await Promise.all([
    swiftly(tx),
    tx.execute(sql`
      insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at)
      select e.client_id, g.id, g."endpointId", e.id, e.type, e.created_at, clock_timestamp()
      from json_to_recordset(${JSON.stringify(made)}::text::json)
        as g(id text, "clientId" text, "endpointId" text, "eventId" text, "createdAt" text)
      cross join lateral (
        select e.client_id, e.id, e.type, e.created_at from events e
        where e.client_id = g."clientId" and e.id = g."eventId" and e.created_at = g."createdAt"::timestamptz) e
      order by e.client_id, e.id, g."endpointId"
      on conflict (client_id, event_id, endpoint_id) do nothing`),
    lockPlaces(tx, clientIds),
    lockRated(tx, clientIds),
    lockSlots(tx),
    admit(tx, made, { isFresh: true }),
  ]);
}
