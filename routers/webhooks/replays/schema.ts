import { z } from "zod";
import { examples, Id, Timestamp, TimestampInput } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";
import { endpointId, fields } from "../schema.ts";

const which = z.enum(["dead", "missed", "all"]).meta({
  description:
    "`dead`: its dead letters. `missed`: events that were never queued for it, because it was disabled. `all`: every event. Each includes only types that the endpoint subscribes to.",
  examples: ["dead"],
});

export const StartReplay = z.strictObject({
  id: endpointId,
  which,
  createdAfter: TimestampInput.optional().meta({
    description:
      "Events created at this time or later. Default: with `missed`, when the endpoint was disabled; with `dead`, 30 days ago. Required with `all`.",
    examples: ["2026-11-01T00:00:00Z"],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Events created before this time. Default and maximum: now.",
    examples: ["2026-11-22T10:15:30Z"],
  }),
  eventTypes: fields.eventTypes.optional().meta({
    description: "Only these types, among those that the endpoint subscribes to now.",
    examples: [["call.*"]],
  }),
});
export type StartReplay = z.output<typeof StartReplay>;

export const ReplayId = z.strictObject({ id: Id("replay", examples.replay) });
export const ListReplays = z.strictObject({ ...PageInput, id: endpointId });
export type ListReplays = z.output<typeof ListReplays>;

const deliveryCount = z.int().meta({ examples: [120] });

export const Replay = z
  .object({
    id: Id("replay", examples.replay),
    endpointId,
    which,
    createdAfter: Timestamp,
    createdBefore: Timestamp,
    eventTypes: z
      .array(z.string())
      .nullable()
      .meta({ examples: [["call.*"]] }),
    status: z.enum(["running", "completed", "cancelled"]).meta({
      description: "`completed`: all deliveries are queued; `progress` counts their results.",
      examples: ["running"],
    }),
    queued: z.int().meta({ description: "Deliveries that this replay has queued so far.", examples: [120] }),
    progress: z.object({ delivered: deliveryCount, dead: deliveryCount, pending: deliveryCount }).meta({
      description: "The current statuses of these deliveries, without those that a later replay has sent.",
      id: "WebhookReplayProgress",
    }),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable().meta({ examples: [null] }),
  })
  .meta({ id: "WebhookReplay" });
export type Replay = z.output<typeof Replay>;
export const ReplayPage = pageOf(Replay);
