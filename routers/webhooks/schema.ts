import { z } from "zod";
import { eventTypes } from "../../db/events.ts";
import { canMatch } from "../core/event-pattern.ts";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { AttemptError, disableCodes } from "../core/webhook-error-codes.ts";
import { maxHeaders } from "../ports/addresses.ts";
import { objectionsToHeaders } from "./endpoints/headers.ts";

export const endpointId = Id("endpoint", examples.endpoint);
const statuses = ["enabled", "disabled"] as const;

export const fields = {
  // The audit keeps it: where the events of a client went, and since when, is what an audit is asked.
  url: z
    .url()
    .max(2048)
    .meta({
      description: "https, on the open internet.",
      redact: "none",
      examples: ["https://example.com/hooks/patchbay"],
    }),
  description: z
    .string()
    .trim()
    .max(500)
    .nullable()
    .meta({ examples: ["CRM"] }),
  eventTypes: z
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
    .meta({
      description: "Event types, `call.*` for all of a kind, `*` for all.",
      examples: [["call.*", "agent.created"]],
    }),
  headers: z
    .record(
      z.string().max(256, { abort: true }),
      z.string().max(2000, { error: "A value has at most 2000 characters.", abort: true }),
    )
    .superRefine((headers, check) => {
      for (const { name, message } of objectionsToHeaders(headers)) {
        check.addIssue({ code: "custom", path: name === null ? [] : [name], message });
      }
    })
    .meta({
      maxProperties: maxHeaders,
      description:
        "Headers of your own that every request carries, at most 20. They are kept sealed: answers show their names alone.",
      redact: "secret",
      examples: [{ "x-tenant": "acme" }],
    }),
  payload: z.enum(["full", "thin"]).meta({
    description: "`full`, which is the default: with `data`. `thin`: without it, for receivers that read the resource.",
    examples: ["full"],
  }),
  ratePerSecond: z
    .int()
    .min(1)
    .max(1000)
    .nullable()
    .meta({ description: "Requests begun in a second at most. null, which is the default: no limit.", examples: [50] }),
  status: z.enum(statuses).meta({ examples: ["enabled"] }),
};

const signing = z.enum(["v1", "v1a"]).meta({
  description:
    "`v1`, which is the default: HMAC-SHA256 with a secret that both sides know. `v1a`: Ed25519, of which you get the public key.",
  examples: ["v1"],
});

export const CreateEndpoint = z.strictObject({
  url: fields.url,
  description: fields.description.default(null),
  eventTypes: fields.eventTypes.default(["*"]),
  headers: fields.headers.optional(),
  payload: fields.payload.optional(),
  ratePerSecond: fields.ratePerSecond.optional(),
  signing: signing.optional(),
  status: fields.status
    .optional()
    .meta({ description: "`disabled`: to be tried first, and enabled later.", examples: ["enabled"] }),
});
export type CreateEndpoint = z.output<typeof CreateEndpoint>;

export const UpdateEndpoint = z.strictObject({
  id: endpointId,
  ...z.object(fields).partial().shape,
  missed: z
    .null()
    .optional()
    .meta({ description: "null: what was missed is to be forgotten, not replayed.", examples: [null] }),
});
export type UpdateEndpoint = z.output<typeof UpdateEndpoint>;

export const EndpointId = z.strictObject({ id: endpointId });
export const ListEndpoints = z.strictObject({
  ...PageInput,
  status: fields.status
    .optional()
    .meta({ description: "Only those that are switched on, or off.", examples: ["disabled"] }),
});
export type ListEndpoints = z.output<typeof ListEndpoints>;

export const RotateSecret = z.strictObject({
  id: endpointId,
  overlapHours: z
    .int()
    .min(0)
    .max(168)
    .default(24)
    .meta({
      description:
        "How long the present secret signs beside the new one. 0: neither it nor any earlier one signs any longer.",
      examples: [24],
    }),
  signing: signing.optional().meta({ description: "How the new one signs; left out, as the present one does." }),
});
export type RotateSecret = z.output<typeof RotateSecret>;

