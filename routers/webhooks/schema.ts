import { z } from "zod";
import { eventTypes } from "../../db/events.ts";
import { CreatorId } from "../api-keys/schema.ts";
import { EventPatterns } from "../core/event-pattern.ts";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { AttemptError, disableCodes } from "../core/webhook-error-codes.ts";
import { maxHeaders } from "../ports/addresses.ts";
import { objectionsToHeaders } from "./endpoints/headers.ts";

export const endpointId = Id("endpoint", examples.endpoint);
const statuses = ["enabled", "disabled"] as const;
const maxHeaderValue = 2000;

export const fields = {
  // Not redacted in the audit log, which must show where a client's events were sent and since when.
  url: z
    .url()
    .max(2048)
    .meta({
      description: "An https URL with a public address.",
      redact: "none",
      examples: ["https://example.com/hooks/patchbay"],
    }),
  description: z
    .string()
    .trim()
    .max(500)
    .nullable()
    .meta({ examples: ["CRM"] }),
  eventTypes: EventPatterns.meta({
    description: "Event types. Patterns: `call.*` for all types of one kind, `*` for all.",
    examples: [["call.*", "agent.created"]],
  }),
  headers: z
    .record(z.string().max(256), z.string().max(maxHeaderValue, `Use at most ${maxHeaderValue} characters.`))
    .superRefine((headers, check) => {
      for (const { name, message } of objectionsToHeaders(headers)) {
        if (name !== null && headers[name]!.length > maxHeaderValue) continue; // the length is already an issue
        check.addIssue({ code: "custom", path: name === null ? [] : [name], message });
      }
    })
    .meta({
      maxProperties: maxHeaders,
      description:
        "Your own headers for every request, at most 20. They are stored encrypted; responses show only their names.",
      redact: "secret",
      examples: [{ "x-tenant": "acme" }],
    }),
  payload: z.enum(["full", "thin"]).meta({
    description:
      "`full` (default): the event with `data`. `thin`: without `data`, for receivers that read the resource.",
    examples: ["full"],
  }),
  ratePerSecond: z
    .int()
    .min(1)
    .max(1000)
    .nullable()
    .meta({ description: "The most requests per second. null (default): no limit.", examples: [50] }),
  status: z.enum(statuses).meta({ examples: ["enabled"] }),
};

const signing = z.enum(["v1", "v1a"]).meta({
  description: "`v1` (default): HMAC-SHA256 with a shared secret. `v1a`: Ed25519; you get the public key.",
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
    .meta({ description: "Use `disabled` to test the endpoint before you enable it.", examples: ["enabled"] }),
});
export type CreateEndpoint = z.output<typeof CreateEndpoint>;

export const UpdateEndpoint = z.strictObject({
  id: endpointId,
  ...z.object(fields).partial().shape,
  missed: z
    .null()
    .optional()
    .meta({ description: "null: forget the missed events instead of replaying them.", examples: [null] }),
});
export type UpdateEndpoint = z.output<typeof UpdateEndpoint>;

export const EndpointId = z.strictObject({ id: endpointId });
export const ListEndpoints = z.strictObject({
  ...PageInput,
  status: fields.status.optional().meta({ description: "Only endpoints with this status.", examples: ["disabled"] }),
  createdBy: CreatorId.optional().meta({
    description: "Only endpoints that this user or key created.",
    examples: [examples.user],
  }),
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
      description: "How long the current secret signs beside the new one. 0: all earlier secrets end now.",
      examples: [24],
    }),
  signing: signing
    .optional()
    .meta({ description: "The signature type of the new secret. Default: that of the current secret." }),
});
export type RotateSecret = z.output<typeof RotateSecret>;

