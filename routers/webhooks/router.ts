import type { Context } from "../core/context.ts";
import { command, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import {
  Delivery,
  DeliveryId,
  DeliveryPage,
  DeliveryWithAttempts,
  ListDeliveries,
  SearchDeliveries,
} from "./deliveries/schema.ts";
import { getDelivery, listDeliveries, redeliver, searchDeliveries } from "./deliveries/service.ts";
import {
  createEndpoint,
  getEndpoint,
  listEndpoints,
  listEventTypes,
  removeEndpoint,
  rotateSecret,
  setHeaders,
  updateEndpoint,
} from "./endpoints/service.ts";
import { testEndpoint } from "./endpoints/test-endpoint.ts";
import { ListReplays, Replay, ReplayId, ReplayPage, StartReplay } from "./replays/schema.ts";
import { cancelReplay, getReplay, listReplays, startReplay } from "./replays/service.ts";
import {
  CreatedEndpoint,
  CreateEndpoint,
  Endpoint,
  EndpointId,
  EndpointPage,
  EndpointTestResult,
  EventTypePage,
  ListEndpoints,
  RotateSecret,
  TestEndpoint,
  UpdateEndpoint,
} from "./schema.ts";

export const webhooks = router({
  create: command
    .meta(
      rest("POST", "/webhooks", "webhooks:write", "Create a webhook endpoint", {
        description:
          "Returns the signing secret, which is not shown again. Events from now on are sent to the endpoint. If it is created with `status: disabled`, they are sent after you enable it and replay `missed`. A client can have 50 endpoints.",
        errors: ["webhook_url_forbidden", "webhook_limit_reached"],
        vault: "webhook_secret",
      }),
    )
    .input(CreateEndpoint)
    .output(CreatedEndpoint)
    .mutation(({ ctx, input }) => createEndpoint(ctx.tx, input, ctx.principal.id, ctx.cipher, addressRules(ctx))),

  list: query
    .meta(
      rest("GET", "/webhooks", "webhooks:read", "List webhook endpoints", {
        description:
          "Newest first, each with its health and its missed range. Secrets are not included. `createdBy` filters by the user or key that created it.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListEndpoints)
    .output(EndpointPage)
    .query(({ ctx, input }) => listEndpoints(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/webhooks/{id}", "webhooks:read", "Get a webhook endpoint", {
        description: "Includes the URL, event types, status and health.",
        errors: ["webhook_not_found"],
      }),
    )
    .input(EndpointId)
    .output(Endpoint)
    .query(({ ctx, input }) => getEndpoint(ctx.tx, input.id)),

  update: command
    .meta(
      rest("PATCH", "/webhooks/{id}", "webhooks:write", "Update a webhook endpoint", {
        description:
          "Omitted fields keep their value; `headers` replaces all headers. While an endpoint is disabled, no deliveries are queued for it, and those that become due are dead. After you enable it, `missed` shows the range that a replay would send.",
        errors: ["webhook_not_found", "webhook_url_forbidden"],
        vault: "webhook_secret",
      }),
    )
    .input(UpdateEndpoint)
    .output(Endpoint)
    .mutation(async ({ ctx, input: { headers, ...change } }) => {
      if (headers) await setHeaders(ctx.tx, change.id, headers, ctx.cipher);
      return updateEndpoint(ctx.tx, change, addressRules(ctx));
    }),

  remove: command
    .meta(
      rest("DELETE", "/webhooks/{id}", "webhooks:write", "Delete a webhook endpoint", {
        description: "Pending deliveries to this endpoint become dead.",
        errors: ["webhook_not_found"],
      }),
    )
    .input(EndpointId)
    .mutation(({ ctx, input }) => removeEndpoint(ctx.tx, input.id)),

  rotateSecret: command
    .meta(
      rest("POST", "/webhooks/{id}/rotate-secret", "webhooks:write", "Rotate the signing secret of an endpoint", {
        description:
          "Returns the new secret, which is not shown again. During the overlap every delivery has both signatures, so the receiver can change the secret at any time. With `overlapHours: 0` all earlier secrets end immediately.",
        errors: ["webhook_not_found", "webhook_secret_limit_reached"],
        vault: "webhook_secret",
      }),
    )
    .input(RotateSecret)
    .output(CreatedEndpoint)
    .mutation(({ ctx, input }) => rotateSecret(ctx.tx, input, ctx.cipher)),

  test: providerQuery
    .meta(
      rest("POST", "/webhooks/{id}/test", "webhooks:write", "Send a test event", {
        description:
          "Sends an example event, signed like a delivery, and returns the response. A failed test returns 200 too. Nothing is stored. It also works while the endpoint is disabled.",
        errors: ["webhook_not_found"],
        vault: "webhook_secret",
      }),
    )
    .input(TestEndpoint)
    .output(EndpointTestResult)
    .mutation(({ ctx, input }) => {
      const { cipher, principal, providers } = ctx;
      return ctx.queryProvider(
        testEndpoint(input, { clientId: principal.clientId, cipher, sender: providers.webhooks }),
      );
    }),

  replay: command
    .meta(
      rest("POST", "/webhooks/{id}/replay", "webhooks:write", "Replay events to an endpoint", {
        description:
          "Sends a time range of events again, at a rate that leaves room for new events. Receivers detect duplicates by `webhook-id`. An endpoint can have one running replay.",
        status: 202,
        accepted: {
          description: "The replay is running. Get it by its id to see its progress.",
          example: { status: "running", queued: 0, progress: { delivered: 0, dead: 0, pending: 0 } },
        },
        errors: ["webhook_not_found", "webhook_disabled", "replay_running"],
      }),
    )
    .input(StartReplay)
    .output(Replay)
    .mutation(({ ctx, input }) => startReplay(ctx.tx, input)),

  replays: router({
    list: query
      .meta(
        rest("GET", "/webhooks/{id}/replays", "webhooks:read", "List the replays of an endpoint", {
          description: "Newest first, each with its progress.",
          errors: ["webhook_not_found", "cursor_invalid"],
        }),
      )
      .input(ListReplays)
      .output(ReplayPage)
      .query(({ ctx, input }) => listReplays(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/webhooks/replays/{id}", "webhooks:read", "Get a replay", {
          description: "Includes the number of queued deliveries and their results.",
          errors: ["replay_not_found"],
        }),
      )
      .input(ReplayId)
      .output(Replay)
      .query(({ ctx, input }) => getReplay(ctx.tx, input.id)),

    cancel: command
      .meta(
        rest("POST", "/webhooks/replays/{id}/cancel", "webhooks:write", "Cancel a replay", {
          description: "The replay stops queueing deliveries. Deliveries that are already queued are still sent.",
          errors: ["replay_not_found", "replay_finished"],
        }),
      )
      .input(ReplayId)
      .output(Replay)
      .mutation(({ ctx, input }) => cancelReplay(ctx.tx, input.id)),
  }),

  eventTypes: query
    .meta(
      rest("GET", "/webhooks/event-types", "webhooks:read", "List event types", {
        description: "All types that an endpoint can subscribe to, with their descriptions, on one page.",
      }),
    )
    .output(EventTypePage)
    .query(() => listEventTypes()),

  deliveries: router({
    list: query
      .meta(
        rest("GET", "/webhooks/{id}/deliveries", "webhooks:read", "List the deliveries of an endpoint", {
          description: "Newest first. `status=dead` lists the dead letters.",
          errors: ["webhook_not_found", "event_not_found", "resource_not_found", "cursor_invalid"],
        }),
      )
      .input(ListDeliveries)
      .output(DeliveryPage)
      .query(({ ctx, input }) => listDeliveries(ctx.tx, input, ctx.listKey)),

    search: query
      .meta(
        rest("GET", "/webhooks/deliveries", "webhooks:read", "Search deliveries", {
          description:
            "Newest first, across all your endpoints. A delivery must match all filters. `status=dead` lists the dead letters.",
          errors: ["webhook_not_found", "event_not_found", "resource_not_found", "cursor_invalid"],
        }),
      )
      .input(SearchDeliveries)
      .output(DeliveryPage)
      .query(({ ctx, input }) => searchDeliveries(ctx.tx, input, ctx.listKey)),

    redeliver: command
      .meta(
        rest("POST", "/webhooks/deliveries/{id}/redeliver", "webhooks:write", "Redeliver a delivery", {
          description:
            "Sends it now, with the same `webhook-id` and a full schedule of attempts, even if it waits for its next attempt. A delivery in flight is returned unchanged.",
          errors: ["delivery_not_found", "webhook_not_found", "webhook_disabled", "event_expired"],
        }),
      )
      .input(DeliveryId)
      .output(Delivery)
      .mutation(({ ctx, input }) => redeliver(ctx.tx, input.id)),

    get: query
      .meta(
        rest("GET", "/webhooks/deliveries/{id}", "webhooks:read", "Get a delivery with its attempts", {
          description: "Includes its status and every attempt with time, latency and response.",
          errors: ["delivery_not_found"],
        }),
      )
      .input(DeliveryId)
      .output(DeliveryWithAttempts)
      .query(({ ctx, input }) => getDelivery(ctx.tx, input.id)),
  }),
});

const addressRules = ({ providers }: Pick<Context, "providers">) => providers.guarded.rules;
