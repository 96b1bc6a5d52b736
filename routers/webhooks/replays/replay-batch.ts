import { eq, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { eventTypes } from "../../../db/events.ts";
import { idFloor, newId } from "../../../db/ids.ts";
import { enqueue } from "../../../db/queue.ts";
import { webhookEndpoints, webhookReplays } from "../../../db/schema/events.ts";
import { matchesAny } from "../../core/event-pattern.ts";
import { inlined, isWaiting, textArray } from "../deliveries/conditions.ts";
import { redelivered } from "../deliveries/service.ts";
import type { EndpointRow } from "../endpoints/service.ts";
import { endReplay } from "./service.ts";

type ReplayRow = typeof webhookReplays.$inferSelect;

/** The most deliveries that one transaction creates, and the most events that it reads. */
export const replayBatch = { deliveries: 500, events: 5_000 } as const;

/** A replay pauses while its endpoint has more due deliveries than this, since new events queue behind them. */
const mostDue = 1_000;
const pauseSeconds = 2;
const longestDays = 90;

type Batch = {
  /** The id of the last row that was read; null: there are no more rows. */
  position: string | null;
  queued: number;
};

/**
 * Queues the next batch of a replay, and the job for the batch after it, in the caller's transaction: both commit, or
 * neither does. Concurrent calls run one after the other.
 */
export async function advanceReplay(tx: Tx, id: string): Promise<void> {
  const [replay] = await tx.select().from(webhookReplays).where(eq(webhookReplays.id, id)).for("update");
  if (replay?.status !== "running") return;
  const [endpoint] = await tx.select().from(webhookEndpoints).where(eq(webhookEndpoints.id, replay.endpointId));
  if (endpoint?.status !== "enabled" || endpoint.deletedAt) return endReplay(tx, id, "cancelled");
  if ((await hasBacklog(tx, replay)) || (await mustWait(tx, replay))) {
    await tx.execute(sql`update webhook_replays set updated_at = clock_timestamp() where id = ${id}`);
    return enqueue(tx, "webhooks.replay", { replayId: id }, { key: id, delaySeconds: pauseSeconds });
  }
  const { position, queued } =
    replay.which === "dead" ? await queueDead(tx, replay, endpoint) : await queueEvents(tx, replay, endpoint);
  // No delivery is locked on this path: the order of locks is endpoint first.
  if (position === null) return complete(tx, replay);
  await tx.execute(sql`update webhook_replays set position = ${position}, queued = queued + ${queued}::int,
    updated_at = clock_timestamp() where id = ${id}`);
  await enqueue(tx, "webhooks.replay", { replayId: id }, { key: id });
}

async function hasBacklog(tx: Tx, { endpointId }: ReplayRow): Promise<boolean> {
  const [due] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from (
      select from deliveries d where d.endpoint_id = ${endpointId} and ${isWaiting}
        and d.next_attempt_at <= clock_timestamp() limit ${inlined(mostDue + 1)}
    ) due`);
  return due!.n > mostDue;
}

/**
 * Events are read in the order of their ids, which would skip one that commits late. So the first batch waits until every
 * transaction that was open when the replay started has ended; their events are visible then. Later events are fanned out by
 * their own job while the endpoint is enabled; if it is disabled, they belong to the next missed range. None of our
 * transactions stays open for a minute, so the wait ends after one minute.
 */
async function mustWait(tx: Tx, { which, id }: ReplayRow): Promise<boolean> {
  if (which === "dead") return false;
  const [row] = await tx.execute<{ early: boolean }>(sql`
    select txid >= pg_snapshot_xmin(pg_current_snapshot()) and created_at > clock_timestamp() - interval '1 minute' as early
    from webhook_replays where id = ${id}`);
  return row!.early;
}

/** Redelivers dead letters, without types that the endpoint no longer subscribes to and without events past retention. */
async function queueDead(tx: Tx, replay: ReplayRow, endpoint: EndpointRow): Promise<Batch> {
  const types = subscribedTypes(replay, endpoint);
  if (types.length === 0) return { position: null, queued: 0 };
  // A delivery is created after its event, so no lower id can match. The hour allows for clocks that differ.
  const floor = idFloor("delivery", new Date(replay.createdAfter.getTime() - 3_600_000));
  const [batch] = await tx.execute<{ position: string | null; queued: number }>(sql`
    with mine as materialized (
      select d.id, d.event_id, d.event_created_at from deliveries d
      where d.endpoint_id = ${endpoint.id} and d.status = 'dead' and d.id > ${replay.position ?? floor}
        and d.event_created_at >= ${toTimestamptz(replay.createdAfter)} and d.event_created_at < ${toTimestamptz(replay.createdBefore)}
        and d.event_type = any(${textArray(types)})
      order by d.id limit ${inlined(replayBatch.deliveries)} for update
    ), sent as (
      update deliveries d set ${redelivered}, replay_id = ${replay.id}
      from mine join events e on e.id = mine.event_id and e.created_at = mine.event_created_at
      where d.id = mine.id returning d.id
    )
    select (select max(id) from mine) as position, (select count(*)::int from sent) as queued`);
  return batch!;
}

/** Creates deliveries for subscribed events that have none. With `all`, redelivers the others. */
async function queueEvents(tx: Tx, replay: ReplayRow, endpoint: EndpointRow): Promise<Batch> {
  const types = subscribedTypes(replay, endpoint);
  if (types.length === 0) return { position: null, queued: 0 };
  const { position, ids } = await nextEvents(tx, replay, types);
  if (ids.length === 0) return { position, queued: 0 };
  // Before the new ones are created, or those would be redelivered too.
  const redeliveredCount = replay.which === "all" ? await redeliver(tx, replay, ids) : 0;
  return { position, queued: redeliveredCount + (await createDeliveries(tx, replay, ids)) };
}

async function nextEvents(tx: Tx, replay: ReplayRow, types: readonly string[]) {
  const { createdAfter, createdBefore, position } = replay;
  const [next] = await tx.execute<{ last: string | null; ids: string | null }>(sql`
    with scanned as materialized (
      select e.id, e.type from events e
      where e.id > ${position ?? idFloor("event", createdAfter)} and e.id < ${idFloor("event", createdBefore)} and ${isInRange(replay)}
      order by e.id limit ${inlined(replayBatch.events)}
    ), chosen as materialized (
      select id from scanned where type = any(${textArray(types)}) order by id limit ${inlined(replayBatch.deliveries)}
    )
    select (select max(id) from scanned) as last, (select string_agg(id, ',' order by id) from chosen) as ids`);
  const ids = next!.ids?.split(",") ?? [];
  return { position: ids.length === replayBatch.deliveries ? ids.at(-1)! : next!.last, ids };
}

/** The range on the partition column of events. The margin is needed because an id is created shortly before its row. */
const isInRange = ({ createdAfter, createdBefore }: ReplayRow) => sql`
  e.created_at >= ${toTimestamptz(createdAfter)} - interval '1 hour' and e.created_at < ${toTimestamptz(createdBefore)} + interval '1 hour'`;

async function redeliver(tx: Tx, replay: ReplayRow, eventIds: readonly string[]): Promise<number> {
  const sent = await tx.execute(sql`
    with mine as (
      select d.id from deliveries d
      where d.endpoint_id = ${replay.endpointId} and d.event_id = any(${textArray(eventIds)}) and d.status <> 'pending'
      order by d.id for update
    )
    update deliveries d set ${redelivered}, replay_id = ${replay.id} from mine where d.id = mine.id returning d.id`);
  return sent.length;
}

async function createDeliveries(tx: Tx, replay: ReplayRow, eventIds: readonly string[]): Promise<number> {
  const ids = eventIds.map(() => newId("delivery"));
  const made = await tx.execute(sql`
    insert into deliveries (id, endpoint_id, event_id, event_type, event_created_at, next_attempt_at, replay_id)
    select made.id, ${replay.endpointId}, e.id, e.type, e.created_at, clock_timestamp(), ${replay.id}
    from unnest(${textArray(ids)}, ${textArray(eventIds)}) as made(id, event_id)
    join events e on e.id = made.event_id and ${isInRange(replay)}
    order by made.id
    on conflict (client_id, event_id, endpoint_id) do nothing returning id`);
  return made.length;
}

/** Clears the missed range of the endpoint if the replay covered it, compared in the milliseconds that the API shows. */
async function complete(tx: Tx, { id, endpointId, which, eventTypes: some, createdAfter, createdBefore }: ReplayRow) {
  if (which === "missed" && some === null) {
    const reach: SQL = sql`${toTimestamptz(createdBefore)} - ${`${longestDays} days`}::text::interval`;
    await tx.execute(sql`
      update webhook_endpoints set missed_since = null, missed_until = null, updated_at = clock_timestamp()
      where id = ${endpointId} and date_trunc('milliseconds', missed_until) <= ${toTimestamptz(createdBefore)}
        and greatest(missed_since, ${reach}) >= ${toTimestamptz(createdAfter)}`);
  }
  await endReplay(tx, id, "completed");
}

/** By the current subscriptions, which may have changed since the replay started. */
const subscribedTypes = ({ eventTypes: some }: ReplayRow, endpoint: EndpointRow) =>
  eventTypes.filter((type) => matchesAny(endpoint.eventTypes, type) && (some === null || matchesAny(some, type)));

const toTimestamptz = (date: Date) => sql`${date.toISOString()}::text::timestamptz`;
