import { performance } from "node:perf_hooks";
import { and, asc, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { dataKeys } from "../db/schema/clients.ts";
import { isSetApart, clearSetApart } from "../routers/set-apart/service.ts";
import { setApart } from "./runtime/set-apart.ts";
import type { JobContext, Task } from "./runtime/task.ts";

type Wrapped = typeof dataKeys.$inferSelect;
type Place = Pick<Wrapped, "clientId" | "id">;

const loop = "vault.rewrap";
const atOnce = 100;
const together = 5;
/** What is left is the next run's. */
const runForMs = 50_000;

/**
 * Wraps data keys anew that an earlier master key has wrapped, a batch at a time. A row changes only if it is still what
 * was read: whoever is killed in between has changed nothing, and whoever comes second finds it done. Those that could not
 * be opened before are tried after all others: however long they take, they hold nobody up.
 */
export const rewrap: Task<"vault.rewrap"> = {
  async run(_, ctx) {
    const until = performance.now() + runForMs;
    const failed: { row: Wrapped; error: unknown }[] = [];
    let done = 0;
    for (const isApart of [false, true]) {
      let after: Place = { clientId: "", id: "" };
      while (performance.now() < until && !ctx.signal.aborted) {
        const which = { present: ctx.providers.masterKeys.present, after, isApart };
        const rows = await ctx.asSystem((tx) => wrappedByOthers(tx, which), { mode: "read" });
        for (let from = 0; from < rows.length; from += together) {
          const some = rows.slice(from, from + together);
          const errors = await Promise.all(some.map((row) => rewrapOne(ctx, row)));
          for (const [place, row] of some.entries())
            if (errors[place]) failed.push({ row, error: errors[place] });
            else done += 1;
        }
        const last = rows.at(-1);
        if (!last || rows.length < atOnce) break;
        after = last;
      }
    }
    if (done + failed.length > 0)
      ctx.log.info({ done, failed: failed.length }, "data keys were wrapped by the present master key");
    if (failed.length === 0) return;
    // Where none could be opened, it is the key service that is away, and not these.
    if (done > 0) for (const { row, error } of failed) await setApart(ctx, loop, row, error);
    throw new Error(`${failed.length} data keys could not be wrapped anew.`);
  },
};

const wrappedByOthers = (tx: Tx, { present, after, isApart }: { present: string; after: Place; isApart: boolean }) =>
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
    .limit(atOnce);

/** One that cannot be opened does not hold up the others: its error is the result. */
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
      "a data key could not be wrapped anew",
    );
    return error;
  }
}
