import { sql } from "drizzle-orm";
import { advanceReplay } from "../routers/webhooks/replays/replay-batch.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { Task } from "./runtime/task.ts";

/** One piece of a replay, and the job for the next, in one commit: it may die at any point and has lost and doubled nothing. */
export const replay: Task<"webhooks.replay"> = {
  run: ({ replayId }, ctx) => ctx.asClient((tx) => advanceReplay(tx, replayId)),
};

const silentFor = sql`interval '2 minutes'`;
const atMost = 500;

/** A replay that says nothing of itself for so long has lost its job. */
export const sweep: Task<"replays.sweep"> = {
  async run(_payload, ctx) {
    const silent = await sweepInto(ctx, "replays.sweep", "webhooks.replay", async (tx) => {
      const rows = await tx.execute<{ clientId: string; id: string }>(sql`
        select client_id as "clientId", id from ${roundRobin(
          sql`select r.client_id, r.id, r.updated_at as due_at
            from webhook_replays r join clients c on c.id = r.client_id and c.status = 'active'
            where r.status = 'running' and r.updated_at < clock_timestamp() - ${silentFor} order by r.updated_at`,
          atMost,
        )} silent`);
      return rows.map(({ clientId, id }) => ({ clientId, payload: { replayId: id }, key: id }));
    });
    if (silent > 0) ctx.log.warn({ replays: silent }, "replays had lost their jobs");
  },
};
