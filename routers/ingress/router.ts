import { operatorCommand, operatorQuery, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { getIngress, listIngress, reprocessMany, reprocessOne } from "./ingress-events.ts";
import {
  IngressDetail,
  IngressId,
  IngressMessage,
  IngressPage,
  ListIngress,
  ReprocessIngress,
  Reprocessing,
} from "./schema.ts";

/** Operator endpoints for webhook messages from providers. */
export const adminIngress = router({
  list: operatorQuery
    .meta(
      rest("GET", "/admin/ingress", "platform:read", "List provider messages", {
        description: "Messages with a valid signature from the last three months, newest first.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListIngress)
    .output(IngressPage)
    .query(({ ctx, input }) => listIngress(ctx.tx, input, ctx.listKey)),

  get: operatorQuery
    .meta(
      rest("GET", "/admin/ingress/{id}", "platform:read", "Get a provider message", {
        description:
          "Includes the body with secrets masked. It can contain names and numbers of people who were called. The body of an erased call is empty.",
        errors: ["ingress_event_not_found"],
      }),
    )
    .input(IngressId)
    .output(IngressDetail)
    .query(({ ctx, input }) => getIngress(ctx.tx, input.id)),

  reprocess: operatorCommand
    .meta(
      rest("POST", "/admin/ingress/{id}/reprocess", "platform:write", "Reprocess a provider message", {
        description: "Applies a message with any status again. A message that was already applied changes nothing.",
        status: 202,
        accepted: { description: "The message is queued.", example: { status: "received" } },
        errors: ["ingress_event_not_found"],
      }),
    )
    .input(IngressId)
    .output(IngressMessage)
    .mutation(({ ctx, input }) => reprocessOne(ctx.tx, input.id)),

  reprocessMany: operatorCommand
    .meta(
      rest("POST", "/admin/ingress/reprocess", "platform:write", "Reprocess provider messages", {
        description:
          "Applies messages again; by default those that failed. Use it after you fixed the cause of the failures.",
        status: 202,
        accepted: { description: "The messages are being queued in batches.", example: {} },
      }),
    )
    .input(ReprocessIngress)
    .output(Reprocessing)
    .mutation(({ ctx, input }) => reprocessMany(ctx.tx, input)),
});
