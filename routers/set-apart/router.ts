import { operatorCommand, operatorQuery, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { ListSetApart, SetApartId, SetApartPage, SetApartRow } from "./schema.ts";
import { listSetApart, retrySetApart } from "./service.ts";

/** Operator endpoints for rows that system loops could not process. */
export const adminSetApart = router({
  list: operatorQuery
    .meta(
      rest("GET", "/admin/set-apart", "platform:read", "List rows that are set apart", {
        description:
          "Rows that a system loop could not process, oldest first. The loop skips them, and `/health` returns `degraded` until there are none.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListSetApart)
    .output(SetApartPage)
    .query(({ ctx, input }) => listSetApart(ctx.tx, input, ctx.listKey)),

  retry: operatorCommand
    .meta(
      rest("POST", "/admin/set-apart/{id}/retry", "platform:write", "Retry a row that is set apart", {
        description:
          "The next run of its loop processes the row. If it fails again, it is set apart again with a new id.",
        errors: ["set_apart_not_found"],
      }),
    )
    .input(SetApartId)
    .output(SetApartRow)
    .mutation(({ ctx, input }) => retrySetApart(ctx.tx, input.id)),
});
