import { z } from "zod";
import { eventTypes } from "../../db/events.ts";
import { PageInput, pageOf } from "../page.ts";
import { examples, Id, Instant } from "../words.ts";

/** What happened, the same on this door and in the body of a webhook. */
export const Event = z
  .object({
    id: Id("event", examples.event).meta({ description: "The `webhook-id` of its deliveries." }),
    type: z.string().meta({ examples: ["call.ended"] }),
    createdAt: Instant,
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

export const ListEvents = z.strictObject({
  ...PageInput,
  order: z
    .enum(["asc", "desc"])
    .default("desc")
    .meta({
      description: "`asc` tails: in the order of commits, skipping none; keep `nextCursor`, also of an empty page.",
      examples: ["desc"],
    }),
  type: z
    .enum(eventTypes)
    .optional()
    .meta({ examples: ["call.ended"] }),
  subjectId: z
    .string()
    .min(1)
    .max(100)
    .optional()
    .meta({ examples: [examples.call] }),
});
export type ListEvents = z.output<typeof ListEvents>;
