import { eq, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { eventTypes } from "../../../db/events.ts";
import { idFloor, newId } from "../../../db/ids.ts";
import { enqueue } from "../../../db/queue.ts";
import { webhookEndpoints, webhookReplays } from "../../../db/schema/events.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { sentAnew } from "../deliveries/service.ts";
import type { EndpointRow } from "../endpoints/service.ts";
import { endReplay } from "./service.ts";

type ReplayRow = typeof webhookReplays.$inferSelect;

/** What one transaction takes: at most so many deliveries, out of at most so many events. */
export const piece = { deliveries: 500, events: 5_000 } as const;

/** Due deliveries of an endpoint above which a replay waits: what happens now stands behind them. */
const mostDue = 1_000;
const pauseSeconds = 2;
const longestDays = 90;

type Taken = {
  /** The last that was looked at; null: there was nothing left to look at. */
  position: string | null;
  queued: number;
};

/**
 * Takes the next piece of a replay and queues the job for the one after, all in the caller's transaction: where that
 * does not commit, nothing was taken. Two that take at once take one after the other.
 */
export async function advanceReplay(tx: Tx, id: string): Promise<void> {
  const [replay] = await tx.select().from(webhookReplays).where(eq(webhookReplays.id, id)).for("update");
  if (replay?.status !== "running") return;
  const [endpoint] = await tx.select().from(webhookEndpoints).where(eq(webhookEndpoints.id, replay.endpointId));
  if (endpoint?.status !== "enabled" || endpoint.deletedAt) return endReplay(tx, id, "cancelled");
  if ((await hasEnoughDue(tx, replay)) || (await comesTooSoon(tx, replay))) {
    await tx.execute(sql`update webhook_replays set updated_at = clock_timestamp() where id = ${id}`);
    return enqueue(tx, "webhooks.replay", { replayId: id }, { key: id, delaySeconds: pauseSeconds });
  }
  const { position, queued } =
    replay.which === "dead" ? await takeDead(tx, replay, endpoint) : await takeEvents(tx, replay, endpoint);
  // The endpoint is locked here alone, where no delivery is: whoever locks both takes the endpoint first.
  if (position === null) return complete(tx, replay);
  await tx.execute(sql`update webhook_replays set position = ${position}, queued = queued + ${queued}::int,
    updated_at = clock_timestamp() where id = ${id}`);
  await enqueue(tx, "webhooks.replay", { replayId: id }, { key: id });
}

async function hasEnoughDue(tx: Tx, { endpointId }: ReplayRow): Promise<boolean> {
  const [due] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from (
      select from deliveries d where d.endpoint_id = ${endpointId} and d.status = 'pending' and d.admitted_until is null
        and d.next_attempt_at <= clock_timestamp() limit ${sql.raw(String(mostDue + 1))}
    ) due`);
  return due!.n > mostDue;
}

/**
 * Events are walked in the order of their ids, and one that is committed late would be passed by. So the walk begins
 * when every transaction is over that was open when the replay was asked for: whatever they stated can be seen then.
 * What is stated by later ones is fanned out by its own job, as the endpoint is on; and if it was switched off since,
 * that belongs to what it missed next. None of ours is open for a minute: nobody else's holds the walk up for longer.
 */
async function comesTooSoon(tx: Tx, { which, id }: ReplayRow): Promise<boolean> {
  if (which === "dead") return false;
  const [row] = await tx.execute<{ early: boolean }>(sql`
    select txid >= pg_snapshot_xmin(pg_current_snapshot()) and created_at > clock_timestamp() - interval '1 minute' as early
    from webhook_replays where id = ${id}`);
  return row!.early;
}

/** Dead letters, sent anew; but none that the endpoint wants no longer, and none whose event is past its age. */
async function takeDead(tx: Tx, replay: ReplayRow, endpoint: EndpointRow): Promise<Taken> {
  const types = wantedTypes(replay, endpoint);
  if (types.length === 0) return { position: null, queued: 0 };
  // A delivery is made after its event: none with a lower id can be of this time. An hour is for clocks that differ.
  const floor = idFloor("delivery", new Date(replay.since.getTime() - 3_600_000));
  const [taken] = await tx.execute<{ position: string | null; queued: number }>(sql`
    with mine as materialized (
      select d.id, d.event_id, d.event_created_at from deliveries d
      where d.endpoint_id = ${endpoint.id} and d.status = 'dead' and d.id > ${replay.position ?? floor}
        and d.event_created_at >= ${wire(replay.since)} and d.event_created_at < ${wire(replay.until)}
        and d.event_type = any(${textArray(types)})
      order by d.id limit ${sql.raw(String(piece.deliveries))} for update
    ), sent as (
      update deliveries d set ${sentAnew}, replay_id = ${replay.id}
      from mine join events e on e.id = mine.event_id and e.created_at = mine.event_created_at
      where d.id = mine.id returning d.id
    )
    select (select max(id) from mine) as position, (select count(*)::int from sent) as queued`);
  return taken!;
}

/** Events that the endpoint wants: those without a delivery get one, and with `all` the others are sent anew. */
async function takeEvents(tx: Tx, replay: ReplayRow, endpoint: EndpointRow): Promise<Taken> {
  const types = wantedTypes(replay, endpoint);
  if (types.length === 0) return { position: null, queued: 0 };
  const { position, ids } = await nextEvents(tx, replay, types);
  if (ids.length === 0) return { position, queued: 0 };
  // Before the others are made, or these would be sent anew at once.
  const anew = replay.which === "all" ? await sendAnew(tx, replay, ids) : 0;
  return { position, queued: anew + (await makeDeliveries(tx, replay, ids)) };
}

async function nextEvents(tx: Tx, replay: ReplayRow, types: readonly string[]) {
  const { since, until, position } = replay;
  const [next] = await tx.execute<{ last: string | null; looked: number; ids: string | null }>(sql`
    with looked as materialized (
      select e.id, e.type from events e
      where e.id > ${position ?? idFloor("event", since)} and e.id < ${idFloor("event", until)} and ${isOfTime(replay)}
      order by e.id limit ${sql.raw(String(piece.events))}
    ), chosen as materialized (
      select id from looked where type = any(${textArray(types)}) order by id limit ${sql.raw(String(piece.deliveries))}
    )
    select (select max(id) from looked) as last, (select string_agg(id, ',' order by id) from chosen) as ids`);
  const ids = next!.ids?.split(",") ?? [];
  return { position: ids.length === piece.deliveries ? ids.at(-1)! : next!.last, ids };
}

/** The days of the replay, by the column that partitions events: an id is made a little before its row. */
const isOfTime = ({ since, until }: ReplayRow) => sql`
  e.created_at >= ${wire(since)} - interval '1 hour' and e.created_at < ${wire(until)} + interval '1 hour'`;

async function sendAnew(tx: Tx, replay: ReplayRow, eventIds: readonly string[]): Promise<number> {
  const sent = await tx.execute(sql`
    with mine as (
      select d.id from deliveries d
      where d.endpoint_id = ${replay.endpointId} and d.event_id = any(${textArray(eventIds)}) and d.status <> 'pending'
      order by d.id for update
    )
    update deliveries d set ${sentAnew}, replay_id = ${replay.id} from mine where d.id = mine.id returning d.id`);
  return sent.length;
}

async function makeDeliveries(tx: Tx, replay: ReplayRow, eventIds: readonly string[]): Promise<number> {
  const ids = eventIds.map(() => newId("delivery"));
  const made = await tx.execute(sql`
    insert into deliveries (id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at, replay_id)
    select made.id, ${replay.endpointId}, e.id, e.type, e.created_at, clock_timestamp(), ${replay.id}
    from unnest(${textArray(ids)}, ${textArray(eventIds)}) as made(id, event_id)
    join events e on e.id = made.event_id and ${isOfTime(replay)}
    order by made.id
    on conflict (client_id, event_id, endpoint_id) do nothing returning id`);
  return made.length;
}

/** All is queued. What the endpoint missed is missed no longer, if this was all of it: as far as the API shows its ends. */
async function complete(tx: Tx, { id, endpointId, which, eventTypes: some, since, until }: ReplayRow) {
  if (which === "missed" && some === null) {
    const reach: SQL = sql`${wire(until)} - ${`${longestDays} days`}::text::interval`;
    await tx.execute(sql`
      update webhook_endpoints set missed_since = null, missed_until = null, updated_at = clock_timestamp()
      where id = ${endpointId} and date_trunc('milliseconds', missed_until) <= ${wire(until)}
        and greatest(missed_since, ${reach}) >= ${wire(since)}`);
  }
  await endReplay(tx, id, "completed");
}

/** As the endpoint stands now: it may have been changed since the replay began. */
const wantedTypes = ({ eventTypes: some }: ReplayRow, endpoint: EndpointRow) =>
  eventTypes.filter((type) => matchesAny(endpoint.eventTypes, type) && (some === null || matchesAny(some, type)));

const wire = (date: Date) => sql`${date.toISOString()}::text::timestamptz`;

/** Neither ids nor types hold commas; the driver knows no arrays. */
const textArray = (texts: readonly string[]) => sql`string_to_array(${texts.join(",")}::text, ',')`;
