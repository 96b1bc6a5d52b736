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
  ClientId: text("X-Client-Id", "The client to act for. Required for users of several clients.", {}),
  RequestId: text("X-Request-Id", "Your own id for this request. By default we create one.", {
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
  "X-Request-Id": header("The id of this request.", { type: "string", examples: [exampleRequestId] }),
  RateLimit: header("What is left of the rate limit. Absent if the request was refused before it was counted.", {
    type: "string",
    examples: ['"read";r=5990;t=42'],
  }),
  "RateLimit-Policy": header("The rate limit of this class of operations. Sent together with `RateLimit`.", {
    type: "string",
    examples: ['"read";q=6000;w=60'],
  }),
  "WWW-Authenticate": header("The authentication scheme.", { type: "string", enum: ["Bearer"] }),
  "Retry-After": header("Seconds to wait before the next attempt.", { type: "integer", minimum: 0, examples: [3] }),
  "Idempotency-Replayed": header("Present if this is the stored response of an earlier request with the same key.", {
    type: "string",
    enum: ["true"],
  }),
};

const outcomes: Record<number, string> = {
  200: "Success.",
  201: "Created.",
  202: "Accepted. The work continues.",
  204: "Success, without a body.",
};

/** The public API as OpenAPI 3.1, from the schemas and metadata that serve the requests. */
export function openApiDocument(router: AnyTRPCRouter, { baseUrl, version }: Options): ApiDocument {
  const { operations, document } = generate(router, { baseUrl, version });
  const { components, paths } = document;
  Object.assign(components, { parameters: { ...parameters }, headers: { ...headers }, responses: {} });
  for (const source of operations) {
    const operation = paths[source.rest.path]![source.rest.method.toLowerCase()]!;
    describe(operation, source);
    describeInput(operation, source, document);
    describeSuccess(operation, source, document);
    describeFailures(operation, source, document);
  }
  for (const [name, schema] of Object.entries(components.schemas)) components.schemas[name] = tidy(schema);
  addExamples(document, operations);
  describeWebhooks(document, "webhooks");
  dropUnused(document);
  const words = (name: string) => tags[name] ?? { title: name, description: `Everything under \`/${name}\`.` };
  const used = new Set(operations.flatMap(({ rest }) => rest.tags ?? []));
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

/** The served document, created once per router and options. */
export function openApiJson(router: AnyTRPCRouter, options: Options): string {
  const known = cache.get(router) ?? new Map<string, string>();
  cache.set(router, known);
  const key = JSON.stringify([options.baseUrl, options.version]);
  const text = known.get(key) ?? JSON.stringify(openApiDocument(router, options));
  known.set(key, text);
  return text;
}

function describe(operation: Operation, source: RestOperation): void {
  const { meta, rest } = source;
  const { description, schemes } = admissionOf(source);
  operation["x-required-scope"] = meta.scope;
  operation.security = schemes.map((name) => ({ [name]: [] }));
  const words = `${description} Rate limit: \`${meta.limit}\`.`;
  operation.description = rest.description ? `${rest.description}\n\n${words}` : words;
}

function describeInput(operation: Operation, source: RestOperation, { components }: ApiDocument): void {
  const inline = (operation.parameters ?? []).map((each) => {
    if ("$ref" in each) return each;
    const field = source.input?._zod.def.shape[each.name];
    if (field) nameDates(field, each.schema, components.schemas, "in");
    const { description, ...schema } = tidy(each.schema);
    return { ...each, description: description ?? meaningOf(each.name), schema };
  });
  const names: (keyof typeof parameters)[] = ["RequestId"];
  if (source.meta.scope !== null && source.meta.access !== "operator") names.push("ClientId");
  if (source.type === "mutation") names.push("IdempotencyKey", "XIdempotencyKey");
  operation.parameters = [...inline, ...names.map((name) => ({ $ref: `#/components/parameters/${name}` }))];

  const schema = operation.requestBody?.content[json]?.schema;
  if (!operation.requestBody || !schema || !source.input) return;
  nameDates(source.input, schema, components.schemas, "in");
  // The generator rebuilds a refined object without its strictness; the operation itself is strict.
  if (isStrict(source)) schema.additionalProperties = false;
  schema.examples = schema.examples?.map((example) => without(example, source.params));
  if (!schema.examples) delete schema.examples;
  const name = componentName(source, "Request");
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

function describeSuccess(operation: Operation, source: RestOperation, { components }: ApiDocument): void {
  const { meta, type } = source;
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
  const inner = components.schemas[componentName(source, "Response")]?.properties?.data;
  const output = source.item ?? source.output;
  if (output && inner) nameDates(output, source.item ? inner.items! : inner, components.schemas, "out");
  const response = (status: number, description: string) => {
    operation.responses[status] = { description, headers: refs, ...structuredClone(content) };
  };
  response(meta.status, outcomes[meta.status]!);
  if (meta.accepted) response(202, meta.accepted.description);
}

/** Text is a string; audio is binary. */
function streamed(type: NonNullable<Meta["produces"]>): JsonSchema {
  return type.startsWith("text/") ? { type: "string" } : { type: "string", format: "binary" };
}

function describeFailures(operation: Operation, source: RestOperation, { components }: ApiDocument): void {
  for (const [status, codes] of errorsByStatus(source)) {
    const name = responseName(status, codes);
    components.responses![name] ??= errorResponse(status, codes);
    operation.responses[status] = { $ref: `#/components/responses/${name}` };
  }
}

function addExamples({ paths, components }: ApiDocument, operations: RestOperation[]): void {
  for (const { rest, meta } of operations) {
    const operation = paths[rest.path]![rest.method.toLowerCase()]!;
    const media = operation.requestBody?.content[json];
    if (media) media.example = exampleOf(media.schema, components.schemas);
    for (const [status, response] of Object.entries(operation.responses)) {
      const media = "content" in response ? response.content?.[json] : undefined;
      if (!media) continue;
      const example = exampleOf(media.schema, components.schemas);
      media.example = status === "202" ? overlaid(example, { data: meta.accepted?.example }) : example;
    }
  }
}

/** Unused parts only distract readers and cause linter warnings. */
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

function header(description: string, schema: JsonSchema) {
  return { description, schema };
}
