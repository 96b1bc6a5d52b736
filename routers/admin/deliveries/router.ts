import { operatorCommand, operatorQuery, router } from "../../core/procedures.ts";
import { rest } from "../../core/rest-metadata.ts";
import { listDispatchClients } from "./clients.ts";
import { listDispatchEndpoints } from "./endpoints.ts";
import { clearPause, listPauses, setPause } from "./pauses.ts";
import {
  DispatchClientPage,
  DispatchEndpointPage,
  DispatchOverview,
  ListDispatchClients,
  ListDispatchEndpoints,
  ListPauses,
  Pause,
  PauseAt,
  PausePage,
  SetPause,
} from "./schema.ts";
import { getDispatchOverview } from "./service.ts";

/** Operator endpoints for the state of deliveries and for pauses. */
export const adminDispatch = router({
  get: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch", "platform:read", "Get the state of deliveries", {
        description: "Due deliveries across all clients and what they wait for, including throttled and paused ones.",
      }),
    )
    .output(DispatchOverview)
    .query(({ ctx }) => getDispatchOverview(ctx.tx, new Date())),

  clients: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch/clients", "platform:read", "List the state of deliveries by client", {
        description:
          "Every client, newest first, with its pending deliveries and the results of attempts in the window.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListDispatchClients)
    .output(DispatchClientPage)
    .query(({ ctx, input }) => listDispatchClients(ctx.tx, input, ctx.listKey, new Date())),

  endpoints: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch/endpoints", "platform:read", "List the health of webhook endpoints", {
        description:
          "Each endpoint with its failures and pending deliveries, ordered by client. Only the host of its URL is shown.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListDispatchEndpoints)
    .output(DispatchEndpointPage)
    .query(({ ctx, input }) => listDispatchEndpoints(ctx.tx, input, ctx.listKey)),

  pauses: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/dispatch/pauses", "platform:read", "List delivery pauses", {
          description:
            "The active pauses, each with its author, its reason and the number of deliveries still in flight.",
          faults: ["cursor_invalid"],
        }),
      )
      .input(ListPauses)
      .output(PausePage)
      .query(({ ctx, input }) => listPauses(ctx.tx, input, ctx.listKey)),

    set: operatorCommand
      .meta(
        rest("PUT", "/admin/dispatch/pauses/{scope}", "platform:write", "Pause deliveries", {
          description:
            "No new deliveries start in the scope; those in flight finish. The scope is drained when `inFlight` is 0. Pausing it again keeps the time and author and replaces the reason.",
          faults: ["client_not_found", "webhook_not_found"],
        }),
      )
      .input(SetPause)
      .output(Pause)
      .mutation(({ ctx, input }) => setPause(ctx.tx, input, ctx.principal.id)),

    clear: operatorCommand
      .meta(
        rest("DELETE", "/admin/dispatch/pauses/{scope}", "platform:write", "Resume deliveries", {
          description: "Deliveries that became due during the pause start within seconds, as slots become free.",
          faults: ["delivery_pause_not_found"],
        }),
      )
      .input(PauseAt)
      .mutation(({ ctx, input }) => clearPause(ctx.tx, input.scope)),
  }),
});
