import type { AnyTRPCRouter } from "@trpc/server";
import type { Meta } from "../../routers/core/rest-metadata.ts";
import type { RestOperation } from "../rest/operations.ts";
import { admissionOf, errorResponse, errorsByStatus, responseName } from "./errors.ts";
import { exampleOf, exampleRequestId, type JsonSchema, overlaid } from "./examples.ts";
import { meaningOf, tags } from "./openapi-text.ts";
import { type ApiDocument, componentName, generate, type Operation } from "./source.ts";
import { nameDates, tidy } from "./tidy.ts";
import { describeWebhooks } from "./webhooks.ts";

export type { ApiDocument } from "./source.ts";

type Options = { baseUrl: string; version: string };

const json = "application/json";
const key = { minLength: 1, maxLength: 255 };

// No examples here: the reference page would send them along with whatever a reader tries out.
const parameters = {
  ClientId: text("X-Client-Id", "The client to act for. Needed by users of several clients.", {}),
  RequestId: text("X-Request-Id", "Your own id for this request; without one we make it.", {
    pattern: "^[A-Za-z0-9_.:-]{1,128}$",
  }),
  IdempotencyKey: text(
    "Idempotency-Key",
    "Makes this request safe to repeat for 24 hours. Bare or in double quotes.",
    key,
  ),
  XIdempotencyKey: text("X-Idempotency-Key", "`Idempotency-Key` under its older name. Send one of the two.", key),
};

const headers = {
  "X-Request-Id": said("The id of this request.", { type: "string", examples: [exampleRequestId] }),
  RateLimit: said("What is left of the limit in force. Absent where a request was refused before it was counted.", {
    type: "string",
    examples: ['"read";r=5990;t=42'],
  }),
  "RateLimit-Policy": said("The limit of this class of operation. It comes together with `RateLimit`.", {
    type: "string",
    examples: ['"read";q=6000;w=60'],
  }),
  "WWW-Authenticate": said("How to come in.", { type: "string", enum: ["Bearer"] }),
  "Retry-After": said("Seconds to wait before the next attempt.", { type: "integer", minimum: 0, examples: [3] }),
  "Idempotency-Replayed": said("Present when this is the stored answer of an earlier request with the same key.", {
    type: "string",
    enum: ["true"],
  }),
};

const outcomes: Record<number, string> = {
  200: "Done.",
  201: "Created.",
  202: "Accepted; the work goes on.",
  204: "Done. There is no body.",
};

/** The public interface as OpenAPI 3.1, from the same schemas and metadata that answer the requests. */
export function openApiDocument(router: AnyTRPCRouter, { baseUrl, version }: Options): ApiDocument {
  const { doors, document } = generate(router, { baseUrl, version });
  const { components, paths } = document;
  Object.assign(components, { parameters: { ...parameters }, headers: { ...headers }, responses: {} });
  for (const door of doors) {
    const operation = paths[door.rest.path]![door.rest.method.toLowerCase()]!;
    describe(operation, door);
    describeInput(operation, door, document);
    describeSuccess(operation, door, document);
    describeFailures(operation, door, document);
  }
  for (const [name, schema] of Object.entries(components.schemas)) components.schemas[name] = tidy(schema);
  addExamples(document, doors);
  describeWebhooks(document, "webhooks");
  dropUnused(document);
  const words = (name: string) => tags[name] ?? { title: name, description: `Everything under \`/${name}\`.` };
  const used = new Set(doors.flatMap(({ rest }) => rest.tags ?? []));
  const inOrder = [...Object.keys(tags).filter((name) => used.has(name)), ...[...used].filter((name) => !tags[name])];
  document.tags = inOrder.map((name) => ({
    name,
    description: words(name).description,
    "x-displayName": words(name).title,
  }));
  document.externalDocs = { url: new URL("/docs/errors", baseUrl).href, description: "Every error code, explained" };
  return document;
}

const cache = new WeakMap<AnyTRPCRouter, Map<string, string>>();

/** The document as it is served: made once per router and options. */
export function openApiJson(router: AnyTRPCRouter, options: Options): string {
  const known = cache.get(router) ?? new Map<string, string>();
  cache.set(router, known);
  const key = JSON.stringify([options.baseUrl, options.version]);
  const text = known.get(key) ?? JSON.stringify(openApiDocument(router, options));
  known.set(key, text);
  return text;
}

function describe(operation: Operation, door: RestOperation): void {
  const { meta, rest } = door;
  const { says, schemes } = admissionOf(door);
  operation["x-required-scope"] = meta.scope;
  operation.security = schemes.map((name) => ({ [name]: [] }));
  const words = `${says} Rate limit: \`${meta.limit}\`.`;
  operation.description = rest.description ? `${rest.description}\n\n${words}` : words;
}

