import { z } from "zod";
import { eventExamples } from "../../db/event-examples.ts";
import { catalogue, type EventType, eventTypes } from "../../db/events.ts";
import { examples } from "../../routers/core/fields.ts";
import type { Components, JsonSchema } from "./examples.ts";
import type { ApiDocument } from "./source.ts";
import { tidy } from "./tidy.ts";

const signed = {
  "webhook-id": "The event's id: the same in every attempt.",
  "webhook-timestamp": "When this attempt was signed, in seconds since 1970.",
  "webhook-signature": "One or more signatures over `id.timestamp.body`, separated by spaces.",
};

/**
 * One entry for each event type: the envelope with its own `type` and `data`, and an example. Generated from the same list
 * that `emit` uses.
 */
export function describeWebhooks(document: ApiDocument, tag: string): void {
  const { components } = document;
  if (!components.schemas.Event) return; // this router has no events
  components.parameters = { ...components.parameters, ...headers() };
  document.webhooks = Object.fromEntries(
    eventTypes.map((type) => {
      const name = schemaName(type);
      components.schemas[name] = eventSchema(type, components.schemas);
      return [type, { post: operation(type, name, tag) }];
    }),
  );
}

const deliveryNotes = [
  "Delivered at least once and in any order: `id` identifies a repeat, and `subject.sequence` gives the order.",
  "An endpoint whose `payload` is `thin` receives it without `data`.",
].join(" ");

function operation(type: EventType, name: string, tag: string) {
  const { description: says } = catalogue[type];
  return {
    operationId: `on${name.replace(/Event$/, "")}`,
    summary: type,
    description: `${says}\n\n${deliveryNotes}`,
    tags: [tag],
    security: [],
    parameters: Object.keys(signed).map((header) => ({ $ref: `#/components/parameters/${parameterName(header)}` })),
    requestBody: {
      required: true,
      content: {
        "application/json": { schema: { $ref: `#/components/schemas/${name}` }, example: exampleEvent(type) },
      },
    },
    responses: {
      "2XX": { description: "Delivered. Any other status is retried." },
      "410": { description: "Gone: the endpoint is disabled." },
    },
  };
}

/**
 * The envelope, narrowed to one type and open to later fields, which a receiver must ignore. `data` may be absent, as the
 * endpoint is configured. Its schema is written once for all types that share it.
 */
function eventSchema(type: EventType, components: Components): JsonSchema {
  const { subject, description: says } = catalogue[type];
  const { properties = {}, required = [], additionalProperties: _, ...envelope } = components.Event ?? {};
  const { additionalProperties: __, ...about } = properties.subject ?? {};
  return {
    ...envelope,
    description: says,
    required: required.filter((name) => name !== "data"),
    properties: {
      ...properties,
      type: { type: "string", const: type },
      subject: {
        ...about,
        properties: { ...about.properties, type: { type: "string", const: subject } },
      },
      data: {
        allOf: [{ $ref: `#/components/schemas/${dataSchema(type, components)}` }],
        description: "Absent if the endpoint's `payload` is `thin`.",
      },
    },
  };
}

function dataSchema(type: EventType, components: Components): string {
  const { subject, data } = catalogue[type];
  const isShared = eventTypes.every((other) => catalogue[other].subject !== subject || catalogue[other].data === data);
  const name = `${pascal(isShared ? subject : type)}EventData`;
  components[name] ??= writtenOut(data, components);
  return name;
}

function writtenOut(schema: z.ZodObject, components: Components): JsonSchema {
  const { $schema: _, $defs = {}, ...written } = z.toJSONSchema(schema, { io: "input" });
  const text = JSON.stringify([written, $defs]).replaceAll('"#/$defs/', '"#/components/schemas/');
  const [own, parts] = JSON.parse(text) as [JsonSchema, Components];
  for (const [name, part] of Object.entries(parts)) components[name] ??= tidy(part);
  return tidy(own);
}

/** An example event of each type. */
export function exampleEvent(type: EventType) {
  const data = eventExamples[type];
  return {
    id: examples.event,
    type,
    createdAt: examples.instant,
    clientId: examples.client,
    subject: { type: catalogue[type].subject, id: "id" in data ? data.id : examples.client, sequence: 4 },
    data,
  };
}

function headers() {
  return Object.fromEntries(
    Object.entries(signed).map(([name, description]) => [
      parameterName(name),
      { name, in: "header", required: true, description, schema: { type: "string" } },
    ]),
  );
}

const pascal = (text: string) => text.replace(/(^|[._-])(\w)/g, (_, __, first: string) => first.toUpperCase());
const parameterName = (header: string) => pascal(header);
const schemaName = (type: EventType) => `${pascal(type)}Event`;
