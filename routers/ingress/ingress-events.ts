import { and, asc, desc, eq, getTableColumns, gt, gte, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueueFor, type JobPayload } from "../../db/queue.ts";
import { ingressEvents } from "../../db/schema/platform.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { withoutSecrets } from "./mask-body.ts";
import type { IngressRef } from "./messages.ts";
import type { IngressDetail, IngressMessage, ListIngress, ReprocessIngress, Reprocessing } from "./schema.ts";
import { type IngressProvider, type IngressRow, ingressStatuses } from "./service.ts";

const { body: _, headers: __, ...shown } = getTableColumns(ingressEvents);
/** The database's text of it: a Date drops the microseconds that are needed to find the row again. */
const receivedAt = sql<string>`${ingressEvents.receivedAt}::text`;
const maxCount = 100_000;
const batchSize = 200;

/** Newest first, without bodies. */
export async function listIngress(tx: Tx, { limit, cursor, ...filters }: ListIngress, key: ListKey) {
  const before = readCursor(key, cursor);
  const { provider, status, eventType, account, clientId, subjectId, createdAfter, createdBefore } = filters;
  const rows = await tx
    .select(shown)
    .from(ingressEvents)
    .where(
      and(
        before === null ? undefined : lt(ingressEvents.id, before),
        provider && eq(ingressEvents.provider, provider),
        status && eq(ingressEvents.status, status),
        eventType === undefined ? undefined : eq(ingressEvents.eventType, eventType),
        account ? eq(ingressEvents.providerAccountId, account) : undefined,
        clientId ? eq(ingressEvents.clientId, clientId) : undefined,
        subjectId ? eq(ingressEvents.subjectId, subjectId) : undefined,
        ...isInRange(createdAfter, createdBefore),
      ),
    )
    .orderBy(desc(ingressEvents.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toMessage), limit, ({ id }) => id);
}

export async function getIngress(tx: Tx, id: string): Promise<IngressDetail> {
  const [row] = await tx.select().from(ingressEvents).where(eq(ingressEvents.id, id));
  if (!row) throw notFound(id);
  return { ...toMessage(row), headers: row.headers, body: withoutSecrets(row.body).toString("utf8") };
}

/** Queues one message to be applied again. A message that was already applied changes nothing: calls only move forward. */
export async function reprocessOne(tx: Tx, id: string): Promise<IngressMessage> {
  const [row] = await tx
    .update(ingressEvents)
    .set({ status: "received" })
    .where(eq(ingressEvents.id, id))
    .returning({ ...shown, receivedAtText: receivedAt });
  if (!row) throw notFound(id);
  await enqueueFor(tx, null, "ingress.apply", { ingressId: id, receivedAt: row.receivedAtText });
  return toMessage(row);
}

/** Queues all matching messages to be applied again. A job works through them in batches. */
export async function reprocessMany(tx: Tx, input: ReprocessIngress): Promise<Reprocessing> {
  const { provider = null, eventType = null, statuses } = input;
  const createdAfter = toIso(new Date(input.createdAfter));
  const createdBefore = toIso(input.createdBefore ? new Date(input.createdBefore) : new Date());
  if (createdAfter >= createdBefore)
    throw ApiError.invalid("createdAfter", "This must be before `createdBefore` and before now.");
  const filter = { provider, eventType, statuses, createdAfter, createdBefore };
  const some = tx.select({ id: ingressEvents.id }).from(ingressEvents).where(matchesFilter(filter)).limit(maxCount);
  const [counted] = await tx.select({ found: sql<number>`count(*)::int` }).from(some.as("some"));
  await queueNext(tx, { ...filter, after: null });
  return { ...filter, found: counted!.found };
}

/** Queues the next batch, and the job for the batch after it in the same commit. Returns the size of the batch. */
export async function reprocessBatch(tx: Tx, payload: JobPayload<"ingress.reprocess">): Promise<number> {
  const { after, ...filter } = payload;
  const batch = await tx
    .select({ id: ingressEvents.id, receivedAt, bytes: sql<number>`octet_length(${ingressEvents.body})` })
    .from(ingressEvents)
    .where(and(matchesFilter(filter), after === null ? undefined : gt(ingressEvents.id, after)))
    .orderBy(asc(ingressEvents.id))
    .limit(batchSize);
  const last = batch.at(-1);
  if (!last) return 0;
  await tx
    .update(ingressEvents)
    .set({ status: "received" })
    .where(
      and(
        inArray(
          ingressEvents.id,
          batch.map(({ id }) => id),
        ),
        ...isInRange(filter.createdAfter, filter.createdBefore),
      ),
    );
  for (const messages of inLots(batch)) await enqueueFor(tx, null, "ingress.applyBatch", { messages });
  if (batch.length === batchSize) await queueNext(tx, { ...payload, after: last.id });
  return batch.length;
}

const [lotSize, lotBytes] = [50, 5_000_000];

/** The messages of one job are in memory together. A lot has at least one, however large. */
function inLots(batch: readonly { id: string; receivedAt: string; bytes: number }[]): IngressRef[][] {
  const lots: IngressRef[][] = [];
  let left = 0;
  for (const { id: ingressId, receivedAt, bytes } of batch) {
    const last = lots.at(-1);
    const isFull = !last || last.length >= lotSize || bytes > left;
    if (isFull) lots.push([{ ingressId, receivedAt }]);
    else last.push({ ingressId, receivedAt });
    left = (isFull ? lotBytes : left) - bytes;
  }
  return lots;
}

/** The key prevents a second successor when a batch runs twice. */
const queueNext = (tx: Tx, payload: JobPayload<"ingress.reprocess">) =>
  enqueueFor(tx, null, "ingress.reprocess", payload, { key: JSON.stringify(payload) });

type Filter = Omit<JobPayload<"ingress.reprocess">, "after">;

function matchesFilter({ provider, eventType, statuses, createdAfter, createdBefore }: Filter): SQL | undefined {
  const known = ingressStatuses.filter((status) => statuses.includes(status));
  return and(
    provider === null ? undefined : eq(ingressEvents.provider, provider),
    eventType === null ? undefined : eq(ingressEvents.eventType, eventType),
    inArray(ingressEvents.status, known),
    ...isInRange(createdAfter, createdBefore),
  );
}

const isInRange = (start: string | undefined, end: string | undefined) => [
  start === undefined ? undefined : gte(ingressEvents.receivedAt, new Date(start)),
  end === undefined ? undefined : lt(ingressEvents.receivedAt, new Date(end)),
];

const notFound = (id: string) =>
  new ApiError("ingress_event_not_found", `There is no provider message ${id}. Messages are kept for three months.`);

function toMessage(row: Omit<IngressRow, "body" | "headers">): IngressMessage {
  return {
    id: row.id,
    provider: row.provider as IngressProvider, // only `storeReceived` writes this column
    account: row.providerAccountId,
    key: row.key,
    eventType: row.eventType,
    status: row.status,
    stale: row.stale,
    note: row.note,
    attempts: row.attempts,
    verifiedBy: row.verifiedBy,
    clientId: row.clientId,
    subjectId: row.subjectId,
    receivedAt: toIso(row.receivedAt),
    appliedAt: toIsoOrNull(row.appliedAt),
  };
}
