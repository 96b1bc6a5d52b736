import { z } from "zod";
import { type Followed, followEvents } from "../core/follow-events.ts";
import { liveQuery, query, router } from "../core/procedures.ts";
import { rest, subscription } from "../core/rest-metadata.ts";
import { EventId, EventPage, EventWithDeliveries, FollowEvents, ListEvents } from "./schema.ts";
import { getEvent, listEvents } from "./service.ts";

/** What it gives is made by `followEvents`, piece by piece: there is no whole to look at. */
const Stream = z.custom<AsyncIterable<Followed, void, void>>((value) => Symbol.asyncIterator in Object(value));

export const events = router({
  list: query
    .meta(
      rest("GET", "/events", "events:read", "List events", {
        description:
          "Newest first, or with `order=asc` in the order in which they were committed: a reader who keeps the cursor misses none.",
        faults: ["resource_not_found", "cursor_invalid"],
      }),
    )
    .input(ListEvents)
    .output(EventPage)
    .query(({ ctx, input }) => listEvents(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/events/{id}", "events:read", "Get an event with its deliveries", {
        description:
          "The event as it was stated, and how far it has come on its way to each webhook endpoint that wanted it.",
        faults: ["event_not_found"],
      }),
    )
    .input(EventId)
    .output(EventWithDeliveries)
    .query(({ ctx, input }) => getEvent(ctx.tx, input.id)),

  stream: liveQuery
    .meta(subscription("events:read"))
    .input(FollowEvents)
    .output(Stream)
    .subscription(({ ctx, input }) => followEvents(ctx.follower, input)),
});
