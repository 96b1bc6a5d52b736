import { and, asc, desc, eq, getTableColumns, gt, gte, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueueFor, type JobPayload } from "../../db/queue.ts";
import { ingressEvents } from "../../db/schema/platform.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { withoutSecrets } from "./mask-body.ts";
import type { IngressDetail, IngressMessage, ListIngress, ReprocessIngress, Reprocessing } from "./schema.ts";
import { type IngressProvider, type IngressRow, ingressStatuses } from "./service.ts";

const { body: _, headers: __, ...shown } = getTableColumns(ingressEvents);
/** The database's own text of it: a JS Date drops the microseconds by which the row is found again. */
const receivedAt = sql<string>`${ingressEvents.receivedAt}::text`;
const countedUpTo = 100_000;
const pieceOf = 200;

/** The newest first. Without their bodies. */
export async function listIngress(tx: Tx, { limit, cursor, ...filters }: ListIngress, key: ListKey) {
  const before = readCursor(key, cursor);
  const { provider, status, eventType, account, clientId, subjectId, since, until } = filters;
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
        ...within(since, until),
      ),
    )
    .orderBy(desc(ingressEvents.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

export async function getIngress(tx: Tx, id: string): Promise<IngressDetail> {
  const [row] = await tx.select().from(ingressEvents).where(eq(ingressEvents.id, id));
  if (!row) throw notFound(id);
  return { ...onTheWire(row), headers: row.headers, body: withoutSecrets(row.body).toString("utf8") };
}

/** Has one message applied once more. One that was applied before changes nothing: calls only ever move forward. */
export async function reprocessOne(tx: Tx, id: string): Promise<IngressMessage> {
  const [row] = await tx
    .update(ingressEvents)
    .set({ status: "received" })
    .where(eq(ingressEvents.id, id))
    .returning({ ...shown, receivedAtText: receivedAt });
  if (!row) throw notFound(id);
  await queueApply(tx, id, row.receivedAtText);
  return onTheWire(row);
}

/** Has all that the filter finds applied once more. A job walks through them. */
export async function reprocessMany(tx: Tx, input: ReprocessIngress): Promise<Reprocessing> {
  const { provider = null, eventType = null, statuses } = input;
  const since = toIso(new Date(input.since));
  const until = toIso(input.until ? new Date(input.until) : new Date());
  if (since >= until) {
    const message = "Nothing lies between `since` and `until`.";
    throw new ApiError("input_invalid", `since: ${message}`, { details: [{ path: "since", message }] });
  }
  const filter = { provider, eventType, statuses, since, until };
  const some = tx.select({ id: ingressEvents.id }).from(ingressEvents).where(matching(filter)).limit(countedUpTo);
  const [counted] = await tx.select({ found: sql<number>`count(*)::int` }).from(some.as("some"));
  await queueNext(tx, { ...filter, after: null });
  return { ...filter, found: counted!.found };
}

/** The next piece of a reprocessing; queues the piece after it in the same commit. Answers how many there were. */
export async function reprocessBatch(tx: Tx, payload: JobPayload<"ingress.reprocess">): Promise<number> {
  const { after, ...filter } = payload;
  const piece = await tx
    .select({ id: ingressEvents.id, receivedAt })
    .from(ingressEvents)
    .where(and(matching(filter), after === null ? undefined : gt(ingressEvents.id, after)))
    .orderBy(asc(ingressEvents.id))
    .limit(pieceOf);
  const last = piece.at(-1);
  if (!last) return 0;
  await tx
    .update(ingressEvents)
    .set({ status: "received" })
    .where(
      and(
        inArray(
          ingressEvents.id,
          piece.map(({ id }) => id),
        ),
        ...within(filter.since, filter.until),
      ),
    );
  for (const { id, receivedAt } of piece) await queueApply(tx, id, receivedAt);
  if (piece.length === pieceOf) await queueNext(tx, { ...payload, after: last.id });
  return piece.length;
}

const queueApply = (tx: Tx, ingressId: string, receivedAt: string) =>
  enqueueFor(tx, null, "ingress.apply", { ingressId, receivedAt });

/** A piece that is run twice queues its successor once. */
const queueNext = (tx: Tx, payload: JobPayload<"ingress.reprocess">) =>
  enqueueFor(tx, null, "ingress.reprocess", payload, { key: JSON.stringify(payload) });

type Filter = Omit<JobPayload<"ingress.reprocess">, "after">;

function matching({ provider, eventType, statuses, since, until }: Filter): SQL | undefined {
  const known = ingressStatuses.filter((status) => statuses.includes(status));
  return and(
    provider === null ? undefined : eq(ingressEvents.provider, provider),
    eventType === null ? undefined : eq(ingressEvents.eventType, eventType),
    inArray(ingressEvents.status, known),
    ...within(since, until),
  );
}

function within(since: string | undefined, until: string | undefined): SQL[] {
  return [
    ...(since === undefined ? [] : [gte(ingressEvents.receivedAt, new Date(since))]),
    ...(until === undefined ? [] : [lt(ingressEvents.receivedAt, new Date(until))]),
  ];
}

const notFound = (id: string) =>
  new ApiError("ingress_event_not_found", `There is no message ${id}. Messages are kept for three months.`);

function onTheWire(row: Omit<IngressRow, "body" | "headers">): IngressMessage {
  return {
    id: row.id,
    provider: row.provider as IngressProvider, // written by `storeReceived` alone
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
