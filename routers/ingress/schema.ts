import { z } from "zod";
import { examples, Id, Timestamp, TimestampInput } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { ingressProviders, ingressStatuses } from "./service.ts";

const Provider = z.enum(ingressProviders).meta({ examples: ["telnyx"] });
const Status = z.enum(ingressStatuses).meta({ examples: ["failed"] });
const EventType = z
  .string()
  .max(300)
  .meta({ description: "The provider's name of the event type.", examples: ["call.hangup"] });

export const IngressId = z.strictObject({ id: Id("ingress", examples.ingress) });

export const ListIngress = z.strictObject({
  ...PageInput,
  provider: Provider.optional().meta({ description: "Only messages of this provider.", examples: ["telnyx"] }),
  status: Status.optional().meta({ description: "Only messages with this status.", examples: ["failed"] }),
  eventType: EventType.optional(),
  account: z
    .string()
    .max(100)
    .optional()
    .meta({
      description: "The account whose secret or key signed: `pacc_…` of the installation, `cred_…` of a client.",
      examples: ["pacc_platform"],
    }),
  clientId: Id("client", examples.client)
    .optional()
    .meta({ description: "Only messages about resources of this client." }),
  subjectId: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Only messages about this resource.", examples: [examples.call] }),
  createdAfter: TimestampInput.optional().meta({
    description: "Received at this time or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Received before this time.",
    examples: [examples.instant],
  }),
});
export type ListIngress = z.output<typeof ListIngress>;

const message = {
  id: Id("ingress", examples.ingress),
  provider: Provider,
  account: z.string().meta({ examples: ["pacc_platform"] }),
  key: z.string().meta({
    description: "The key that identifies repeated deliveries of the same message.",
    examples: ["evt_1PqX2k"],
  }),
  eventType: EventType,
  status: Status,
  stale: z.boolean().meta({
    description: "The signature is valid but too old, so the current data was read from the provider instead.",
    examples: [false],
  }),
  note: z
    .string()
    .nullable()
    .meta({ description: "Why it was ignored or failed.", examples: ["No call of this account."] }),
  attempts: z.int().meta({ description: "How often processing it finished.", examples: [1] }),
  verifiedBy: z
    .string()
    .meta({ description: "The secret or key that matched the signature.", examples: ["pacc_platform#1"] }),
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
      description: "Relevant headers, without signatures and secrets.",
      examples: [{ "telnyx-timestamp": "1795535000" }],
    }),
    body: z.string().meta({
      description: "The body with secrets masked; empty if its call was erased.",
      examples: ['{"data":{"event_type":"call.hangup"}}'],
    }),
  })
  .meta({ id: "IngressDetail" });
export type IngressDetail = z.output<typeof IngressDetail>;

export const ReprocessIngress = z.strictObject({
  provider: Provider.optional(),
  eventType: EventType.optional(),
  statuses: z
    .array(Status)
    .min(1)
    .max(ingressStatuses.length)
    .default(["failed"])
    .meta({ description: "Only messages with one of these statuses.", examples: [["failed", "ignored"]] }),
  createdAfter: TimestampInput.meta({ description: "Received at this time or later.", examples: [examples.instant] }),
  createdBefore: TimestampInput.optional().meta({
    description: "Received before this time. Default: now.",
    examples: ["2026-11-23T10:15:30.000Z"],
  }),
});
export type ReprocessIngress = z.output<typeof ReprocessIngress>;

export const Reprocessing = z
  .object({
    provider: Provider.nullable(),
    eventType: EventType.nullable(),
    statuses: z.array(Status).meta({ examples: [["failed"]] }),
    createdAfter: Timestamp,
    createdBefore: Timestamp,
    found: z.int().meta({ description: "The number of matching messages, counted up to 100,000.", examples: [17] }),
  })
  .meta({ id: "IngressReprocessing" });
export type Reprocessing = z.output<typeof Reprocessing>;
