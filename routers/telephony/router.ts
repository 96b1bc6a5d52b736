import { command, providerCommand, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { describeTelephony, planChange, readAccount, recordChange, updateAccount } from "./config.ts";
import { createRegistration, getRegistration, listRegistrations, removeRegistration } from "./registrations.ts";
import { assignments } from "./rules.ts";
import {
  CreateRegistration,
  CreateRoute,
  ListRegistrations,
  ListRoutes,
  Registration,
  RegistrationId,
  RegistrationPage,
  Route,
  RouteId,
  RoutePage,
  TelephonyConfig,
  UpdateRoute,
  UpdateTelephony,
} from "./schema.ts";
import { accountOfClient, createRoute, getRoute, listRoutes, removeRoute, updateRoute } from "./service.ts";

export const telephony = router({
  config: providerQuery
    .meta(
      rest("GET", "/telephony/config", "telephony:read", "Get the telephony configuration", {
        description:
          "Returns the SIP domain, carriers, registrations and routes, and whether the provider account is shared.",
        errors: ["provider_rejected", "provider_unavailable"],
      }),
    )
    .output(TelephonyConfig)
    .query(({ ctx }) =>
      ctx.queryProvider({
        read: accountOfClient,
        execute: (account, deadline) => readAccount(ctx.providers, account, deadline),
        record: describeTelephony,
      }),
    ),

  update: providerQuery
    .meta(
      rest("PATCH", "/telephony/config", "telephony:write", "Update the telephony configuration", {
        description:
          "Fields that are left out stay as they are. `allowedCidrRanges` and `carriers` need a provider account of your own. After a failure, send the same request again: it completes the remaining steps.",
        errors: ["credential_not_found", "provider_rejected", "provider_unavailable"],
        vault: "provider_credential",
      }),
    )
    .input(UpdateTelephony)
    .output(TelephonyConfig)
    .mutation(({ ctx, input }) =>
      ctx.queryProvider({
        read: (tx) => planChange(tx, input, ctx.cipher),
        execute: (planned, deadline) => updateAccount(ctx.providers, planned, deadline),
        record: recordChange,
      }),
    ),

  registrations: router({
    create: providerCommand
      .meta(
        rest("POST", "/telephony/registrations", "telephony:write", "Register with a SIP server", {
          description:
            "Calls to the SIP account are then answered here. Refused if the voice provider already has a registration of the same user and proxy that you did not create here.",
          accepted: {
            description:
              "The voice provider did not respond in time. The registration is `provisioning` until its result is known, within minutes; then it is `active` or `failed`.",
            example: { status: "provisioning", registered: null },
          },
          errors: ["registration_taken", "provider_rejected", "provider_unavailable"],
        }),
      )
      .input(CreateRegistration)
      .output(Registration)
      .mutation(({ ctx, input }) => ctx.perform(createRegistration, input)),

    list: query
      .meta(
        rest("GET", "/telephony/registrations", "telephony:read", "List SIP registrations", {
          description:
            "Newest first. `registered` is the last known value. `GET /telephony/config` refreshes it from the voice provider.",
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListRegistrations)
      .output(RegistrationPage)
      .query(({ ctx, input }) => listRegistrations(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/telephony/registrations/{id}", "telephony:read", "Get a SIP registration", {
          description:
            "Returns its status. `registered` is the last known value. `GET /telephony/config` refreshes it from the voice provider.",
          errors: ["registration_not_found"],
        }),
      )
      .input(RegistrationId)
      .output(Registration)
      .query(({ ctx, input }) => getRegistration(ctx.tx, input.id)),

    remove: command
      .meta(
        rest("DELETE", "/telephony/registrations/{id}", "telephony:write", "Delete a SIP registration", {
          description:
            "Calls to the SIP account are no longer answered here, within seconds. 409 `registration_busy` while the registration is being created.",
          errors: ["registration_not_found", "registration_busy"],
        }),
      )
      .input(RegistrationId)
      .mutation(({ ctx, input }) => removeRegistration(ctx.tx, input.id)),
  }),

  routes: router({
    create: command
      .meta(
        rest("POST", "/telephony/routes", "telephony:write", "Create an inbound route", {
          description:
            "The route becomes `live` at the voice provider within seconds. On the shared account a route must lie within the numbers that an operator has assigned to you; any other route is `waiting`. An agent that needs variables cannot answer inbound calls.",
          errors: ["agent_not_found", "agent_variables_required", "inbound_route_taken", "inbound_route_limit_reached"],
        }),
      )
      .input(CreateRoute)
      .output(Route)
      .mutation(({ ctx, input }) => createRoute(ctx.tx, input, assignments(ctx))),

    list: query
      .meta(
        rest("GET", "/telephony/routes", "telephony:read", "List inbound routes", {
          description:
            "Newest first, each with its status at the voice provider. 404 if the agent does not exist in this client.",
          errors: ["agent_not_found", "cursor_invalid"],
        }),
      )
      .input(ListRoutes)
      .output(RoutePage)
      .query(({ ctx, input }) => listRoutes(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/telephony/routes/{id}", "telephony:read", "Get an inbound route", {
          description: "Returns the route and its status at the voice provider.",
          errors: ["inbound_route_not_found"],
        }),
      )
      .input(RouteId)
      .output(Route)
      .query(({ ctx, input }) => getRoute(ctx.tx, input.id)),

    update: command
      .meta(
        rest("PATCH", "/telephony/routes/{id}", "telephony:write", "Update an inbound route", {
          description:
            "Fields that are left out stay as they are. `status` is `pending` until the voice provider has the change, within seconds.",
          errors: ["inbound_route_not_found", "agent_not_found", "agent_variables_required", "inbound_route_taken"],
        }),
      )
      .input(UpdateRoute)
      .output(Route)
      .mutation(({ ctx, input }) => updateRoute(ctx.tx, input, assignments(ctx))),

    remove: command
      .meta(
        rest("DELETE", "/telephony/routes/{id}", "telephony:write", "Delete an inbound route", {
          description: "The agent no longer answers these calls, within seconds.",
          errors: ["inbound_route_not_found"],
        }),
      )
      .input(RouteId)
      .mutation(({ ctx, input }) => removeRoute(ctx.tx, input.id)),
  }),
});
