import { z } from "zod";
import { eventTypes } from "../../db/events.ts";
import { PageInput, pageOf } from "../page.ts";
import { examples, Id, Instant } from "../words.ts";
import { couldMatch } from "./match.ts";

const endpointId = Id("endpoint", examples.endpoint);
const statuses = ["enabled", "disabled"] as const;
const states = ["pending", "delivered", "dead"] as const;

const fields = {
  // The audit keeps it: where the events of a client went, and since when, is what an audit is asked.
  url: z
    .url()
    .max(2048)
    .meta({
      description: "https, on the open internet.",
      redact: "none",
      examples: ["https://example.com/hooks/patchbay"],
    }),
  description: z
    .string()
    .trim()
    .max(500)
    .nullable()
    .meta({ examples: ["CRM"] }),
  eventTypes: z
    .array(z.string().max(100))
    .min(1)
    .max(100)
    .superRefine((patterns, check) => {
      for (const [index, pattern] of patterns.entries()) {
        if (couldMatch(pattern, eventTypes)) continue;
        check.addIssue({
          code: "custom",
          path: [index],
          message: "No event has this type; see GET /webhooks/event-types.",
        });
      }
    })
    .meta({
      description: "Event types, `call.*` for all of a kind, `*` for all.",
      examples: [["call.*", "agent.created"]],
    }),
  status: z.enum(statuses).meta({ examples: ["enabled"] }),
};

export const CreateEndpoint = z.strictObject({
  url: fields.url,
  description: fields.description.default(null),
  eventTypes: fields.eventTypes.default(["*"]),
});
export type CreateEndpoint = z.output<typeof CreateEndpoint>;

export const UpdateEndpoint = z.strictObject({ id: endpointId, ...z.object(fields).partial().shape });
export type UpdateEndpoint = z.output<typeof UpdateEndpoint>;

export const EndpointId = z.strictObject({ id: endpointId });
export const ListEndpoints = z.strictObject(PageInput);
export type ListEndpoints = z.output<typeof ListEndpoints>;

const endpoint = {
  id: endpointId,
  url: z.string().meta({ examples: ["https://example.com/hooks/patchbay"] }),
  description: fields.description,
  eventTypes: z.array(z.string()).meta({ examples: [["call.*"]] }),
  status: fields.status,
  disabledReason: z
    .string()
    .nullable()
    .meta({ examples: [null] }),
  createdAt: Instant,
  updatedAt: Instant,
};

export const Endpoint = z.object(endpoint).meta({ id: "WebhookEndpoint" });
export type Endpoint = z.output<typeof Endpoint>;
export const EndpointPage = pageOf(Endpoint);

export const CreatedEndpoint = z
  .object({
    ...endpoint,
    secret: z.string().meta({
      description: "Signs every delivery, as Standard Webhooks says. Shown this once: keep it.",
      redact: "secret",
      examples: ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDU2Yf0mGkAnI="],
    }),
  })
  .meta({ id: "CreatedWebhookEndpoint" });
export type CreatedEndpoint = z.output<typeof CreatedEndpoint>;

export const ListDeliveries = z.strictObject({
  ...PageInput,
  id: endpointId,
  state: z
    .enum(states)
    .optional()
    .meta({ examples: ["dead"] }),
});
export type ListDeliveries = z.output<typeof ListDeliveries>;

export const DeliveryId = z.strictObject({ id: Id("delivery", examples.delivery) });

const status = z
  .int()
  .nullable()
  .meta({ description: "Of the answer; null when none came.", examples: [200] });
const error = z
  .string()
  .nullable()
  .meta({ description: "Why there was no answer, or why it did not count.", examples: [null] });

const delivery = {
  id: Id("delivery", examples.delivery),
  endpointId,
  eventId: Id("event", examples.event),
  eventType: z.string().meta({ examples: ["call.ended"] }),
  state: z.enum(states).meta({ examples: ["delivered"] }),
  attemptCount: z.int().meta({ description: "Attempts made so far, of at most ten.", examples: [1] }),
  lastStatus: status,
  lastError: error,
  nextAttemptAt: Instant.nullable(),
  createdAt: Instant,
  finishedAt: Instant.nullable(),
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
        error,
        latencyMs: z.int().meta({ examples: [87] }),
        response: z
          .string()
          .nullable()
          .meta({ description: "The first kilobyte of the answer.", examples: ["ok"] }),
        createdAt: Instant,
      }),
    ),
  })
  .meta({ id: "WebhookDeliveryWithAttempts" });
export type DeliveryWithAttempts = z.output<typeof DeliveryWithAttempts>;

export const EventTypePage = pageOf(
  z
    .object({
      type: z.string().meta({ examples: ["call.ended"] }),
      description: z.string().meta({ examples: ["The call is over. Its outcome is provisional."] }),
    })
    .meta({ id: "WebhookEventType" }),
);
