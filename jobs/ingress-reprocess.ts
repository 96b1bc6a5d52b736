import { reprocessBatch } from "../routers/ingress/ingress-events.ts";
import type { Task } from "./runtime/task.ts";

/** Has what a filter finds applied once more, a piece at a time. */
export const reprocess: Task<"ingress.reprocess"> = {
  async run(payload, ctx) {
    const put = await ctx.asSystem((tx) => reprocessBatch(tx, payload));
    ctx.log.info({ put, after: payload.after }, "messages of providers were queued once more");
  },
};
