import { sql } from "drizzle-orm";
import { advanceReplay } from "../routers/webhooks/replays/replay-batch.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { Task } from "./runtime/task.ts";

/** Writes one batch of a replay and the next job in one commit: a crash at any point loses and duplicates nothing. */
export const replay: Task<"webhooks.replay"> = {
  run: ({ replayId }, ctx) => ctx.asClient((tx) => advanceReplay(tx, replayId)),
};

const silentFor = sql`interval '2 minutes'`;
const batchSize = 500;

/** Recovers replays that lost their job: running ones that were not updated for `silentFor`. */
export const sweep: Task<"replays.sweep"> = {
  async run(_payload, ctx) {
    const silent = await sweepInto(ctx, "replays.sweep", "webhooks.replay", async (tx) => {
      const rows = await tx.execute<{ clientId: string; id: string }>(sql`
        select client_id as "clientId", id from ${roundRobin(
          sql`select r.client_id, r.id, r.updated_at as due_at
            from webhook_replays r join clients c on c.id = r.client_id and c.status = 'active'
            where r.status = 'running' and r.updated_at < clock_timestamp() - ${silentFor} order by r.updated_at`,
          batchSize,
        )} silent`);
      return rows.map(({ clientId, id }) => ({ clientId, payload: { replayId: id }, key: id }));
    });
    if (silent > 0) ctx.log.warn({ replays: silent }, "replays recovered after losing their jobs");
  },
};
