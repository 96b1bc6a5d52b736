import { z } from "zod";
import { eventTypes, subjectTypes } from "../../db/events.ts";
import { canMatch } from "../core/event-pattern.ts";
import { examples, Id, Timestamp, TimestampInput } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { DeliveryError } from "../core/webhook-error-codes.ts";

/** What happened, the same on this door and in the body of a webhook. */
export const Event = z
  .object({
    id: Id("event", examples.event).meta({ description: "The `webhook-id` of its deliveries." }),
    type: z.string().meta({ examples: ["call.ended"] }),
    createdAt: Timestamp,
    clientId: Id("client", examples.client),
    subject: z.object({
      type: z.string().meta({ examples: ["call"] }),
      id: z.string().meta({ examples: [examples.call] }),
      sequence: z.int().meta({ description: "Grows by one with every event of this subject.", examples: [4] }),
    }),
    data: z.record(z.string(), z.unknown()).meta({ examples: [{ id: examples.call, status: "ended" }] }),
  })
  .meta({ id: "Event" });
export type Event = z.output<typeof Event>;
export const EventPage = pageOf(Event);

export const EventId = z.strictObject({ id: Id("event", examples.event) });

/** An event on its way to one endpoint, as far as it has come. */
const EventDelivery = z
  .object({
    id: Id("delivery", examples.delivery),
    endpointId: Id("endpoint", examples.endpoint),
    status: z.enum(["pending", "delivered", "dead"]).meta({ examples: ["delivered"] }),
    attemptCount: z.int().meta({ description: "Attempts made so far.", examples: [1] }),
    lastStatus: z
      .int()
      .nullable()
      .meta({ description: "Of the last answer; null when none came.", examples: [200] }),
    lastError: DeliveryError,
    nextAttemptAt: Timestamp.nullable(),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable(),
  })
  .meta({ id: "EventDelivery" });

export const EventWithDeliveries = Event.extend({
  deliveries: z
    .array(EventDelivery)
    .meta({ description: "One for each webhook endpoint that wanted it, oldest first." }),
}).meta({ id: "EventWithDeliveries" });
export type EventWithDeliveries = z.output<typeof EventWithDeliveries>;

const types = z
  .array(z.string().max(100))
  .min(1)
  .max(100)
  .superRefine((patterns, check) => {
    for (const [index, pattern] of patterns.entries()) {
      if (canMatch(pattern, eventTypes)) continue;
      check.addIssue({
        code: "custom",
        path: [index],
        message: "No event has this type; see GET /webhooks/event-types.",
      });
    }
  })
  .meta({ description: "Event types, `call.*` for all of a kind.", examples: [["call.*", "agent.created"]] });

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
        "`asc` tails: in the order of commits, skipping none. Every page has a `nextCursor` then, also an empty one: keep it.",
      examples: ["desc"],
    }),
  type: z
    .enum(eventTypes)
    .optional()
    .meta({ description: "Events of this one type, written out: patterns are for `types`.", examples: ["call.ended"] }),
  types: types.optional(),
  subjectType: z
    .enum(subjectTypes)
    .optional()
    .meta({ description: "Events about things of this kind.", examples: ["call"] }),
  subjectId: subjectId.optional().meta({ description: "Events about this one thing.", examples: [examples.call] }),
  since: TimestampInput.optional().meta({
    description: "Stated at this moment or later.",
    examples: ["2026-01-01T00:00:00.000Z"],
  }),
  until: TimestampInput.optional().meta({
    description: "Stated before this moment.",
    examples: ["2030-01-01T00:00:00.000Z"],
  }),
});
export type ListEvents = z.output<typeof ListEvents>;

const position = z.string().min(1).max(1024);

export const FollowEvents = z.strictObject({
  after: position
    .optional()
    .meta({ description: "The id of something that a stream gave before; left out, it begins now." }),
  lastEventId: position
    .optional()
    .meta({ description: "The same, as a reader that lost its line sends it by itself. It goes before `after`." }),
  types: types.optional(),
  // Not looked up: what was made a moment ago, such as an agent that is not ready yet, has no event to be known by.
  subjectId: subjectId.optional(),
});
export type FollowEvents = z.output<typeof FollowEvents>;
