import { sql } from "drizzle-orm";
import { enqueueEach } from "../db/queue.ts";
import { eraseDue } from "../routers/calls/artifacts/retention.ts";
import type { Task } from "./runtime/task.ts";

const runForMs = 50_000;
const atOnce = 50;

/** Finds whose agents keep something no longer. What one run leaves over is the next one's. */
export const sweep: Task<"retention.sweep"> = {
  async run(_payload, ctx) {
    await ctx.asSystem(async (tx) => {
      const due = await tx.execute<{ clientId: string }>(sql`
        select distinct client_id as "clientId" from (
          (select client_id from calls where transcript_until <= now() order by transcript_until limit 10000)
          union all
          (select client_id from calls where recording_until <= now() order by recording_until limit 10000)) due`);
      const each = due.map(({ clientId }) => ({ clientId, payload: {}, key: clientId }));
      await enqueueEach(tx, "retention.erase", each);
    });
  },
};

/** Batch by batch, each in a transaction of its own: whoever dies in between has erased some calls whole, and no half of one. */
export const erase: Task<"retention.erase"> = {
  async run(_payload, ctx) {
    const until = performance.now() + runForMs;
    while (performance.now() < until && !ctx.signal.aborted) {
      const erased = await ctx.asClient((tx) => eraseDue(tx, atOnce));
      if (erased > 0) ctx.log.info({ erased }, "erased by retention");
      if (erased < atOnce) return;
    }
  },
};
