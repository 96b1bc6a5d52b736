import { z } from "zod";
import { examples, Id, Timestamp, TimestampInput } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";
import { endpointId, fields } from "../schema.ts";

const which = z.enum(["dead", "missed", "all"]).meta({
  description:
    "`dead`: its dead letters of types that it wants. `missed`: events that were never queued for it, as while it was switched off. `all`: every event that it wants.",
  examples: ["dead"],
});

export const StartReplay = z.strictObject({
  id: endpointId,
  which,
  since: TimestampInput.optional().meta({
    description:
      "Events of this moment or later. Left out: with `missed`, since it was switched off; with `dead`, of the last 30 days.",
    examples: ["2026-11-01T00:00:00Z"],
  }),
  until: TimestampInput.optional().meta({
    description: "Events before this moment. Left out, or later than now: until now.",
    examples: ["2026-11-22T10:15:30Z"],
  }),
  eventTypes: fields.eventTypes.optional().meta({
    description: "Of those that the endpoint wants now, these alone.",
    examples: [["call.*"]],
  }),
});
export type StartReplay = z.output<typeof StartReplay>;

export const ReplayId = z.strictObject({ id: Id("replay", examples.replay) });
export const ListReplays = z.strictObject({ ...PageInput, id: endpointId });
export type ListReplays = z.output<typeof ListReplays>;

const counted = z.int().meta({ examples: [120] });

export const Replay = z
  .object({
    id: Id("replay", examples.replay),
    endpointId,
    which,
    since: Timestamp,
    until: Timestamp,
    eventTypes: z
      .array(z.string())
      .nullable()
      .meta({ examples: [["call.*"]] }),
    status: z.enum(["running", "completed", "cancelled"]).meta({
      description: "`completed`: all of it is queued; `progress` says what becomes of it.",
      examples: ["running"],
    }),
    queued: z.int().meta({ description: "Deliveries that it has queued so far.", examples: [120] }),
    progress: z.object({ delivered: counted, dead: counted, pending: counted }).meta({
      description: "How the deliveries stand now that no later replay has sent.",
      id: "WebhookReplayProgress",
    }),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable().meta({ examples: [null] }),
  })
  .meta({ id: "WebhookReplay" });
export type Replay = z.output<typeof Replay>;
export const ReplayPage = pageOf(Replay);