const endpoint = {
  id: endpointId,
  url: z.string().meta({ examples: ["https://example.com/hooks/patchbay"] }),
  description: fields.description,
  eventTypes: z.array(z.string()).meta({ examples: [["call.*"]] }),
  headerNames: z.array(z.string()).meta({ description: "Of your own headers.", examples: [["x-tenant"]] }),
  payload: fields.payload,
  ratePerSecond: fields.ratePerSecond,
  signing,
  publicKey: z
    .string()
    .nullable()
    .meta({ description: "Verifies what is signed with `v1a`; null with `v1`.", examples: [null] }),
  previousSecrets: z
    .array(z.object({ validUntil: Timestamp }))
    .meta({ description: "Secrets that were replaced and still sign, each until its time is over.", examples: [[]] }),
  status: fields.status,
  disabledReason: z
    .string()
    .nullable()
    .meta({ description: "In words; null: it is on.", examples: [null] }),
  disabledCode: z
    .enum(disableCodes)
    .nullable()
    .meta({
      description:
        "The same for machines. `request`: somebody asked for it. `gone`: the receiver answered 410. `failures`: a hundred attempts failed in a row. `days`: nothing but failure came for five days.",
      examples: [null],
    }),
  disabledAt: Timestamp.nullable().meta({ examples: [null] }),
  paused: z.boolean().meta({
    description:
      "The operator of this installation holds its deliveries back. They wait, use up no attempt and are sent afterwards.",
    examples: [false],
  }),
  health: z
    .object({
      status: z.enum(["healthy", "failing", "disabled"]).meta({ examples: ["healthy"] }),
      consecutiveFailures: z.int().meta({ description: "Attempts that failed since one last succeeded.", examples: [0] }),
      failingSince: Timestamp.nullable().meta({ examples: [null] }),
      lastSuccessAt: Timestamp.nullable().meta({ description: "To the minute." }),
      lastFailureAt: Timestamp.nullable().meta({ description: "To the minute.", examples: [null] }),
    })
    .meta({ id: "WebhookHealth" }),
  missed: z
    .object({ since: Timestamp, until: Timestamp.nullable().meta({ description: "null: it is still switched off." }) })
    .nullable()
    .meta({
      description:
        "While it was switched off nothing was queued for it: replay `missed` sends it all. null: nothing was missed.",
      examples: [null],
    }),
  createdAt: Timestamp,
  updatedAt: Timestamp,
};

export const Endpoint = z.object(endpoint).meta({ id: "WebhookEndpoint" });
export type Endpoint = z.output<typeof Endpoint>;
export const EndpointPage = pageOf(Endpoint);

export const CreatedEndpoint = z
  .object({
    ...endpoint,
    secret: z
      .string()
      .nullable()
      .meta({
        description:
          "Signs every delivery, as Standard Webhooks says. Shown this once: keep it. null with `v1a`: there `publicKey` is all that you need.",
        redact: "secret",
        examples: ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDU2Yf0mGkAnI="],
      }),
  })
  .meta({ id: "CreatedWebhookEndpoint" });
export type CreatedEndpoint = z.output<typeof CreatedEndpoint>;

export const TestEndpoint = z.strictObject({
  id: endpointId,
  eventType: z
    .enum(eventTypes)
    .default("webhook.test")
    .meta({ description: "Whose example is sent.", examples: ["webhook.test"] }),
});
export type TestEndpoint = z.output<typeof TestEndpoint>;

export const EndpointTrial = z
  .object({
    delivered: z.boolean().meta({ description: "The answer was 2xx.", examples: [true] }),
    status: z
      .int()
      .nullable()
      .meta({ description: "Of the answer; null when none came.", examples: [200] }),
    error: AttemptError,
    latencyMs: z.int().meta({ examples: [87] }),
    response: z
      .string()
      .nullable()
      .meta({ description: "The first kilobyte of the answer.", examples: ["ok"] }),
    request: z
      .object({
        url: z.string().meta({ examples: ["https://example.com/hooks/patchbay"] }),
        headers: z.record(z.string(), z.string()).meta({
          description: "The signature and the values of your own headers read `[hidden]`.",
          examples: [{ "webhook-id": examples.event, "webhook-signature": "[hidden]", "x-tenant": "[hidden]" }],
        }),
        body: z.string().meta({ examples: ['{"id":"evt_01m82knxfbfrssk0x3en012rbf","type":"webhook.test"}'] }),
      })
      .meta({ description: "What was sent." }),
  })
  .meta({ id: "WebhookTrial" });
export type EndpointTrial = z.output<typeof EndpointTrial>;

export const EventTypePage = pageOf(
  z
    .object({
      type: z.string().meta({ examples: ["call.ended"] }),
      description: z.string().meta({ examples: ["The call is over. Its outcome is provisional."] }),
    })
    .meta({ id: "WebhookEventType" }),
);
