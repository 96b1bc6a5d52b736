import { and, eq, lt, sql } from "drizzle-orm";
import { enqueueEach } from "../db/queue.ts";
import { clients } from "../db/schema/clients.ts";
import { webhookReplays } from "../db/schema/events.ts";
import { advanceReplay } from "../routers/webhooks/replays/replay-batch.ts";
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
    await ctx.asSystem(async (tx) => {
      const silent = await tx
        .select({ id: webhookReplays.id, clientId: webhookReplays.clientId })
        .from(webhookReplays)
        .innerJoin(clients, and(eq(clients.id, webhookReplays.clientId), eq(clients.status, "active")))
        .where(
          and(
            eq(webhookReplays.status, "running"),
            lt(webhookReplays.updatedAt, sql`clock_timestamp() - ${silentFor}`),
          ),
        )
        .orderBy(webhookReplays.updatedAt)
        .limit(atMost);
      const each = silent.map(({ id, clientId }) => ({ clientId, payload: { replayId: id }, key: id }));
      await enqueueEach(tx, "webhooks.replay", each);
      if (silent.length > 0) ctx.log.warn({ replays: silent.length }, "replays had lost their jobs");
    });
  },
};
