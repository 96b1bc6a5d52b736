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
import { createRoute, getRoute, isShared, listRoutes, removeRoute, updateRoute } from "./service.ts";

export const telephony = router({
  config: providerQuery
    .meta(
      rest("GET", "/telephony/config", "telephony:read", "How you telephone", {
        description: "The SIP domain, carriers, registrations and rules, and what of it you share with others.",
        faults: ["provider_rejected", "provider_unavailable"],
      }),
    )
    .output(TelephonyConfig)
    .query(({ ctx }) =>
      ctx.queryProvider({
        read: isShared,
        execute: (account, deadline) => readAccount(ctx.providers, account, deadline),
        record: describeTelephony,
      }),
    ),

  update: providerQuery
    .meta(
      rest("PATCH", "/telephony/config", "telephony:write", "Change how you telephone", {
        description:
          "What is left out stays. `allowedCidrRanges` and `carriers` take a provider account of your own. What was done before a failure stays: the same request does the rest.",
        faults: ["credential_not_found", "provider_rejected", "provider_unavailable"],
        vault: "provider_credential",
      }),
    )
    .input(UpdateTelephony)
    .output(TelephonyConfig)
    .mutation(({ ctx, input }) =>
      ctx.queryProvider({
        read: (tx) => planChange(tx, input, ctx.cipher),
        execute: (wanted, deadline) => updateAccount(ctx.providers, wanted, deadline),
        record: recordChange,
      }),
    ),

  registrations: router({
    create: providerCommand
      .meta(
        rest("POST", "/telephony/registrations", "telephony:write", "Register with a SIP server", {
          description:
            "So that calls to that account are answered here. Refused where the voice provider has one of the same user and proxy already that was not made by you here.",
          accepted: {
            says: "The voice provider has not answered in time. The registration is `provisioning` until it is known whether it is there: minutes at most; then it is `active` or `failed`.",
            shows: { status: "provisioning", registered: null },
          },
          faults: ["registration_taken", "provider_rejected", "provider_unavailable"],
        }),
      )
      .input(CreateRegistration)
      .output(Registration)
      .mutation(({ ctx, input }) => ctx.perform(createRegistration, input)),

    list: query
      .meta(
        rest("GET", "/telephony/registrations", "telephony:read", "List SIP registrations", {
          description:
            "Newest first. `registered` is as it was last seen; `GET /telephony/config` asks the voice provider anew.",
          faults: ["cursor_invalid"],
        }),
      )
      .input(ListRegistrations)
      .output(RegistrationPage)
      .query(({ ctx, input }) => listRegistrations(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/telephony/registrations/{id}", "telephony:read", "Get a SIP registration", {
          description:
            "How it stands. `registered` is as it was last seen; `GET /telephony/config` asks the voice provider anew.",
          faults: ["registration_not_found"],
        }),
      )
      .input(RegistrationId)
      .output(Registration)
      .query(({ ctx, input }) => getRegistration(ctx.tx, input.id)),

    remove: command
      .meta(
        rest("DELETE", "/telephony/registrations/{id}", "telephony:write", "Delete a SIP registration", {
          description:
            "Calls to that account come here no more, once the voice provider has heard of it: within moments. One that is still being made is 409 `registration_busy`.",
          faults: ["registration_not_found", "registration_busy"],
        }),
      )
      .input(RegistrationId)
      .mutation(({ ctx, input }) => removeRegistration(ctx.tx, input.id)),
  }),

  routes: router({
    create: command
      .meta(
        rest("POST", "/telephony/routes", "telephony:write", "Say who answers a number", {
          description:
            "The voice provider is told within seconds; `status` says when it was. On the shared account a route answers within the numbers that an operator has assigned to you; any other is `waiting`. An agent that needs variables answers no calls that come in.",
          faults: ["agent_not_found", "agent_needs_variables", "inbound_route_taken", "inbound_route_limit_reached"],
        }),
      )
      .input(CreateRoute)
      .output(Route)
      .mutation(({ ctx, input }) => createRoute(ctx.tx, input, assignments(ctx))),

    list: query
      .meta(
        rest("GET", "/telephony/routes", "telephony:read", "List inbound routing rules", {
          description: "Newest first, each with its status at the voice provider. An agent that is not yours is 404.",
          faults: ["agent_not_found", "cursor_invalid"],
        }),
      )
      .input(ListRoutes)
      .output(RoutePage)
      .query(({ ctx, input }) => listRoutes(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/telephony/routes/{id}", "telephony:read", "Get an inbound routing rule", {
          description: "Who answers what was called, and whether the voice provider knows of it.",
          faults: ["inbound_route_not_found"],
        }),
      )
      .input(RouteId)
      .output(Route)
      .query(({ ctx, input }) => getRoute(ctx.tx, input.id)),

    update: command
      .meta(
        rest("PATCH", "/telephony/routes/{id}", "telephony:write", "Change an inbound routing rule", {
          description:
            "What is left out stays. `status` is `pending` until the voice provider has heard of it, within seconds.",
          faults: ["inbound_route_not_found", "agent_not_found", "agent_needs_variables", "inbound_route_taken"],
        }),
      )
      .input(UpdateRoute)
      .output(Route)
      .mutation(({ ctx, input }) => updateRoute(ctx.tx, input, assignments(ctx))),

    remove: command
      .meta(
        rest("DELETE", "/telephony/routes/{id}", "telephony:write", "Delete an inbound routing rule", {
          description:
            "The agent answers no more what was called, once the voice provider has heard of it: within seconds.",
          faults: ["inbound_route_not_found"],
        }),
      )
      .input(RouteId)
      .mutation(({ ctx, input }) => removeRoute(ctx.tx, input.id)),
  }),
});
