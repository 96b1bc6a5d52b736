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

/** What providers told us, for those who run the installation. */
export const adminIngress = router({
  list: operatorQuery
    .meta(
      rest("GET", "/admin/ingress", "platform:read", "List what providers sent", {
        description: "Every message whose signature was right, of the last three months, newest first.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListIngress)
    .output(IngressPage)
    .query(({ ctx, input }) => listIngress(ctx.tx, input, ctx.listKey)),

  get: operatorQuery
    .meta(
      rest("GET", "/admin/ingress/{id}", "platform:read", "Get what a provider sent", {
        description:
          "Word for word but for secrets. It may hold names and numbers of people who were called; of an erased call it is empty.",
        faults: ["ingress_event_not_found"],
      }),
    )
    .input(IngressId)
    .output(IngressDetail)
    .query(({ ctx, input }) => getIngress(ctx.tx, input.id)),

  reprocess: operatorCommand
    .meta(
      rest("POST", "/admin/ingress/{id}/reprocess", "platform:write", "Have a provider's message applied once more", {
        description: "Whatever its status. What was applied before changes nothing the second time.",
        status: 202,
        accepted: { says: "It is queued to be applied.", shows: { status: "received" } },
        faults: ["ingress_event_not_found"],
      }),
    )
    .input(IngressId)
    .output(IngressMessage)
    .mutation(({ ctx, input }) => reprocessOne(ctx.tx, input.id)),

  reprocessMany: operatorCommand
    .meta(
      rest("POST", "/admin/ingress/reprocess", "platform:write", "Have many messages of providers applied once more", {
        description: "Those that failed, if no other status is named: after whatever made them fail is put right.",
        status: 202,
        accepted: { says: "They are being queued, piece by piece.", shows: {} },
      }),
    )
    .input(ReprocessIngress)
    .output(Reprocessing)
    .mutation(({ ctx, input }) => reprocessMany(ctx.tx, input)),
});
