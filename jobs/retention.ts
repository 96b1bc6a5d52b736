import { sql } from "drizzle-orm";
import { eraseCalls, listDue } from "../routers/calls/artifacts/retention.ts";
import { listSetApartSubjects } from "../routers/set-apart/service.ts";
import { eachOrApart } from "./runtime/set-apart.ts";
import { sweepInto } from "./runtime/sweep.ts";
import type { Task } from "./runtime/task.ts";

const budgetMs = 50_000;
const batchSize = 50;

/** Finds clients with artifacts past their retention: one job per client. */
export const sweep: Task<"retention.sweep"> = {
  async run(_payload, ctx) {
    await sweepInto(ctx, "retention.sweep", "retention.erase", async (tx) => {
      const due = await tx.execute<{ clientId: string }>(sql`
        select c.id as "clientId" from clients c
        where exists (select from calls where client_id = c.id and transcript_until <= now())
          or exists (select from calls where client_id = c.id and recording_until <= now())`);
      return due.map(({ clientId }) => ({ clientId, payload: {}, key: clientId }));
    });
  },
};

/** Erases in batches, each in its own transaction: a crash in between leaves no call half erased. */
export const erase: Task<"retention.erase"> = {
  async run(_payload, ctx) {
    const { clientId } = ctx;
    const until = performance.now() + budgetMs;
    while (performance.now() < until && !ctx.signal.aborted) {
      const apart = await ctx.asSystem((tx) => listSetApartSubjects(tx, "retention.erase", clientId), { mode: "read" });
      const rows = await ctx.asClient((tx) => listDue(tx, batchSize, apart), { mode: "read" });
      let erased = 0;
      await eachOrApart(ctx, {
        loop: "retention.erase",
        rows,
        subjectOf: (id) => ({ id, clientId }),
        work: async (ids) => {
          erased += await ctx.asClient((tx) => eraseCalls(tx, ids));
        },
      });
      if (erased > 0) ctx.log.info({ erased }, "artifacts erased by retention");
      if (rows.length < batchSize || erased === 0) return;
    }
  },
};
