import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueueFor } from "../../db/queue.ts";
import { assignedNumbers, inboundRoutes } from "../../db/schema/telephony.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { existingClient } from "../core/resolve-client.ts";
import { platformAccount } from "../credentials/accounts.ts";
import type {
  AdminRoute,
  AssignedNumber,
  AssignNumber,
  ListAllRoutes,
  ListNumbers,
  ReassignNumber,
} from "./numbers-schema.ts";
import { normalised, overlap } from "./pattern.ts";
import { toRoute } from "./service.ts";

/** What an operator does with the numbers of the shared account. All of it in a system transaction. */

type Row = typeof assignedNumbers.$inferSelect;
const notFound = (id: string) => new ApiError("number_not_found", `There is no assigned number ${id}.`);

export async function assignNumber(tx: Tx, input: AssignNumber, assignedBy: string): Promise<AssignedNumber> {
  await existingClient(tx, input.clientId);
  const pattern = normalised(input.pattern);
  await lockAccount(tx);
  await refuseTaken(tx, { ...input, pattern });
  const [row] = await tx
    .insert(assignedNumbers)
    .values({ ...input, id: newId("number"), pattern, providerAccountId: platformAccount, assignedBy })
    .returning();
  await tellProvider(tx, input.clientId);
  return onTheWire(row!);
}

/** Gives it to another client: from the next moment on the routes of the first answer it no more. */
export async function reassignNumber(
  tx: Tx,
  { id, ...changes }: ReassignNumber,
  assignedBy: string,
): Promise<AssignedNumber> {
  await lockAccount(tx);
  const [old] = await tx.select().from(assignedNumbers).where(eq(assignedNumbers.id, id));
  if (!old) throw notFound(id);
  const clientId = changes.clientId ?? old.clientId;
  await existingClient(tx, clientId);
  await refuseTaken(tx, { clientId, pattern: old.pattern, ownId: id });
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const [row] = await tx
    .update(assignedNumbers)
    .set({ ...given, assignedBy })
    .where(eq(assignedNumbers.id, id))
    .returning();
  await tellProvider(tx, clientId);
  return onTheWire(row!);
}

export async function releaseNumber(tx: Tx, id: string) {
  await lockAccount(tx);
  const [row] = await tx.delete(assignedNumbers).where(eq(assignedNumbers.id, id)).returning();
  if (!row) throw notFound(id);
  await tellProvider(tx, row.clientId);
}

export async function listNumbers(tx: Tx, { limit, cursor, clientId, pattern }: ListNumbers, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(assignedNumbers)
    .where(
      and(
        before === null ? undefined : lt(assignedNumbers.id, before),
        clientId ? eq(assignedNumbers.clientId, clientId) : undefined,
        pattern ? sql`starts_with(${assignedNumbers.pattern}, ${pattern})` : undefined,
      ),
    )
    .orderBy(desc(assignedNumbers.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/** The routes of the shared account, whoever's: those that wait are what clients ask for. */
export async function listAllRoutes(tx: Tx, { limit, cursor, clientId, status }: ListAllRoutes, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(inboundRoutes)
    .where(
      and(
        eq(inboundRoutes.providerAccountId, platformAccount),
        before === null ? undefined : lt(inboundRoutes.id, before),
        clientId ? eq(inboundRoutes.clientId, clientId) : undefined,
        status ? eq(inboundRoutes.status, status) : undefined,
      ),
    )
    .orderBy(desc(inboundRoutes.id))
    .limit(limit + 1);
  const shown = rows.map((row): AdminRoute => ({ clientId: row.clientId, ...toRoute(row) }));
  return toPage(key, shown, limit, ({ id }) => id);
}

/** The client's own, for the overview. In the client's transaction. */
export async function ownNumbers(tx: Tx): Promise<{ pattern: string; maxRoutes: number }[]> {
  const { pattern, maxRoutes } = assignedNumbers;
  return tx.select({ pattern, maxRoutes }).from(assignedNumbers).orderBy(desc(assignedNumbers.id)).limit(100);
}

/** One at a time: two that fit the same must see each other. */
async function lockAccount(tx: Tx) {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`telephony.numbers:${platformAccount}`}, 0))`);
}

/** Between clients nothing fits the same; within one, the same pattern stands once. */
async function refuseTaken(tx: Tx, wanted: { clientId: string; pattern: string; ownId?: string }) {
  const others = await tx
    .select()
    .from(assignedNumbers)
    .where(
      and(
        eq(assignedNumbers.providerAccountId, platformAccount),
        wanted.ownId ? ne(assignedNumbers.id, wanted.ownId) : undefined,
      ),
    );
  const details = others
    .filter(({ clientId, pattern }) =>
      clientId === wanted.clientId ? pattern === wanted.pattern : overlap(pattern, wanted.pattern),
    )
    .slice(0, 20)
    .map(({ id, clientId, pattern }) => ({
      path: "pattern",
      message: `${id}: ${pattern} is assigned to ${clientId}.`,
    }));
  if (details.length === 0) return;
  throw new ApiError("number_taken", `${wanted.pattern} fits what is assigned already. Release that first.`, {
    details,
  });
}

const tellProvider = (tx: Tx, clientId: string) =>
  enqueueFor(tx, clientId, "telephony.sync", { accountId: platformAccount }, { key: platformAccount, delaySeconds: 1 });

function onTheWire({ providerAccountId: _, createdAt, ...row }: Row): AssignedNumber {
  return { ...row, createdAt: toIso(createdAt) };
}
