import { and, count, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { enqueue } from "../../../db/queue.ts";
import { deliveries, webhookReplays } from "../../../db/schema/events.ts";
import { ApiError } from "../../core/errors.ts";
import { toIso, toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { type EndpointRow, findEndpoint, lockEndpoint } from "../endpoints/service.ts";
import type { ListReplays, Replay, StartReplay } from "./schema.ts";

type ReplayRow = typeof webhookReplays.$inferSelect;

const dayMs = 86_400_000;
const deadForDays = 30;
const longestDays = 90;

/**
 * What is missed begins a little before the endpoint was switched off, and ends a little after it was switched on: an
 * event of just before may have been fanned out just after, and the instant of switching on is earlier than its commit.
 * What was queued all the same is not queued twice.
 */
const beforeMs = 15 * 60_000;
const afterMs = 60_000;

const notFound = (id: string) => new ApiError("replay_not_found", `There is no replay ${id}.`);

/** Begins to send events or deliveries once more; a job takes them piece by piece. One at a time per endpoint. */
export async function startReplay(tx: Tx, input: StartReplay): Promise<Replay> {
  const endpoint = await lockEndpoint(tx, input.id);
  if (endpoint.status === "disabled") throw new ApiError("webhook_disabled");
  await refuseSecond(tx, endpoint.id);
  const { which, eventTypes = null } = input;
  const range = rangeOf(input, endpoint, await clockOf(tx));
  const [made] = await tx
    .insert(webhookReplays)
    .values({ id: newId("replay"), endpointId: endpoint.id, which, eventTypes, ...range })
    .returning();
  await enqueue(tx, "webhooks.replay", { replayId: made!.id }, { key: made!.id });
  return onTheWire(made!, nothing);
}

async function refuseSecond(tx: Tx, endpointId: string) {
  const running = and(eq(webhookReplays.endpointId, endpointId), eq(webhookReplays.status, "running"));
  const [other] = await tx.select().from(webhookReplays).where(running);
  if (!other) return;
  const message = `${other.id} is running.`;
  throw new ApiError("replay_running", undefined, { details: [{ path: "", message }] });
}

/** The database's: it has written since when and until when the endpoint was off. */
async function clockOf(tx: Tx): Promise<Date> {
  const [row] = await tx.execute<{ now: string }>(sql`select clock_timestamp()::text as now`);
  return new Date(row!.now);
}

/** Until now at most: what is stated while the endpoint is on, its own job queues. */
function rangeOf({ which, since, until }: StartReplay, endpoint: EndpointRow, now: Date) {
  const asked = until === undefined ? defaultUntil(which, endpoint) : new Date(until);
  const end = asked && asked < now ? asked : now;
  const begin = since === undefined ? defaultSince(which, endpoint, end) : new Date(since);
  if (begin === null) throw refused("since", sayWhen[which === "all" ? "all" : "missed"]);
  if (begin >= end) throw refused("since", "This is not before `until`, or not before now.");
  if (end.getTime() - begin.getTime() > longestDays * dayMs)
    throw refused("since", `A replay reaches over ${longestDays} days at most. Replay the rest after it.`);
  return { since: begin, until: end };
}

const sayWhen = {
  all: "Say since when: `all` takes what was delivered too.",
  missed: "Say since when: this endpoint has missed nothing by being switched off.",
};

function refused(path: string, message: string) {
  return new ApiError("input_invalid", `${path}: ${message}`, { details: [{ path, message }] });
}

function defaultUntil(which: StartReplay["which"], { missedUntil }: EndpointRow): Date | null {
  return which === "missed" && missedUntil ? new Date(missedUntil.getTime() + afterMs) : null;
}

function defaultSince(which: StartReplay["which"], { missedSince, createdAt }: EndpointRow, end: Date): Date | null {
  if (which === "dead") return new Date(end.getTime() - deadForDays * dayMs);
  if (which === "all" || missedSince === null) return null;
  const earliest = Math.max(createdAt.getTime(), end.getTime() - longestDays * dayMs);
  return new Date(Math.max(missedSince.getTime() - beforeMs, earliest));
}

export async function listReplays(tx: Tx, { id, limit, cursor }: ListReplays, key: ListKey) {
  const before = readCursor(key, cursor);
  await findEndpoint(tx, id);
  const rows = await tx
    .select()
    .from(webhookReplays)
    .where(and(eq(webhookReplays.endpointId, id), before === null ? undefined : lt(webhookReplays.id, before)))
    .orderBy(desc(webhookReplays.id))
    .limit(limit + 1);
  const page = toPage(key, rows, limit, (row) => row.id);
  return { ...page, items: await withProgress(tx, page.items) };
}

export async function getReplay(tx: Tx, id: string): Promise<Replay> {
  const rows = await tx.select().from(webhookReplays).where(eq(webhookReplays.id, id));
  const [found] = await withProgress(tx, rows);
  if (!found) throw notFound(id);
  return found;
}

/** Queues no more. What it has queued already goes its way. */
export async function cancelReplay(tx: Tx, id: string): Promise<Replay> {
  const [found] = await tx.select().from(webhookReplays).where(eq(webhookReplays.id, id)).for("update");
  if (!found) throw notFound(id);
  if (found.status !== "running") throw new ApiError("replay_finished");
  await endReplay(tx, id, "cancelled");
  return getReplay(tx, id);
}

export async function endReplay(tx: Tx, id: string, status: "completed" | "cancelled") {
  const now = sql`clock_timestamp()`;
  await tx.update(webhookReplays).set({ status, updatedAt: now, finishedAt: now }).where(eq(webhookReplays.id, id));
}

const nothing: Replay["progress"] = { delivered: 0, dead: 0, pending: 0 };

async function withProgress(tx: Tx, rows: ReplayRow[]): Promise<Replay[]> {
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  const counts = await tx
    .select({ replayId: deliveries.replayId, status: deliveries.status, n: count() })
    .from(deliveries)
    .where(inArray(deliveries.replayId, ids))
    .groupBy(deliveries.replayId, deliveries.status);
  return rows.map((row) => {
    const own = counts.filter(({ replayId }) => replayId === row.id).map(({ status, n }) => [status, n] as const);
    return onTheWire(row, { ...nothing, ...Object.fromEntries(own) });
  });
}

function onTheWire(row: ReplayRow, progress: Replay["progress"]): Replay {
  return {
    id: row.id,
    endpointId: row.endpointId,
    which: row.which,
    since: toIso(row.since),
    until: toIso(row.until),
    eventTypes: row.eventTypes,
    status: row.status,
    queued: row.queued,
    progress,
    createdAt: toIso(row.createdAt),
    finishedAt: toIsoOrNull(row.finishedAt),
  };
}
