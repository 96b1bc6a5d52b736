import { z } from "zod";
import { eventTypes } from "../../../db/events.ts";
import { canMatch } from "../../core/event-pattern.ts";
import { examples, Id, Timestamp, TimestampInput } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";
import { AttemptError, DeliveryError, deliveryErrors } from "../../core/webhook-error-codes.ts";
import { endpointId } from "../schema.ts";

const statuses = ["pending", "delivered", "dead"] as const;

const filters = {
  status: z
    .enum(statuses)
    .optional()
    .meta({ description: "`dead` selects the dead letters.", examples: ["dead"] }),
  eventType: z
    .string()
    .max(100)
    .refine(
      (pattern) => canMatch(pattern, eventTypes),
      "There is no such event type. GET /webhooks/event-types lists them.",
    )
    .optional()
    .meta({ description: "An event type, or a pattern such as `call.*`.", examples: ["call.ended"] }),
  eventId: Id("event", examples.event).optional().meta({ description: "Deliveries of this event, to any endpoint." }),
  subjectId: z
    .string()
    .min(1)
    .max(100)
    .optional()
    .meta({ description: "Deliveries of events about this resource, such as a call.", examples: [examples.call] }),
  lastStatus: z
    .int()
    .min(100)
    .max(599)
    .optional()
    .meta({ description: "The HTTP status of the last response.", examples: [503] }),
  lastError: z
    .enum(Object.keys(deliveryErrors))
    .optional()
    .meta({ description: "The error code of the last attempt.", examples: ["timeout"] }),
  createdAfter: TimestampInput.optional().meta({
    description: "Created at this time or later.",
    examples: ["2026-11-01T00:00:00Z"],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Created before this time.",
    examples: ["2099-01-01T00:00:00Z"],
  }),
};

export const ListDeliveries = z.strictObject({ ...PageInput, id: endpointId, ...filters });
export type ListDeliveries = z.output<typeof ListDeliveries>;

export const SearchDeliveries = z.strictObject({
  ...PageInput,
  endpointId: endpointId
    .optional()
    .meta({ description: "Deliveries to this endpoint, which may be deleted.", examples: [examples.endpoint] }),
  ...filters,
});
export type SearchDeliveries = z.output<typeof SearchDeliveries>;

export const DeliveryId = z.strictObject({ id: Id("delivery", examples.delivery) });

const status = z
  .int()
  .nullable()
  .meta({ description: "The HTTP status of the response; null: there was no response.", examples: [200] });

const delivery = {
  id: Id("delivery", examples.delivery),
  endpointId,
  eventId: Id("event", examples.event),
  eventType: z.string().meta({ examples: ["call.ended"] }),
  status: z.enum(statuses).meta({ examples: ["delivered"] }),
  attemptCount: z
    .int()
    .meta({ description: "Attempts made so far. Each delivery and redelivery makes ten at most.", examples: [1] }),
  lastStatus: status,
  lastError: DeliveryError,
  replayId: Id("replay", examples.replay)
    .nullable()
    .meta({ description: "The replay that last sent this delivery, if any.", examples: [null] }),
  nextAttemptAt: Timestamp.nullable(),
  createdAt: Timestamp,
  finishedAt: Timestamp.nullable(),
};

export const Delivery = z.object(delivery).meta({ id: "WebhookDelivery" });
export type Delivery = z.output<typeof Delivery>;
export const DeliveryPage = pageOf(Delivery);

export const DeliveryWithAttempts = z
  .object({
    ...delivery,
    attempts: z.array(
      z.object({
        attempt: z.int().meta({ examples: [1] }),
        status,
        error: AttemptError,
        latencyMs: z.int().meta({ examples: [87] }),
        response: z
          .string()
          .nullable()
          .meta({ description: "The first kilobyte of the response body.", examples: ["ok"] }),
        createdAt: Timestamp,
      }),
    ),
  })
  .meta({ id: "WebhookDeliveryWithAttempts" });
export type DeliveryWithAttempts = z.output<typeof DeliveryWithAttempts>;
