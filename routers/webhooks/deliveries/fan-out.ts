import { sql } from "drizzle-orm";
import { announce, type Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { isSetApart } from "../../set-apart/service.ts";
import { inlined, textArray } from "./conditions.ts";
import { reserveSlots } from "./slot-reservation.ts";
import { lockClientSlots, lockRatedEndpoints, lockSlots, tuneForKeyLookups } from "./slots.ts";

/** `createdAt` is the database's text of it, in microseconds, so that only one partition is read. */
export type EventRef = { clientId: string; eventId: string; createdAt: string };

/** Of one round: so that no client's flood delays the event of another. */
export const fanOutBatch = { clients: 20, eventsPerClient: 50 };
/** The name of the loop, among those of all loops that set rows apart. */
export const fanOutLoop = "events.fanOut";

/** `next`: the client after which the next round begins; empty after the last client. */
type WaitingEvents = { events: EventRef[]; next: string };

/**
 * The next events that wait for their fan-out, some of each client, beginning after the client `after`. With `isTaken`,
 * they are locked, without those that another worker has locked. Events that are set apart are left out.
 */
export async function waitingEvents(tx: Tx, after: string, { isTaken }: { isTaken: boolean }): Promise<WaitingEvents> {
  const rows = await tx.execute<{ client_id: string; event_id: string | null; at: string }>(sql`
    with recursive waiting as ( -- steps from client to client
      (select f.client_id from event_fan_outs f where f.client_id > ${after}::text order by 1 limit 1)
      union all
      select further.client_id from waiting w cross join lateral (
        select f.client_id from event_fan_outs f where f.client_id > w.client_id order by 1 limit 1) further
    )
    select c.client_id, f.event_id, f.at from (select client_id from waiting limit ${inlined(fanOutBatch.clients)}) c
    left join lateral (
      select f.event_id, f.event_created_at::text as at from event_fan_outs f
      where f.client_id = c.client_id and not ${isSetApart(fanOutLoop, sql`f.event_id`)}
      order by f.event_id limit ${inlined(fanOutBatch.eventsPerClient)} ${isTaken ? sql`for update of f skip locked` : sql``}) f on true`);
  const clients = new Set(rows.map(({ client_id }) => client_id));
  const next = clients.size === fanOutBatch.clients ? rows.at(-1)!.client_id : "";
  return {
    events: rows.flatMap((row) => (row.event_id === null ? [] : [toRef({ ...row, event_id: row.event_id })])),
    next,
  };
}

/** Locks those of the events that still wait and that no other worker has locked. */
export async function takeEvents(tx: Tx, events: readonly EventRef[]): Promise<EventRef[]> {
  const rows = await tx.execute<WaitingRow>(sql`
    select f.client_id, f.event_id, f.event_created_at::text as at from ${givenEvents(events)}
    join event_fan_outs f on f.client_id = g."clientId" and f.event_id = g."eventId"
    order by 1, 2 for update of f skip locked`);
  return rows.map(toRef);
}

type WaitingRow = { client_id: string; event_id: string; at: string };
const toRef = ({ client_id, event_id, at }: WaitingRow) => ({ clientId: client_id, eventId: event_id, createdAt: at });

const givenEvents = (events: readonly EventRef[]) => sql`
  json_to_recordset(${JSON.stringify(events)}::text::json) as g("clientId" text, "eventId" text, "createdAt" text)`;

/**
 * Writes the deliveries of events that this transaction has taken, and ends their wait: all or nothing, so that a process may
 * be killed at any point. Returns the events that do not exist any more, because their retention has ended.
 */
export async function fanOutTaken(tx: Tx, events: readonly EventRef[]): Promise<EventRef[]> {
  if (events.length === 0) return [];
  const matched = await matchEndpoints(tx, events);
  // First, so that nothing is waited for under the locks of the slots.
  await tx.execute(sql`
    delete from event_fan_outs f using ${givenEvents(events)}
    where f.client_id = g."clientId" and f.event_id = g."eventId"`);
  await fanOutEvents(
    tx,
    matched.filter((one) => one !== null),
  );
  return events.filter((_, n) => matched[n] === null);
}

/** An event with the endpoints that subscribe to it. null: the event does not exist, or its retention has ended. */
type MatchedEvent = (EventRef & { endpointIds: string[] }) | null;

/** Finds the enabled endpoints that subscribe to each event, among those of its client. */
async function matchEndpoints(tx: Tx, events: readonly EventRef[]): Promise<MatchedEvent[]> {
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
async function fanOutEvents(tx: Tx, events: readonly NonNullable<MatchedEvent>[]): Promise<void> {
  const created = events.flatMap(({ clientId, eventId, createdAt, endpointIds }) =>
    endpointIds.map((endpointId) => ({ id: newId("delivery"), clientId, endpointId, eventId, createdAt })),
  );
  if (created.length === 0) return;
  const clientIds = created.map(({ clientId }) => clientId);
  // Sent in this order, in one round trip. The count of slots must come after the locks.
  const [, , , , , [reserved]] = await Promise.all([
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
  announce(tx, { jobs: reserved?.n ?? 0 });
}
