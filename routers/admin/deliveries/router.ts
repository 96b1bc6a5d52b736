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
import { lookOver } from "./service.ts";

/** How deliveries go, for those who run the installation, and where they are held back. */
export const adminDispatch = router({
  get: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch", "platform:read", "How deliveries go", {
        description:
          "What is due and what holds it up, over all clients. Nothing is left out for being throttled or paused.",
      }),
    )
    .output(DispatchOverview)
    .query(({ ctx }) => lookOver(ctx.tx, new Date())),

  clients: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch/clients", "platform:read", "How deliveries go, client by client", {
        description: "Every client, newest first, with what waits for it and how its attempts went within the window.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListDispatchClients)
    .output(DispatchClientPage)
    .query(({ ctx, input }) => listDispatchClients(ctx.tx, input, ctx.listKey, new Date())),

  endpoints: operatorQuery
    .meta(
      rest("GET", "/admin/dispatch/endpoints", "platform:read", "The health of webhook endpoints", {
        description:
          "Each endpoint with its failures and what waits for it, in the order of their clients. Of its URL only the host is shown.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListDispatchEndpoints)
    .output(DispatchEndpointPage)
    .query(({ ctx, input }) => listDispatchEndpoints(ctx.tx, input, ctx.listKey)),

  pauses: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/dispatch/pauses", "platform:read", "Where deliveries are paused", {
          description: "The pauses in force: who made each, why, and what is still in flight there.",
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
            "Nothing more is admitted there; what is in flight ends. It is drained when `inFlight` is 0. Paused again, it keeps its time and takes the new reason.",
          faults: ["client_not_found", "webhook_not_found"],
        }),
      )
      .input(SetPause)
      .output(Pause)
      .mutation(({ ctx, input }) => setPause(ctx.tx, input, ctx.principal.id)),

    clear: operatorCommand
      .meta(
        rest("DELETE", "/admin/dispatch/pauses/{scope}", "platform:write", "Resume deliveries", {
          description: "What has become due meanwhile is admitted within seconds, place by place.",
          faults: ["delivery_pause_not_found"],
        }),
      )
      .input(PauseAt)
      .mutation(({ ctx, input }) => clearPause(ctx.tx, input.scope)),
  }),
});
