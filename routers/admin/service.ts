import { and, desc, eq, isNull, lt, lte, ne, or, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { prices } from "../../db/schema/billing.ts";
import { clients } from "../../db/schema/clients.ts";
import type { Client } from "../clients/schema.ts";
import { toClient } from "../clients/service.ts";
import { platformClientId } from "../core/authorize.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { enqueueSyncOfClient } from "../telephony/service.ts";
import type { CreateClient, ListClients, ListPrices, Price, SetPrice, SuspendClient } from "./schema.ts";

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value
const notFound = (id: string) => new ApiError("client_not_found", `There is no client ${id}.`);
/** The operator's own is none that could be suspended, or be given prices. */
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

/**
 * From the commit on no key and no token of the client is let in; what waits in the queue goes on waiting, and his numbers
 * answer no more.
 */
export async function suspendClient(tx: Tx, { id, reason }: SuspendClient): Promise<Client> {
  const [row] = await tx
    .update(clients)
    .set({ status: "suspended", suspendedReason: reason, suspendedAt: now, updatedAt: now })
    .where(isClient(id))
    .returning();
  if (!row) throw notFound(id);
  await enqueueSyncOfClient(tx, id);
  return toClient(row);
}

export async function resumeClient(tx: Tx, id: string): Promise<Client> {
  const [row] = await tx
    .update(clients)
    .set({ status: "active", suspendedReason: null, suspendedAt: null, updatedAt: now })
    .where(isClient(id))
    .returning();
  if (!row) throw notFound(id);
  await enqueueSyncOfClient(tx, id);
  return toClient(row);
}

/** The client's own prices, newest first; the price in force is the newest whose time has come. */
export async function listPrices(tx: Tx, { id, limit, cursor }: ListPrices, key: ListKey) {
  await getClient(tx, id);
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(prices)
    .where(and(eq(prices.clientId, id), before === null ? undefined : lt(prices.id, before)))
    .orderBy(desc(prices.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, (row) => row.id);
}

/** What is left out is as it is now. What has begun keeps the price that it began with. */
export async function setPrice(tx: Tx, { id, effectiveFrom, ...changes }: SetPrice): Promise<Price> {
  await getClient(tx, id);
  if (effectiveFrom && new Date(effectiveFrom) < new Date()) {
    const message = "This lies in the past: what was charged stays charged.";
    throw new ApiError("input_invalid", `effectiveFrom: ${message}`, { details: [{ path: "effectiveFrom", message }] });
  }
  const { creditUsdMicros, callMicrosPerMinute, telephoneMicrosPerMinute, voiceCloneMicros, roundingSeconds } =
    await priceNow(tx, id);
  const present = { creditUsdMicros, callMicrosPerMinute, telephoneMicrosPerMinute, voiceCloneMicros, roundingSeconds };
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  return addPrice(tx, {
    ...present,
    ...given,
    clientId: id,
    effectiveFrom: effectiveFrom ? new Date(effectiveFrom) : now,
  });
}

/** From now on the price book holds for the client again. */
export async function dropPrices(tx: Tx, id: string) {
  await getClient(tx, id);
  const { id: _, createdAt: __, ...present } = await priceNow(tx, id);
  await addPrice(tx, { ...present, clientId: id, inherits: true, effectiveFrom: now });
}

async function addPrice(tx: Tx, row: Omit<typeof prices.$inferInsert, "id">): Promise<Price> {
  const [written] = await tx
    .insert(prices)
    .values({ id: newId("price"), ...row })
    .returning();
  return onTheWire(written!);
}

/** In a transaction of the house no wall hides the prices of others. */
async function priceNow(tx: Tx, clientId: string) {
  const rows = await tx
    .select()
    .from(prices)
    .where(and(lte(prices.effectiveFrom, now), or(isNull(prices.clientId), eq(prices.clientId, clientId))))
    .orderBy(desc(prices.effectiveFrom), desc(prices.id));
  const own = rows.find((row) => row.clientId === clientId);
  const book = rows.find((row) => row.clientId === null);
  if (!book) throw new Error("The price book is empty.");
  return own && !own.inherits ? own : book;
}

function onTheWire({ effectiveFrom, createdAt, ...row }: typeof prices.$inferSelect): Price {
  return { ...row, effectiveFrom: toIso(effectiveFrom), createdAt: toIso(createdAt) };
}
