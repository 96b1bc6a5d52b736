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
import { normalizePattern, overlap } from "./pattern.ts";
import { toRoute } from "./service.ts";

/** Operator commands for the numbers of the shared account. `tx` is a system transaction. */

type Row = typeof assignedNumbers.$inferSelect;
const notFound = (id: string) => new ApiError("number_not_found", `There is no assigned number ${id}.`);

export async function assignNumber(tx: Tx, input: AssignNumber, assignedBy: string): Promise<AssignedNumber> {
  await existingClient(tx, input.clientId);
  const pattern = normalizePattern(input.pattern);
  await lockAccount(tx);
  await refuseOverlap(tx, { ...input, pattern });
  const [row] = await tx
    .insert(assignedNumbers)
    .values({ ...input, id: newId("number"), pattern, providerAccountId: platformAccount, assignedBy })
    .returning();
  await enqueueSync(tx, input.clientId);
  return toAssignedNumber(row!);
}

/** Changes an assignment. With a new client, routes of the previous client stop answering immediately. */
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
  await refuseOverlap(tx, { clientId, pattern: old.pattern, ownId: id });
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const [row] = await tx
    .update(assignedNumbers)
    .set({ ...set, assignedBy })
    .where(eq(assignedNumbers.id, id))
    .returning();
  await enqueueSync(tx, clientId);
  return toAssignedNumber(row!);
}

export async function releaseNumber(tx: Tx, id: string) {
  await lockAccount(tx);
  const [row] = await tx.delete(assignedNumbers).where(eq(assignedNumbers.id, id)).returning();
  if (!row) throw notFound(id);
  await enqueueSync(tx, row.clientId);
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
  return toPage(key, rows.map(toAssignedNumber), limit, ({ id }) => id);
}

/** The routes of the shared account, of all clients. A waiting route is a request for a number. */
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
  const items = rows.map((row): AdminRoute => ({ clientId: row.clientId, ...toRoute(row) }));
  return toPage(key, items, limit, ({ id }) => id);
}

/** The client's numbers, for the configuration. `tx` is the client's transaction. */
export async function ownNumbers(tx: Tx): Promise<{ pattern: string; maxRoutes: number }[]> {
  const { pattern, maxRoutes } = assignedNumbers;
  return tx.select({ pattern, maxRoutes }).from(assignedNumbers).orderBy(desc(assignedNumbers.id)).limit(100);
}

/** Serialises assignments, so that two overlapping ones see each other. */
async function lockAccount(tx: Tx) {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`telephony.numbers:${platformAccount}`}, 0))`);
}

/** Patterns of different clients must not overlap; within a client, a pattern is unique. */
async function refuseOverlap(tx: Tx, assignment: { clientId: string; pattern: string; ownId?: string }) {
  const others = await tx
    .select()
    .from(assignedNumbers)
    .where(
      and(
        eq(assignedNumbers.providerAccountId, platformAccount),
        assignment.ownId ? ne(assignedNumbers.id, assignment.ownId) : undefined,
      ),
    );
  const details = others
    .filter(({ clientId, pattern }) =>
      clientId === assignment.clientId ? pattern === assignment.pattern : overlap(pattern, assignment.pattern),
    )
    .slice(0, 20)
    .map(({ id, clientId, pattern }) => ({
      path: "number",
      id,
      name: pattern,
      message: `${pattern} is assigned to ${clientId}.`,
    }));
  if (details.length === 0) return;
  throw new ApiError(
    "number_taken",
    `${assignment.pattern} overlaps with an assigned number. Release that number first.`,
    {
      details,
    },
  );
}

const enqueueSync = (tx: Tx, clientId: string) =>
  enqueueFor(tx, clientId, "telephony.sync", { accountId: platformAccount }, { key: platformAccount, delaySeconds: 1 });

function toAssignedNumber({ providerAccountId: _, createdAt, ...row }: Row): AssignedNumber {
  return { ...row, createdAt: toIso(createdAt) };
}
