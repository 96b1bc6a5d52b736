import { and, desc, eq, isNull, lt, lte, ne, or, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { prices } from "../../db/schema/billing.ts";
import { clients } from "../../db/schema/clients.ts";
import { dbNow } from "../../db/time.ts";
import type { Client } from "../clients/schema.ts";
import { toClient } from "../clients/service.ts";
import { platformClientId } from "../core/authorize.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { enqueueSyncOfClient } from "../telephony/service.ts";
import type { CreateClient, ListClients, ListPrices, Price, SetPrice, SuspendClient } from "./schema.ts";

const notFound = (id: string) => new ApiError("client_not_found", `There is no client ${id}.`);
/** Excludes the operator's own client, which cannot be suspended or given prices. */
const isClient = (id: string) => and(eq(clients.id, id), ne(clients.id, platformClientId));

export async function createClient(tx: Tx, input: Omit<CreateClient, "ownerEmail">): Promise<Client> {
  const [row] = await tx
    .insert(clients)
    .values({ id: newId("client"), ...input })
    .returning();
  return toClient(row!);
}

export async function getClient(tx: Tx, id: string): Promise<Client> {
  const [row] = await tx.select().from(clients).where(isClient(id));
  if (!row) throw notFound(id);
  return toClient(row);
}

export async function listClients(tx: Tx, { limit, cursor, status, search }: ListClients, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(clients)
    .where(
      and(
        ne(clients.id, platformClientId),
        before === null ? undefined : lt(clients.id, before),
        status && eq(clients.status, status),
        search ? sql`position(lower(${search}) in lower(${clients.name})) > 0` : undefined,
      ),
    )
    .orderBy(desc(clients.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toClient), limit, ({ id }) => id);
}

/** From the commit on, keys and tokens of the client are rejected, queued work waits, and its phone numbers do not answer. */
export async function suspendClient(tx: Tx, { id, reason }: SuspendClient): Promise<Client> {
  const [row] = await tx
    .update(clients)
    .set({ status: "suspended", suspendedReason: reason, suspendedAt: dbNow(), updatedAt: dbNow() })
    .where(isClient(id))
    .returning();
  if (!row) throw notFound(id);
  await enqueueSyncOfClient(tx, id);
  return toClient(row);
}

export async function resumeClient(tx: Tx, id: string): Promise<Client> {
  const [row] = await tx
    .update(clients)
    .set({ status: "active", suspendedReason: null, suspendedAt: null, updatedAt: dbNow() })
    .where(isClient(id))
    .returning();
  if (!row) throw notFound(id);
  await enqueueSyncOfClient(tx, id);
  return toClient(row);
}

/** The client's own prices, newest first. The active price has the latest `effectiveFrom` in the past. */
export async function listPrices(tx: Tx, { id, limit, cursor }: ListPrices, key: ListKey) {
  await getClient(tx, id);
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(prices)
    .where(and(eq(prices.clientId, id), before === null ? undefined : lt(prices.id, before)))
    .orderBy(desc(prices.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toPrice), limit, (row) => row.id);
}

/** Omitted fields keep their current value. Calls that have started keep their price. */
export async function setPrice(tx: Tx, { id, effectiveFrom, ...changes }: SetPrice): Promise<Price> {
  await getClient(tx, id);
  if (effectiveFrom && new Date(effectiveFrom) < new Date()) {
    throw ApiError.invalid("effectiveFrom", "This time is in the past. Past charges cannot change.");
  }
  const { creditUsdMicros, callMicrosPerMinute, telephoneMicrosPerMinute, voiceCloneMicros, roundingSeconds } =
    await currentPrice(tx, id);
  const current = { creditUsdMicros, callMicrosPerMinute, telephoneMicrosPerMinute, voiceCloneMicros, roundingSeconds };
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  return addPrice(tx, {
    ...current,
    ...given,
    clientId: id,
    effectiveFrom: effectiveFrom ? new Date(effectiveFrom) : dbNow(),
  });
}

/** From now on the client has the default prices again. */
export async function removePrices(tx: Tx, id: string) {
  await getClient(tx, id);
  const { id: _, createdAt: __, ...current } = await currentPrice(tx, id);
  await addPrice(tx, { ...current, clientId: id, inherits: true, effectiveFrom: dbNow() });
}

type NewPrice = Omit<typeof prices.$inferInsert, "id" | "effectiveFrom"> & { effectiveFrom: Date | SQL<Date> };

async function addPrice(tx: Tx, row: NewPrice): Promise<Price> {
  const [written] = await tx
    .insert(prices)
    .values({ id: newId("price"), ...row })
    .returning();
  return toPrice(written!);
}

/** Needs a system transaction: tenant isolation hides other clients' prices. */
async function currentPrice(tx: Tx, clientId: string) {
  const rows = await tx
    .select()
    .from(prices)
    .where(and(lte(prices.effectiveFrom, dbNow()), or(isNull(prices.clientId), eq(prices.clientId, clientId))))
    .orderBy(desc(prices.effectiveFrom), desc(prices.id));
  const own = rows.find((row) => row.clientId === clientId);
  const standard = rows.find((row) => row.clientId === null);
  if (!standard) throw new Error("The table of prices has no default price.");
  return own && !own.inherits ? own : standard;
}

function toPrice({ effectiveFrom, createdAt, ...row }: typeof prices.$inferSelect): Price {
  return { ...row, effectiveFrom: toIso(effectiveFrom), createdAt: toIso(createdAt) };
}
