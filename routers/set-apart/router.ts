import { operatorCommand, operatorQuery, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { ListSetApart, SetApartId, SetApartPage, SetApartRow } from "./schema.ts";
import { listSetApart, retrySetApart } from "./service.ts";

/** Rows that system loops could not process, for those who run the installation. */
export const adminSetApart = router({
  list: operatorQuery
    .meta(
      rest("GET", "/admin/set-apart", "platform:read", "List rows that are set apart", {
        description:
          "Rows that a system loop could not process, the oldest first. The loop goes on without them, and `/health` says `degraded` until there are none.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListSetApart)
    .output(SetApartPage)
    .query(({ ctx, input }) => listSetApart(ctx.tx, input, ctx.listKey)),

  retry: operatorCommand
    .meta(
      rest("POST", "/admin/set-apart/{id}/retry", "platform:write", "Retry a row that is set apart", {
        description:
          "The next run of its loop takes the row up. If it fails again, it is set apart again, under another id.",
        faults: ["set_apart_not_found"],
      }),
    )
    .input(SetApartId)
    .output(SetApartRow)
    .mutation(({ ctx, input }) => retrySetApart(ctx.tx, input.id)),
});