const endpoint = {
  id: endpointId,
  url: z.string().meta({ examples: ["https://example.com/hooks/patchbay"] }),
  description: fields.description,
  eventTypes: z.array(z.string()).meta({ examples: [["call.*"]] }),
  headerNames: z.array(z.string()).meta({ description: "The names of your own headers.", examples: [["x-tenant"]] }),
  payload: fields.payload,
  ratePerSecond: fields.ratePerSecond,
  signing,
  publicKey: z
    .string()
    .nullable()
    .meta({ description: "Verifies `v1a` signatures; null with `v1`.", examples: [null] }),
  previousSecrets: z
    .array(z.object({ expiresAt: Timestamp }))
    .meta({ description: "Replaced secrets that still sign, each until `expiresAt`.", examples: [[]] }),
  status: fields.status,
  disabledReason: z
    .string()
    .nullable()
    .meta({ description: "Why the endpoint is disabled, as a sentence; null: it is enabled.", examples: [null] }),
  disabledCode: z
    .enum(disableCodes)
    .nullable()
    .meta({
      description:
        "Why the endpoint is disabled, as a code. `request`: by an API request. `gone`: the receiver answered 410. `failures`: 100 consecutive attempts failed. `days`: all attempts of five days failed.",
      examples: [null],
    }),
  disabledAt: Timestamp.nullable().meta({ examples: [null] }),
  paused: z.boolean().meta({
    description:
      "The operator has paused deliveries to this endpoint. They wait, use no attempt and are sent after the pause.",
    examples: [false],
  }),
  health: z
    .object({
      status: z.enum(["healthy", "failing", "disabled"]).meta({ examples: ["healthy"] }),
      consecutiveFailures: z.int().meta({ description: "Failed attempts since the last success.", examples: [0] }),
      failingSince: Timestamp.nullable().meta({ examples: [null] }),
      lastSuccessAt: Timestamp.nullable().meta({ description: "Rounded to the minute." }),
      lastFailureAt: Timestamp.nullable().meta({ description: "Rounded to the minute.", examples: [null] }),
    })
    .meta({ id: "WebhookHealth" }),
  missed: z
    .object({
      createdAfter: Timestamp,
      createdBefore: Timestamp.nullable().meta({ description: "null: the endpoint is still disabled." }),
    })
    .nullable()
    .meta({
      description:
        "The time range whose events were not queued, because the endpoint was disabled. A replay of `missed` sends them. null: nothing was missed.",
      examples: [null],
    }),
  createdBy: z
    .string()
    .nullable()
    .meta({
      description: "The user or API key that created it. null: it was created before this was stored.",
      examples: [examples.user],
    }),
  createdAt: Timestamp,
  updatedAt: Timestamp,
};

export const Endpoint = z.object(endpoint).meta({ id: "WebhookEndpoint" });
export type Endpoint = z.output<typeof Endpoint>;
export const EndpointPage = pageOf(Endpoint);

/** An endpoint in other responses. */
export const EndpointRef = z.object({
  id: endpointId,
  url: endpoint.url,
  description: endpoint.description,
  createdBy: endpoint.createdBy,
});
export type EndpointRef = z.output<typeof EndpointRef>;

export const CreatedEndpoint = z
  .object({
    ...endpoint,
    secret: z
      .string()
      .nullable()
      .meta({
        description:
          "Signs every delivery according to Standard Webhooks. Store it: it is not shown again. null with `v1a`, where you need only `publicKey`.",
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
    .meta({ description: "The event type whose example is sent.", examples: ["webhook.test"] }),
});
export type TestEndpoint = z.output<typeof TestEndpoint>;

export const EndpointTestResult = z
  .object({
    delivered: z.boolean().meta({ description: "Whether the response was 2xx.", examples: [true] }),
    status: z
      .int()
      .nullable()
      .meta({ description: "The HTTP status of the response; null: there was no response.", examples: [200] }),
    error: AttemptError,
    latencyMs: z.int().meta({ examples: [87] }),
    response: z
      .string()
      .nullable()
      .meta({ description: "The first kilobyte of the response body.", examples: ["ok"] }),
    request: z
      .object({
        url: z.string().meta({ examples: ["https://example.com/hooks/patchbay"] }),
        headers: z.record(z.string(), z.string()).meta({
          description: "The signature and the values of your own headers are shown as `[hidden]`.",
          examples: [{ "webhook-id": examples.event, "webhook-signature": "[hidden]", "x-tenant": "[hidden]" }],
        }),
        body: z.string().meta({ examples: ['{"id":"evt_01m82knxfbfrssk0x3en012rbf","type":"webhook.test"}'] }),
      })
      .meta({ description: "The request that was sent." }),
  })
  .meta({ id: "WebhookTestResult" });
export type EndpointTestResult = z.output<typeof EndpointTestResult>;

export const EventTypePage = pageOf(
  z
    .object({
      type: z.string().meta({ examples: ["call.ended"] }),
      description: z.string().meta({ examples: ["The call is over. Its outcome is provisional."] }),
    })
    .meta({ id: "WebhookEventType" }),
);
