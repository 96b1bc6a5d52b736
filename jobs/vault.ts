import { performance } from "node:perf_hooks";
import { and, asc, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { dataKeys } from "../db/schema/clients.ts";
import type { JobContext, Task } from "./runtime/task.ts";

type Wrapped = typeof dataKeys.$inferSelect;
type Place = Pick<Wrapped, "clientId" | "id">;

const atOnce = 100;
const together = 5;
/** What is left is the next run's. */
const runForMs = 50_000;

/**
 * Wraps data keys anew that an earlier master key has wrapped, a batch at a time. A row changes only if it is still what
 * was read: whoever is killed in between has changed nothing, and whoever comes second finds it done.
 */
export const rewrap: Task<"vault.rewrap"> = {
  async run(_, ctx) {
    const until = performance.now() + runForMs;
    const total = { done: 0, failed: 0 };
    let after: Place = { clientId: "", id: "" };
    while (performance.now() < until && !ctx.signal.aborted) {
      const rows = await ctx.asSystem((tx) => wrappedByOthers(tx, ctx.providers.masterKeys.present, after), {
        mode: "read",
      });
      for (let from = 0; from < rows.length; from += together) {
        const done = await Promise.all(rows.slice(from, from + together).map((row) => rewrapOne(ctx, row)));
        for (const isDone of done) total[isDone ? "done" : "failed"] += 1;
      }
      const last = rows.at(-1);
      if (!last || rows.length < atOnce) break;
      after = last;
    }
    if (total.done + total.failed > 0) ctx.log.info(total, "data keys were wrapped by the present master key");
    if (total.failed > 0) throw new Error(`${total.failed} data keys could not be wrapped anew.`);
  },
};

const wrappedByOthers = (tx: Tx, present: string, after: Place): Promise<Wrapped[]> =>
  tx
    .select()
    .from(dataKeys)
    .where(
      and(ne(dataKeys.master, present), sql`(${dataKeys.clientId}, ${dataKeys.id}) > (${after.clientId}, ${after.id})`),
    )
    .orderBy(asc(dataKeys.clientId), asc(dataKeys.id))
    .limit(atOnce);

/** One that cannot be opened does not hold up the others. */
async function rewrapOne(ctx: JobContext, row: Wrapped): Promise<boolean> {
  const { masterKeys } = ctx.providers;
  try {
    const wrapped = await masterKeys.rewrap(row);
    await ctx.asSystem((tx) =>
      tx
        .update(dataKeys)
        .set({ wrapped, master: masterKeys.present })
        .where(and(eq(dataKeys.clientId, row.clientId), eq(dataKeys.id, row.id), eq(dataKeys.wrapped, row.wrapped))),
    );
    return true;
  } catch (error) {
    if (ctx.signal.aborted) throw error;
    ctx.log.error(
      { err: error, client_id: row.clientId, data_key: row.id, master: row.master },
      "a data key could not be wrapped anew",
    );
    return false;
  }
}
