import { reprocessPiece } from "../routers/ingress/inbox.ts";
import type { Task } from "./task.ts";

/** Has what a filter finds applied once more, a piece at a time. */
export const reprocess: Task<"ingress.reprocess"> = {
  async run(payload, ctx) {
    const put = await ctx.asHouse((tx) => reprocessPiece(tx, payload));
    ctx.log.info({ put, after: payload.after }, "messages of providers were queued once more");
  },
};
