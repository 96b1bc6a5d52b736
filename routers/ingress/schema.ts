import { z } from "zod";
import { examples, Id, Timestamp, TimestampInput } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { ingressProviders, ingressStatuses } from "./service.ts";

const Provider = z.enum(ingressProviders).meta({ examples: ["telnyx"] });
const State = z.enum(ingressStatuses).meta({ examples: ["failed"] });
const EventType = z
  .string()
  .max(300)
  .meta({ description: "As the provider calls it.", examples: ["call.hangup"] });

export const IngressId = z.strictObject({ id: Id("ingress", examples.ingress) });

export const ListIngress = z.strictObject({
  ...PageInput,
  provider: Provider.optional().meta({ description: "What this company sent.", examples: ["telnyx"] }),
  status: State.optional().meta({ description: "What stands thus at present.", examples: ["failed"] }),
  eventType: EventType.optional(),
  account: z
    .string()
    .max(100)
    .optional()
    .meta({
      description: "Whose secret or key signed: `pacc_…` of the installation, `cred_…` of a client.",
      examples: ["pacc_platform"],
    }),
  clientId: Id("client", examples.client).optional().meta({ description: "What was about something of this client." }),
  subjectId: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "What it was about.", examples: [examples.call] }),
  since: TimestampInput.optional().meta({
    description: "Received at this moment or later.",
    examples: [examples.instant],
  }),
  until: TimestampInput.optional().meta({ description: "Received before this moment.", examples: [examples.instant] }),
});
export type ListIngress = z.output<typeof ListIngress>;

const message = {
  id: Id("ingress", examples.ingress),
  provider: Provider,
  account: z.string().meta({ examples: ["pacc_platform"] }),
  key: z.string().meta({ description: "What makes it one, however often it is sent.", examples: ["evt_1PqX2k"] }),
  eventType: EventType,
  status: State,
  stale: z.boolean().meta({
    description: "Rightly signed, but outside the time window: the provider was asked instead.",
    examples: [false],
  }),
  note: z
    .string()
    .nullable()
    .meta({ description: "Why it was ignored, or failed.", examples: ["No call of this account."] }),
  attempts: z.int().meta({ description: "How often it was looked at to the end.", examples: [1] }),
  verifiedBy: z.string().meta({ description: "Which secret or key matched.", examples: ["pacc_platform#1"] }),
  clientId: Id("client", examples.client).nullable(),
  subjectId: z
    .string()
    .nullable()
    .meta({ examples: [examples.call] }),
  receivedAt: Timestamp,
  appliedAt: Timestamp.nullable(),
};

export const IngressMessage = z.object(message).meta({ id: "IngressMessage" });
export type IngressMessage = z.output<typeof IngressMessage>;
export const IngressPage = pageOf(IngressMessage);

export const IngressDetail = z
  .object({
    ...message,
    headers: z.record(z.string(), z.string()).meta({
      description: "Those that matter; no signature, no secret.",
      examples: [{ "telnyx-timestamp": "1795535000" }],
    }),
    body: z.string().meta({
      description: "Word for word but for secrets; empty where its call is erased.",
      examples: ['{"data":{"event_type":"call.hangup"}}'],
    }),
  })
  .meta({ id: "IngressDetail" });
export type IngressDetail = z.output<typeof IngressDetail>;

export const ReprocessIngress = z.strictObject({
  provider: Provider.optional(),
  eventType: EventType.optional(),
  statuses: z
    .array(State)
    .min(1)
    .max(ingressStatuses.length)
    .default(["failed"])
    .meta({ description: "Those in one of these statuses.", examples: [["failed", "ignored"]] }),
  since: TimestampInput.meta({ description: "Received at this moment or later.", examples: [examples.instant] }),
  until: TimestampInput.optional().meta({
    description: "Received before this moment; now, if left out.",
    examples: ["2026-11-23T10:15:30.000Z"],
  }),
});
export type ReprocessIngress = z.output<typeof ReprocessIngress>;

export const Reprocessing = z
  .object({
    provider: Provider.nullable(),
    eventType: EventType.nullable(),
    statuses: z.array(State).meta({ examples: [["failed"]] }),
    since: Timestamp,
    until: Timestamp,
    found: z.int().meta({ description: "How many the filter finds now, counted up to 100 000.", examples: [17] }),
  })
  .meta({ id: "IngressReprocessing" });
export type Reprocessing = z.output<typeof Reprocessing>;
