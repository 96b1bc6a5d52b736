import { performance } from "node:perf_hooks";
import { and, asc, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { dataKeys } from "../db/schema/clients.ts";
import { clearSetApart, isSetApart } from "../routers/set-apart/service.ts";
import { setApart } from "./runtime/set-apart.ts";
import type { JobContext, Task } from "./runtime/task.ts";

type Wrapped = typeof dataKeys.$inferSelect;
type KeyId = Pick<Wrapped, "clientId" | "id">;
const loop = "vault.rewrap";
const batchSize = 100;
const concurrency = 5;
/** A run ends after this; the next run continues. */
const budgetMs = 50_000;

/**
 * Wraps data keys again that an earlier master key has wrapped, a batch at a time. A row changes only if it is still as
 * it was read: a crash changes nothing, and a concurrent run finds it done. Keys that could not be unwrapped before come
 * last, so that they delay no others.
 */
export const rewrap: Task<"vault.rewrap"> = {
  async run(_, ctx) {
    const until = performance.now() + budgetMs;
    const failed: { row: Wrapped; error: unknown }[] = [];
    let done = 0;
    for (const isApart of [false, true]) {
      let after: KeyId = { clientId: "", id: "" };
      while (performance.now() < until && !ctx.signal.aborted) {
        const which = { present: ctx.providers.masterKeys.present, after, isApart };
        const rows = await ctx.asSystem((tx) => wrappedByOthers(tx, which), { mode: "read" });
        for (let from = 0; from < rows.length; from += concurrency) {
          const some = rows.slice(from, from + concurrency);
          const errors = await Promise.all(some.map((row) => rewrapOne(ctx, row)));
          for (const [index, row] of some.entries())
            if (errors[index]) failed.push({ row, error: errors[index] });
            else done += 1;
        }
        const last = rows.at(-1);
        if (!last || rows.length < batchSize) break;
        after = last;
      }
    }
    if (done + failed.length > 0)
      ctx.log.info({ done, failed: failed.length }, "data keys wrapped by the present master key");
    if (failed.length === 0) return;
    // If none could be unwrapped, the key service is unavailable: the keys are not at fault.
    if (done > 0) for (const { row, error } of failed) await setApart(ctx, loop, row, error);
    throw new Error(`${failed.length} data keys could not be wrapped by the present master key.`);
  },
};

const wrappedByOthers = (tx: Tx, { present, after, isApart }: { present: string; after: KeyId; isApart: boolean }) =>
  tx
    .select()
    .from(dataKeys)
    .where(
      and(
        ne(dataKeys.master, present),
        sql`(${dataKeys.clientId}, ${dataKeys.id}) > (${after.clientId}, ${after.id})`,
        sql`${isSetApart(loop, sql`${dataKeys.id}`)} = ${sql.raw(String(isApart))}`,
      ),
    )
    .orderBy(asc(dataKeys.clientId), asc(dataKeys.id))
    .limit(batchSize);

/** Returns the error of a key that cannot be unwrapped, so that the others go on. */
async function rewrapOne(ctx: JobContext, row: Wrapped): Promise<unknown> {
  const { masterKeys } = ctx.providers;
  try {
    const wrapped = await masterKeys.rewrap(row);
    await ctx.asSystem(async (tx) => {
      await tx
        .update(dataKeys)
        .set({ wrapped, master: masterKeys.present })
        .where(and(eq(dataKeys.clientId, row.clientId), eq(dataKeys.id, row.id), eq(dataKeys.wrapped, row.wrapped)));
      await clearSetApart(tx, loop, [row.id]);
    });
    return null;
  } catch (error) {
    if (ctx.signal.aborted) throw error;
    ctx.log.error(
      { err: error, client_id: row.clientId, data_key: row.id, master: row.master },
      "data key not wrapped again",
    );
    return error;
  }
}
