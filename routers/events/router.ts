import { z } from "zod";
import { liveQuery, query, router } from "../core/procedures.ts";
import { rest, subscription } from "../core/rest-metadata.ts";
import { type Followed, followEvents } from "./follow.ts";
import { EventId, EventPage, EventWithDeliveries, FollowEvents, ListEvents } from "./schema.ts";
import { getEvent, listEvents } from "./service.ts";

/** `followEvents` yields the items one by one, so only the shape of an async iterable can be checked. */
const Stream = z.custom<AsyncIterable<Followed, void, void>>((value) => Symbol.asyncIterator in Object(value));

export const events = router({
  list: query
    .meta(
      rest("GET", "/events", "events:read", "List events", {
        description: "Newest first. With `order=asc`, in commit order: a reader that keeps the cursor misses no event.",
        errors: ["resource_not_found", "cursor_invalid"],
      }),
    )
    .input(ListEvents)
    .output(EventPage)
    .query(({ ctx, input }) => listEvents(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/events/{id}", "events:read", "Get an event with its deliveries", {
        description: "Returns the event and the status of its delivery to each subscribed webhook endpoint.",
        errors: ["event_not_found"],
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
