import { z } from "zod";
import { eventTypes, subjectTypes } from "../../db/events.ts";
import { EventPatterns } from "../core/event-pattern.ts";
import { examples, Id, Timestamp, TimestampInput } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { DeliveryError } from "../core/webhook-error-codes.ts";

/** An event, the same in this API and in the body of a webhook. */
export const Event = z
  .object({
    id: Id("event", examples.event).meta({ description: "Also the `webhook-id` of its deliveries." }),
    type: z.string().meta({ examples: ["call.ended"] }),
    createdAt: Timestamp,
    clientId: Id("client", examples.client),
    subject: z.object({
      type: z.string().meta({ examples: ["call"] }),
      id: z.string().meta({ examples: [examples.call] }),
      sequence: z.int().meta({ description: "Grows by one with each event of the subject.", examples: [4] }),
    }),
    data: z.record(z.string(), z.unknown()).meta({ examples: [{ id: examples.call, status: "ended" }] }),
  })
  .meta({ id: "Event" });
export type Event = z.output<typeof Event>;
export const EventPage = pageOf(Event);

export const EventId = z.strictObject({ id: Id("event", examples.event) });

/** The delivery of an event to one endpoint. */
const EventDelivery = z
  .object({
    id: Id("delivery", examples.delivery),
    endpointId: Id("endpoint", examples.endpoint),
    status: z.enum(["pending", "delivered", "dead"]).meta({ examples: ["delivered"] }),
    attemptCount: z.int().meta({ description: "Attempts made so far.", examples: [1] }),
    lastStatus: z
      .int()
      .nullable()
      .meta({ description: "The HTTP status of the last response. null if there was none.", examples: [200] }),
    lastError: DeliveryError,
    nextAttemptAt: Timestamp.nullable(),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable(),
  })
  .meta({ id: "EventDelivery" });

export const EventWithDeliveries = Event.extend({
  deliveries: z.array(EventDelivery).meta({ description: "One per subscribed webhook endpoint, oldest first." }),
}).meta({ id: "EventWithDeliveries" });
export type EventWithDeliveries = z.output<typeof EventWithDeliveries>;

const types = EventPatterns.meta({
  description: "Event types. `call.*` matches all types that start with `call.`.",
  examples: [["call.*", "agent.created"]],
});

const subjectId = z
  .string()
  .min(1)
  .max(100)
  .meta({ examples: [examples.call] });

export const ListEvents = z.strictObject({
  ...PageInput,
  order: z
    .enum(["asc", "desc"])
    .default("desc")
    .meta({
      description:
        "`asc`: in commit order, without gaps. Each page has a `nextCursor`, also an empty one: keep it to continue.",
      examples: ["desc"],
    }),
  type: z
    .enum(eventTypes)
    .optional()
    .meta({ description: "Events of exactly this type. Use `types` for patterns.", examples: ["call.ended"] }),
  types: types.optional(),
  subjectType: z
    .enum(subjectTypes)
    .optional()
    .meta({ description: "Events about this type of resource.", examples: ["call"] }),
  subjectId: subjectId.optional().meta({ description: "Events about this resource.", examples: [examples.call] }),
  createdAfter: TimestampInput.optional().meta({
    description: "Created at this time or later.",
    examples: ["2026-01-01T00:00:00.000Z"],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Created before this time.",
    examples: ["2030-01-01T00:00:00.000Z"],
  }),
});
export type ListEvents = z.output<typeof ListEvents>;

const position = z.string().min(1).max(1024);

export const FollowEvents = z.strictObject({
  after: position.optional().meta({ description: "The id of an item of an earlier stream. Default: start now." }),
  lastEventId: position.optional().meta({
    description: "The same, as sent automatically by an SSE client that reconnects. Takes precedence over `after`.",
  }),
  types: types.optional(),
  // Not checked for existence: a resource created a moment ago, such as an agent that is not ready, may have no event yet.
  subjectId: subjectId.optional(),
});
export type FollowEvents = z.output<typeof FollowEvents>;
