import { rest } from "../rest.ts";
import { command, query, router } from "../trpc.ts";
import {
  CreatedEndpoint,
  CreateEndpoint,
  DeliveryId,
  DeliveryPage,
  DeliveryWithAttempts,
  Endpoint,
  EndpointId,
  EndpointPage,
  EventTypePage,
  ListDeliveries,
  ListEndpoints,
  UpdateEndpoint,
} from "./schema.ts";
import {
  createEndpoint,
  getDelivery,
  getEndpoint,
  listDeliveries,
  listEndpoints,
  listEventTypes,
  removeEndpoint,
  updateEndpoint,
} from "./service.ts";

export const webhooks = router({
  create: command
    .meta(
      rest("POST", "/webhooks", "webhooks:write", "Create a webhook endpoint", {
        description: "Answers the signing secret, this once. Events are sent there from now on.",
        faults: ["webhook_url_forbidden"],
        vault: "webhook_secret",
      }),
    )
    .input(CreateEndpoint)
    .output(CreatedEndpoint)
    .mutation(({ ctx, input }) => createEndpoint(ctx.tx, input, ctx.ring, addressRules(ctx))),

  list: query
    .meta(rest("GET", "/webhooks", "webhooks:read", "List webhook endpoints", { faults: ["cursor_invalid"] }))
    .input(ListEndpoints)
    .output(EndpointPage)
    .query(({ ctx, input }) => listEndpoints(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(rest("GET", "/webhooks/{id}", "webhooks:read", "Get a webhook endpoint", { faults: ["webhook_not_found"] }))
    .input(EndpointId)
    .output(Endpoint)
    .query(({ ctx, input }) => getEndpoint(ctx.tx, input.id)),

  update: command
    .meta(
      rest("PATCH", "/webhooks/{id}", "webhooks:write", "Change a webhook endpoint", {
        description: "While an endpoint is disabled nothing new is queued for it, and what falls due for it is dead.",
        faults: ["webhook_not_found", "webhook_url_forbidden"],
      }),
    )
    .input(UpdateEndpoint)
    .output(Endpoint)
    .mutation(({ ctx, input }) => updateEndpoint(ctx.tx, input, addressRules(ctx))),

  remove: command
    .meta(
      rest("DELETE", "/webhooks/{id}", "webhooks:write", "Delete a webhook endpoint", {
        description: "What was still on its way there is dead.",
        faults: ["webhook_not_found"],
      }),
    )
    .input(EndpointId)
    .mutation(({ ctx, input }) => removeEndpoint(ctx.tx, input.id)),

  eventTypes: query
    .meta(rest("GET", "/webhooks/event-types", "webhooks:read", "List the types of events"))
    .output(EventTypePage)
    .query(() => listEventTypes()),

  deliveries: router({
    list: query
      .meta(
        rest("GET", "/webhooks/{id}/deliveries", "webhooks:read", "List the deliveries of an endpoint", {
          description: "The dead letters are those with `state=dead`.",
          faults: ["webhook_not_found", "cursor_invalid"],
        }),
      )
      .input(ListDeliveries)
      .output(DeliveryPage)
      .query(({ ctx, input }) => listDeliveries(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/webhooks/deliveries/{id}", "webhooks:read", "Get a delivery with its attempts", {
          faults: ["webhook_not_found"],
        }),
      )
      .input(DeliveryId)
      .output(DeliveryWithAttempts)
      .query(({ ctx, input }) => getDelivery(ctx.tx, input.id)),
  }),
});

const addressRules = ({ settings }: { settings: { allowPrivateWebhooks: boolean } }) => ({
  allowPrivate: settings.allowPrivateWebhooks,
});
