import { rest } from "../rest.ts";
import { query, router } from "../trpc.ts";
import { EventPage, ListEvents } from "./schema.ts";
import { listEvents } from "./service.ts";

export const events = router({
  list: query
    .meta(
      rest("GET", "/events", "events:read", "List events", {
        description:
          "Newest first, or with `order=asc` in the order in which they were committed: a reader who keeps the cursor misses none.",
        faults: ["subject_not_found", "cursor_invalid"],
      }),
    )
    .input(ListEvents)
    .output(EventPage)
    .query(({ ctx, input }) => listEvents(ctx.tx, input, ctx.listKey)),
});
