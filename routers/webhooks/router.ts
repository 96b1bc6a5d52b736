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
  EndpointTrial,
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
          "Answers the signing secret, this once. Events are sent there from now on; with `status` `disabled` only once it is enabled, and `missed` says what a replay would bring. A client has 50 endpoints at most.",
        faults: ["webhook_url_forbidden", "webhook_limit_reached"],
        vault: "webhook_secret",
      }),
    )
    .input(CreateEndpoint)
    .output(CreatedEndpoint)
    .mutation(({ ctx, input }) => createEndpoint(ctx.tx, input, ctx.cipher, addressRules(ctx))),

  list: query
    .meta(
      rest("GET", "/webhooks", "webhooks:read", "List webhook endpoints", {
        description:
          "Newest first, each with its health and with what it missed while it was switched off. Secrets are not shown.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListEndpoints)
    .output(EndpointPage)
    .query(({ ctx, input }) => listEndpoints(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/webhooks/{id}", "webhooks:read", "Get a webhook endpoint", {
        description: "Where it sends which events, whether it is enabled, and how its attempts went of late.",
        faults: ["webhook_not_found"],
      }),
    )
    .input(EndpointId)
    .output(Endpoint)
    .query(({ ctx, input }) => getEndpoint(ctx.tx, input.id)),

  update: command
    .meta(
      rest("PATCH", "/webhooks/{id}", "webhooks:write", "Change a webhook endpoint", {
        description:
          "What is left out stays; `headers` are replaced whole. While an endpoint is disabled nothing new is queued for it, and what falls due for it is dead; once it is enabled again, `missed` says what a replay would bring.",
        faults: ["webhook_not_found", "webhook_url_forbidden"],
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
        description: "What was still on its way there is dead.",
        faults: ["webhook_not_found"],
      }),
    )
    .input(EndpointId)
    .mutation(({ ctx, input }) => removeEndpoint(ctx.tx, input.id)),

  rotateSecret: command
    .meta(
      rest("POST", "/webhooks/{id}/rotate-secret", "webhooks:write", "Replace the signing secret of an endpoint", {
        description:
          "Answers the new secret, this once. For the overlap every delivery carries the signatures of both, so that a receiver may change over in its own time. With `overlapHours: 0` all earlier secrets end at once.",
        faults: ["webhook_not_found", "webhook_secret_limit_reached"],
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
          "Sends the example of an event, now and signed as a delivery is, and answers what came back: a failure too, with 200. Nothing of it is kept, and it works while the endpoint is disabled.",
        faults: ["webhook_not_found"],
        vault: "webhook_secret",
      }),
    )
    .input(TestEndpoint)
    .output(EndpointTrial)
    .mutation(({ ctx, input }) => {
      const { cipher: ring, principal, providers } = ctx;
      return ctx.queryProvider(testEndpoint(input, { clientId: principal.clientId, ring, sender: providers.webhooks }));
    }),

  replay: command
    .meta(
      rest("POST", "/webhooks/{id}/replay", "webhooks:write", "Send events to an endpoint once more", {
        description:
          "By the thousand, at a pace that leaves room for what happens meanwhile. Receivers know what they have seen by its `webhook-id`. One replay per endpoint at a time.",
        status: 202,
        accepted: {
          says: "It has begun; ask for it by its id.",
          shows: { status: "running", queued: 0, progress: { delivered: 0, dead: 0, pending: 0 } },
        },
        faults: ["webhook_not_found", "webhook_disabled", "replay_running"],
      }),
    )
    .input(StartReplay)
    .output(Replay)
    .mutation(({ ctx, input }) => startReplay(ctx.tx, input)),

  replays: router({
    list: query
      .meta(
        rest("GET", "/webhooks/{id}/replays", "webhooks:read", "List the replays to an endpoint", {
          description: "Newest first, each with how far it has come.",
          faults: ["webhook_not_found", "cursor_invalid"],
        }),
      )
      .input(ListReplays)
      .output(ReplayPage)
      .query(({ ctx, input }) => listReplays(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/webhooks/replays/{id}", "webhooks:read", "See how far a replay has come", {
          description: "How many deliveries it has queued, and what has become of them.",
          faults: ["replay_not_found"],
        }),
      )
      .input(ReplayId)
      .output(Replay)
      .query(({ ctx, input }) => getReplay(ctx.tx, input.id)),

    cancel: command
      .meta(
        rest("POST", "/webhooks/replays/{id}/cancel", "webhooks:write", "Stop a replay", {
          description: "It queues no more. What it has queued already goes its way.",
          faults: ["replay_not_found", "replay_finished"],
        }),
      )
      .input(ReplayId)
      .output(Replay)
      .mutation(({ ctx, input }) => cancelReplay(ctx.tx, input.id)),
  }),

  eventTypes: query
    .meta(
      rest("GET", "/webhooks/event-types", "webhooks:read", "List the types of events", {
        description: "Every type that an endpoint can ask for, with what it says, all on one page.",
      }),
    )
    .output(EventTypePage)
    .query(() => listEventTypes()),

  deliveries: router({
    list: query
      .meta(
        rest("GET", "/webhooks/{id}/deliveries", "webhooks:read", "List the deliveries of an endpoint", {
          description: "The dead letters are those with `status=dead`.",
          faults: ["webhook_not_found", "event_not_found", "resource_not_found", "cursor_invalid"],
        }),
      )
      .input(ListDeliveries)
      .output(DeliveryPage)
      .query(({ ctx, input }) => listDeliveries(ctx.tx, input, ctx.listKey)),

    search: query
      .meta(
        rest("GET", "/webhooks/deliveries", "webhooks:read", "Search the deliveries of all endpoints", {
          description:
            "Newest first, over all your endpoints. All filters that are given must hold; the dead letters are those with `status=dead`.",
          faults: ["webhook_not_found", "event_not_found", "resource_not_found", "cursor_invalid"],
        }),
      )
      .input(SearchDeliveries)
      .output(DeliveryPage)
      .query(({ ctx, input }) => searchDeliveries(ctx.tx, input, ctx.listKey)),

    redeliver: command
      .meta(
        rest("POST", "/webhooks/deliveries/{id}/redeliver", "webhooks:write", "Send a delivery once more", {
          description:
            "Now, with the same `webhook-id`, and with all its attempts to come: also one that waits for its next attempt. One that is on its way is answered as it is.",
          faults: ["delivery_not_found", "webhook_not_found", "webhook_disabled", "event_expired"],
        }),
      )
      .input(DeliveryId)
      .output(Delivery)
      .mutation(({ ctx, input }) => redeliver(ctx.tx, input.id)),

    get: query
      .meta(
        rest("GET", "/webhooks/deliveries/{id}", "webhooks:read", "Get a delivery with its attempts", {
          description: "Where it goes and how it stands, with every attempt: when, how long, and what was answered.",
          faults: ["delivery_not_found"],
        }),
      )
      .input(DeliveryId)
      .output(DeliveryWithAttempts)
      .query(({ ctx, input }) => getDelivery(ctx.tx, input.id)),
  }),
});

const addressRules = ({ providers }: Pick<Context, "providers">) => providers.guarded.rules;
