import { reprocessBatch } from "../routers/ingress/ingress-events.ts";
import type { Task } from "./runtime/task.ts";

/** Queues the provider events that match a filter again, a batch at a time. */
export const reprocess: Task<"ingress.reprocess"> = {
  async run(payload, ctx) {
    const queued = await ctx.asSystem((tx) => reprocessBatch(tx, payload));
    ctx.log.info({ queued, after: payload.after }, "provider events queued again");
  },
};
