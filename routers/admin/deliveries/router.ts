import { operatorCommand, operatorQuery, router } from "../../core/procedures.ts";
import { rest } from "../../core/rest-metadata.ts";
import { listDeliveryClients } from "./clients.ts";
import { listDeliveryEndpoints } from "./endpoints.ts";
import { listPauses, removePause, setPause } from "./pauses.ts";
import {
  DeliveryClientPage,
  DeliveryEndpointPage,
  DeliveryOverview,
  ListDeliveryClients,
  ListDeliveryEndpoints,
  ListPauses,
  Pause,
  PauseAt,
  PausePage,
  SetPause,
} from "./schema.ts";
import { getDeliveryOverview } from "./service.ts";

/** Operator endpoints for the state of deliveries and for pauses. */
export const adminDeliveries = router({
  get: operatorQuery
    .meta(
      rest("GET", "/admin/deliveries", "platform:read", "Get the state of deliveries", {
        description: "Due deliveries across all clients and what they wait for, including throttled and paused ones.",
      }),
    )
    .output(DeliveryOverview)
    .query(({ ctx }) => getDeliveryOverview(ctx.tx, new Date())),

  clients: operatorQuery
    .meta(
      rest("GET", "/admin/deliveries/clients", "platform:read", "List the state of deliveries by client", {
        description:
          "Every client, newest first, with its pending deliveries and the results of attempts in the window.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListDeliveryClients)
    .output(DeliveryClientPage)
    .query(({ ctx, input }) => listDeliveryClients(ctx.tx, input, ctx.listKey, new Date())),

  endpoints: operatorQuery
    .meta(
      rest("GET", "/admin/deliveries/endpoints", "platform:read", "List the health of webhook endpoints", {
        description:
          "Each endpoint with its failures and pending deliveries, ordered by client. Only the host of its URL is shown.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListDeliveryEndpoints)
    .output(DeliveryEndpointPage)
    .query(({ ctx, input }) => listDeliveryEndpoints(ctx.tx, input, ctx.listKey)),

  pauses: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/deliveries/pauses", "platform:read", "List delivery pauses", {
          description:
            "The active pauses, each with its author, its reason and the number of deliveries still in flight.",
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListPauses)
      .output(PausePage)
      .query(({ ctx, input }) => listPauses(ctx.tx, input, ctx.listKey)),

    set: operatorCommand
      .meta(
        rest("PUT", "/admin/deliveries/pauses/{scope}", "platform:write", "Pause deliveries", {
          description:
            "No new deliveries start in the scope; those in flight finish. The scope is drained when `inFlight` is 0. Pausing it again keeps the time and author and replaces the reason.",
          errors: ["client_not_found", "webhook_not_found"],
        }),
      )
      .input(SetPause)
      .output(Pause)
      .mutation(({ ctx, input }) => setPause(ctx.tx, input, ctx.principal.id)),

    remove: operatorCommand
      .meta(
        rest("DELETE", "/admin/deliveries/pauses/{scope}", "platform:write", "Resume deliveries", {
          description: "Deliveries that became due during the pause start within seconds, as slots become free.",
          errors: ["delivery_pause_not_found"],
        }),
      )
      .input(PauseAt)
      .mutation(({ ctx, input }) => removePause(ctx.tx, input.scope)),
  }),
});
