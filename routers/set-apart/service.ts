import { and, asc, count, eq, gt, inArray, max, min, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { setApart } from "../../db/schema/platform.ts";
import { storable } from "../../db/text.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import type { ListSetApart, SetApartRow } from "./schema.ts";

/** A row as its loop names it, and the client that it belongs to, if it belongs to one. */
export type Subject = { id: string; clientId: string | null };

/** Excludes a row from its loop until an operator retries it. False: it was already set apart. */
export async function keepApart(tx: Tx, loop: string, { id, clientId }: Subject, reason: string): Promise<boolean> {
  const made = await tx
    .insert(setApart)
    .values({ id: newId("setApart"), loop, subject: id, clientId, reason: storable(reason.slice(0, 500)) })
    .onConflictDoNothing()
    .returning({ id: setApart.id });
  return made.length > 0;
}

/** For the query of a loop: whether the row of this subject is set apart. */
export const isSetApart = (loop: string, subject: ReturnType<typeof sql>) =>
  sql`exists (select from set_apart s where s.loop = ${loop} and s.subject = ${subject})`;

/** The subjects that a loop skips. `clientId` null: of all clients. */
export async function listSetApartSubjects(tx: Tx, loop: string, clientId: string | null): Promise<string[]> {
  const isOwn = clientId === null ? undefined : eq(setApart.clientId, clientId);
  const rows = await tx
    .select({ subject: setApart.subject })
    .from(setApart)
    .where(and(eq(setApart.loop, loop), isOwn));
  return rows.map(({ subject }) => subject);
}

/** Ends the exclusion of rows that the loop could process again. */
export async function clearSetApart(tx: Tx, loop: string, subjects: readonly string[]) {
  if (subjects.length === 0) return;
  await tx.delete(setApart).where(and(eq(setApart.loop, loop), inArray(setApart.subject, [...subjects])));
}

/** By loop: the number of rows that are set apart, and the times of the first and the last. */
export async function countSetApart(tx: Tx) {
  const { loop, createdAt } = setApart;
  const rows = await tx
    .select({ loop, rows: count(), first: min(createdAt), last: max(createdAt) })
    .from(setApart)
    .groupBy(loop)
    .orderBy(loop);
  return rows.map(({ first, last, ...row }) => ({ ...row, first: first!, last: last! }));
}

/** Oldest first. */
export async function listSetApart(tx: Tx, { limit, cursor, loop }: ListSetApart, key: ListKey) {
  const after = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(setApart)
    .where(
      and(
        after === null ? undefined : gt(setApart.id, after),
        loop === undefined ? undefined : eq(setApart.loop, loop),
      ),
    )
    .orderBy(asc(setApart.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toSetApartRow), limit, ({ id }) => id);
}

/** The next run of its loop processes the row. If it fails again, it is set apart again with a new id. */
export async function retrySetApart(tx: Tx, id: string): Promise<SetApartRow> {
  const [removed] = await tx.delete(setApart).where(eq(setApart.id, id)).returning();
  if (!removed) throw new ApiError("set_apart_not_found", `There is no row set apart with the id ${id}.`);
  return toSetApartRow(removed);
}

/** Retries all rows of one loop, or of all loops (null). Returns how many. */
export async function retryAllSetApart(tx: Tx, loop: string | null): Promise<number> {
  const removed = await tx
    .delete(setApart)
    .where(loop === null ? undefined : eq(setApart.loop, loop))
    .returning({ id: setApart.id });
  return removed.length;
}

function toSetApartRow({ id, loop, subject, clientId, reason, createdAt }: typeof setApart.$inferSelect): SetApartRow {
  return { id, loop, subject, clientId, reason, createdAt: toIso(createdAt) };
}
