import { and, count, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { enqueue } from "../../../db/queue.ts";
import { deliveries, webhookReplays } from "../../../db/schema/events.ts";
import { dbNow } from "../../../db/time.ts";
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
 * Margins of the missed range. An event created shortly before the endpoint was disabled may have been fanned out after it,
 * and the recorded time of enabling is earlier than its commit. Events that were queued anyway are not queued twice.
 */
const beforeMs = 15 * 60_000;
const afterMs = 60_000;

const notFound = (id: string) => new ApiError("replay_not_found", `There is no replay ${id}.`);

/** Starts to send events or deliveries again. A job does the work in batches. One replay per endpoint at a time. */
export async function startReplay(tx: Tx, input: StartReplay): Promise<Replay> {
  const endpoint = await lockEndpoint(tx, input.id);
  if (endpoint.status === "disabled") throw new ApiError("webhook_disabled");
  await refuseSecondReplay(tx, endpoint.id);
  const { which, eventTypes = null } = input;
  const range = rangeOf(input, endpoint, await readDbTime(tx));
  const [made] = await tx
    .insert(webhookReplays)
    .values({ id: newId("replay"), endpointId: endpoint.id, which, eventTypes, ...range })
    .returning();
  await enqueue(tx, "webhooks.replay", { replayId: made!.id }, { key: made!.id });
  return toReplay(made!, noProgress);
}

async function refuseSecondReplay(tx: Tx, endpointId: string) {
  const running = and(eq(webhookReplays.endpointId, endpointId), eq(webhookReplays.status, "running"));
  const [other] = await tx.select().from(webhookReplays).where(running);
  if (!other) return;
  const detail = { path: "replays", id: other.id, message: `The replay ${other.id} is running.` };
  throw new ApiError("replay_running", undefined, { details: [detail] });
}

/** The database's clock, because it also set the times when the endpoint was disabled and enabled. */
async function readDbTime(tx: Tx): Promise<Date> {
  const [row] = await tx.execute<{ now: string }>(sql`select clock_timestamp()::text as now`);
  return new Date(row!.now);
}

/** Ends now at the latest: events created while the endpoint is enabled are queued by their own job. */
function rangeOf({ which, createdAfter, createdBefore }: StartReplay, endpoint: EndpointRow, dbTime: Date) {
  const requestedEnd = createdBefore === undefined ? defaultEnd(which, endpoint) : new Date(createdBefore);
  const end = requestedEnd && requestedEnd < dbTime ? requestedEnd : dbTime;
  const start = createdAfter === undefined ? defaultStart(which, endpoint, end) : new Date(createdAfter);
  if (start === null) throw ApiError.invalid("createdAfter", startRequired[which === "all" ? "all" : "missed"]);
  if (start >= end) throw ApiError.invalid("createdAfter", "This must be before `createdBefore` and before now.");
  if (end.getTime() - start.getTime() > longestDays * dayMs)
    throw ApiError.invalid(
      "createdAfter",
      `A replay covers ${longestDays} days at most. Start another replay for the rest.`,
    );
  return { createdAfter: start, createdBefore: end };
}

const startRequired = {
  all: "This is required with `all`, which also sends events that were delivered.",
  missed: "This is required: the endpoint has missed no events.",
};

function defaultEnd(which: StartReplay["which"], { missedUntil }: EndpointRow): Date | null {
  return which === "missed" && missedUntil ? new Date(missedUntil.getTime() + afterMs) : null;
}

function defaultStart(which: StartReplay["which"], { missedSince, createdAt }: EndpointRow, end: Date): Date | null {
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

/** Stops queueing. Deliveries that are already queued are still sent. */
export async function cancelReplay(tx: Tx, id: string): Promise<Replay> {
  const [found] = await tx.select().from(webhookReplays).where(eq(webhookReplays.id, id)).for("update");
  if (!found) throw notFound(id);
  if (found.status !== "running") throw new ApiError("replay_finished");
  await endReplay(tx, id, "cancelled");
  return getReplay(tx, id);
}

export async function endReplay(tx: Tx, id: string, status: "completed" | "cancelled") {
  await tx
    .update(webhookReplays)
    .set({ status, updatedAt: dbNow(), finishedAt: dbNow() })
    .where(eq(webhookReplays.id, id));
}

const noProgress: Replay["progress"] = { delivered: 0, dead: 0, pending: 0 };

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
    return toReplay(row, { ...noProgress, ...Object.fromEntries(own) });
  });
}

function toReplay(row: ReplayRow, progress: Replay["progress"]): Replay {
  return {
    id: row.id,
    endpointId: row.endpointId,
    which: row.which,
    createdAfter: toIso(row.createdAfter),
    createdBefore: toIso(row.createdBefore),
    eventTypes: row.eventTypes,
    status: row.status,
    queued: row.queued,
    progress,
    createdAt: toIso(row.createdAt),
    finishedAt: toIsoOrNull(row.finishedAt),
  };
}