function describeInput(operation: Operation, door: RestOperation, { components }: ApiDocument): void {
  const inline = (operation.parameters ?? []).map((each) => {
    if ("$ref" in each) return each;
    const field = door.input?._zod.def.shape[each.name];
    if (field) nameDates(field, each.schema, components.schemas, "in");
    const { description, ...schema } = tidy(each.schema);
    return { ...each, description: description ?? meaningOf(each.name), schema };
  });
  const names: (keyof typeof parameters)[] = ["RequestId"];
  if (door.meta.scope !== null && door.meta.access !== "operator") names.push("ClientId");
  if (door.type === "mutation") names.push("IdempotencyKey", "XIdempotencyKey");
  operation.parameters = [...inline, ...names.map((name) => ({ $ref: `#/components/parameters/${name}` }))];

  const schema = operation.requestBody?.content[json]?.schema;
  if (!operation.requestBody || !schema || !door.input) return;
  nameDates(door.input, schema, components.schemas, "in");
  // The generator rebuilds a refined object without its strictness; the door itself stays strict.
  if (isStrict(door)) schema.additionalProperties = false;
  schema.examples = schema.examples?.map((example) => without(example, door.params));
  if (!schema.examples) delete schema.examples;
  const name = componentName(door, "Request");
  components.schemas[name] = schema;
  operation.requestBody = {
    required: (schema.required ?? []).length > 0,
    content: { [json]: { schema: { $ref: `#/components/schemas/${name}` } } },
  };
}

function isStrict({ input }: RestOperation): boolean {
  const rest = input?._zod.def.catchall;
  return !rest || rest._zod.def.type === "never";
}

function describeSuccess(operation: Operation, door: RestOperation, { components }: ApiDocument): void {
  const { meta, type } = door;
  const generated = operation.responses["200"];
  operation.responses = {};
  const names = [
    "X-Request-Id",
    "RateLimit",
    "RateLimit-Policy",
    ...(type === "mutation" ? ["Idempotency-Replayed"] : []),
  ];
  const refs = Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
  const json = generated && "content" in generated && meta.status !== 204 ? { content: generated.content } : {};
  const content = meta.produces ? { content: { [meta.produces]: { schema: streamed(meta.produces) } } } : json;
  const inner = components.schemas[componentName(door, "Response")]?.properties?.data;
  const output = door.item ?? door.output;
  if (output && inner) nameDates(output, door.item ? inner.items! : inner, components.schemas, "out");
  const answer = (status: number, description: string) => {
    operation.responses[status] = { description, headers: refs, ...structuredClone(content) };
  };
  answer(meta.status, outcomes[meta.status]!);
  if (meta.accepted) answer(202, meta.accepted.says);
}

/** Text is text; of sound there is nothing to say but that it is bytes. */
function streamed(type: NonNullable<Meta["produces"]>): JsonSchema {
  return type.startsWith("text/") ? { type: "string" } : { type: "string", format: "binary" };
}

function describeFailures(operation: Operation, door: RestOperation, { components }: ApiDocument): void {
  for (const [status, codes] of errorsByStatus(door)) {
    const name = responseName(status, codes);
    components.responses![name] ??= errorResponse(status, codes);
    operation.responses[status] = { $ref: `#/components/responses/${name}` };
  }
}

function addExamples({ paths, components }: ApiDocument, doors: RestOperation[]): void {
  for (const { rest, meta } of doors) {
    const operation = paths[rest.path]![rest.method.toLowerCase()]!;
    const media = operation.requestBody?.content[json];
    if (media) media.example = exampleOf(media.schema, components.schemas);
    for (const [status, response] of Object.entries(operation.responses)) {
      const answer = "content" in response ? response.content?.[json] : undefined;
      if (!answer) continue;
      const example = exampleOf(answer.schema, components.schemas);
      answer.example = status === "202" ? overlaid(example, { data: meta.accepted?.shows }) : example;
    }
  }
}

/** Parts that nobody refers to are noise to a reader and a warning to a linter. */
function dropUnused(document: ApiDocument): void {
  const text = JSON.stringify(document);
  for (const kind of ["parameters", "headers", "responses"]) {
    const parts = document.components[kind]!;
    for (const name of Object.keys(parts)) if (!text.includes(`"#/components/${kind}/${name}"`)) delete parts[name];
  }
}

function without(example: unknown, names: string[]): unknown {
  if (typeof example !== "object" || example === null) return example;
  return Object.fromEntries(Object.entries(example).filter(([name]) => !names.includes(name)));
}

function text(name: string, description: string, schema: JsonSchema) {
  return { name, in: "header", required: false, description, schema: { type: "string", ...schema } };
}

function said(description: string, schema: JsonSchema) {
  return { description, schema };
}
