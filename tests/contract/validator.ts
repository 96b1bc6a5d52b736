import { readFileSync } from "node:fs";
import { Ajv, type ValidateFunction } from "ajv";
import addFormatsModule from "ajv-formats";

// The package is CommonJS: its function is both the module and its default. The types declare only the default.
const addFormats = addFormatsModule as unknown as typeof addFormatsModule.default;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Schema = { [key: string]: Json };
type Content = Record<string, { schema: Schema }>;
type Parameter = { name: string; in: string; required: boolean; schema: Schema };
type Operation = {
  parameters: Parameter[];
  requestBody?: { required: boolean; content: Content };
  responses: Record<string, { content?: Content }>;
};
type Document = { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, Schema> } };
type Direction = "request" | "response";

export type Query = URLSearchParams | Record<string, string | readonly string[]>;

/** The problems of a message by the provider's published schema, as sentences. An empty list means that it is valid. */
export interface Contract {
  request(
    method: string,
    path: string,
    headers: Record<string, string> | undefined,
    query: Query,
    body: unknown,
  ): string[];
  response(method: string, path: string, status: number, body: unknown): string[];
  /** Every operation of the reduced schema, as "GET /api/calls/{call_id}". */
  operations(): string[];
}

export function ultravoxContract(): Contract {
  const document = JSON.parse(readFileSync(new URL("ultravox.json", import.meta.url), "utf8")) as Document;
  const compile = compiler(document);

  return {
    request(method, path, headers, query, body) {
      const found = operationAt(document, method, path);
      if (typeof found === "string") return [found];
      return [
        ...headerProblems(headers),
        ...pathProblems(found, compile),
        ...queryProblems(found.operation, toParams(query), compile),
        ...bodyProblems(found.operation, body, compile),
      ];
    },
    operations() {
      return Object.entries(document.paths).flatMap(([path, item]) =>
        Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
      );
    },
    response(method, path, status, body) {
      const found = operationAt(document, method, path);
      if (typeof found === "string") return [found];
      return responseProblems(found.operation, status, body, compile);
    },
  };
}

type Found = { operation: Operation; values: Record<string, string> };

function operationAt(document: Document, method: string, path: string): Found | string {
  for (const [template, item] of Object.entries(document.paths)) {
    const values = matchPath(template, path.split("?")[0] ?? "");
    if (!values) continue;
    const operation = item[method.toLowerCase()];
    return operation ? { operation, values } : `${method} is not documented for ${template}`;
  }
  return `undocumented path: ${method} ${path}`;
}

function matchPath(template: string, path: string): Record<string, string> | undefined {
  const wanted = template.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const values: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (part.startsWith("{")) values[part.slice(1, -1)] = decodeURIComponent(value);
    else if (part !== value) return undefined;
  }
  return values;
}

function headerProblems(headers: Record<string, string> | undefined): string[] {
  if (!headers) return [];
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  if (names.includes("x-unsafe-api-key")) return ["header X-Unsafe-API-Key is for demonstrations in browsers only"];
  return names.includes("x-api-key") ? [] : ["header X-API-Key is missing"];
}

type Compile = (schema: Schema, direction: Direction) => ValidateFunction;

function pathProblems({ operation, values }: Found, compile: Compile): string[] {
  return operation.parameters
    .filter((parameter) => parameter.in === "path")
    .flatMap((parameter) => problems(compile(parameter.schema, "request"), values[parameter.name], parameter.name));
}

function toParams(query: Query): URLSearchParams {
  if (query instanceof URLSearchParams) return query;
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) params.append(name, each);
  return params;
}

function queryProblems(operation: Operation, query: URLSearchParams, compile: Compile): string[] {
  const documented = operation.parameters.filter((parameter) => parameter.in === "query");
  const missing = documented.filter((parameter) => parameter.required && !query.has(parameter.name));
  const found = missing.map((parameter) => `query ${parameter.name} is missing`);
  for (const name of new Set(query.keys())) {
    const values = query.getAll(name);
    const parameter = documented.find((each) => each.name === name && each.schema.type !== "object");
    // An object has one key per member, after a dot: metadata.callId=call_1.
    const members = documented.find((each) => each.schema.type === "object" && name.startsWith(`${each.name}.`));
    if (members) continue;
    if (!parameter) found.push(`query ${name} is undocumented`);
    else if (parameter.schema.type === "array") {
      found.push(...problems(compile(parameter.schema, "request"), values, `query ${name}`));
    } else if (values.length > 1) found.push(`query ${name} is given more than once`);
    else
      found.push(...problems(compile(parameter.schema, "request"), typed(values[0] ?? "", parameter), `query ${name}`));
  }
  return found;
}

function typed(value: string, { schema }: Parameter): Json {
  if ((schema.type === "integer" || schema.type === "number") && /^-?\d+(\.\d+)?$/.test(value)) return Number(value);
  if (schema.type === "boolean" && (value === "true" || value === "false")) return value === "true";
  return value;
}

function bodyProblems(operation: Operation, body: unknown, compile: Compile): string[] {
  const empty = body === undefined || body === null || body === "";
  if (!operation.requestBody) return empty ? [] : ["a body was sent where none is documented"];
  if (empty) return operation.requestBody.required ? ["the body is missing"] : [];
  const schema = operation.requestBody.content["application/json"]?.schema;
  return schema ? problems(compile(schema, "request"), body, "body") : ["no JSON body is documented"];
}

function responseProblems(operation: Operation, status: number, body: unknown, compile: Compile): string[] {
  const documented = operation.responses[String(status)];
  if (!documented && status >= 400)
    return isErrorBody(body) ? [] : [`${status}: the body is not an error: ${short(body)}`];
  if (!documented) return [`status ${status} is undocumented`];
  const media = Object.keys(documented.content ?? {})[0];
  if (!media) {
    const empty = body === undefined || body === null || body === "";
    return empty ? [] : [`${status}: unexpected body where none is documented`];
  }
  if (media !== "application/json") return [];
  return problems(compile(documented.content?.[media]?.schema ?? {}, "response"), body, `${status} body`);
}

/** Errors are not in the schema: `{"detail": "..."}`, or lists of messages by field. */
function isErrorBody(body: unknown): boolean {
  if (body === null || typeof body !== "object" || Array.isArray(body)) return false;
  const { detail, ...fields } = body as Record<string, unknown>;
  const lists = Object.values(fields).every(
    (value) => Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string"),
  );
  return detail === undefined ? lists && Object.keys(fields).length > 0 : typeof detail === "string" && lists;
}

function problems(validate: ValidateFunction, value: unknown, where: string): string[] {
  if (validate(value)) return [];
  return (validate.errors ?? []).map((error) => {
    const extra = error.params.additionalProperty ?? error.params.allowedValues;
    return `${where}${error.instancePath}: ${error.message}${extra === undefined ? "" : ` (${short(extra)})`}`;
  });
}

function short(value: unknown): string {
  return String(JSON.stringify(value)).slice(0, 200);
}

/** Two versions of one document: requests without readOnly fields, responses without writeOnly fields. */
function compiler(document: Document): Compile {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addFormat("enum", true);
  ajv.addFormat("binary", true);
  for (const direction of ["request", "response"] as const) {
    for (const [name, schema] of Object.entries(document.components.schemas)) {
      ajv.addSchema(reading(schema, direction) as Schema, `${direction}:${name}`);
    }
  }
  const compiled = new Map<string, ValidateFunction>();
  return (schema, direction) => {
    const key = direction + JSON.stringify(schema);
    const known = compiled.get(key);
    if (known) return known;
    const validate = ajv.compile(reading(schema, direction) as Schema);
    compiled.set(key, validate);
    return validate;
  };
}

const REFERENCE = "#/components/schemas/";

/** OpenAPI 3.0 as JSON Schema: `nullable` becomes a type, references stay in this direction, no additional fields. */
function reading(schema: Json, direction: Direction): Json {
  if (schema === null || typeof schema !== "object" || Array.isArray(schema)) return schema;
  if (typeof schema.$ref === "string") return { $ref: `${direction}:${schema.$ref.slice(REFERENCE.length)}` };
  const { nullable, readOnly, writeOnly, default: _, properties, required, ...rest } = schema;
  const result: Schema = { ...rest };
  for (const key of ["allOf", "oneOf", "anyOf"]) {
    const parts = rest[key];
    if (Array.isArray(parts)) result[key] = parts.map((part) => reading(part, direction));
  }
  if (rest.items) result.items = reading(rest.items, direction);
  if (rest.additionalProperties) result.additionalProperties = reading(rest.additionalProperties, direction);
  if (properties && typeof properties === "object" && !Array.isArray(properties)) {
    const hidden = direction === "request" ? "readOnly" : "writeOnly";
    const shown = Object.entries(properties).filter(([, field]) => !(field as Schema)[hidden]);
    result.properties = Object.fromEntries(shown.map(([name, field]) => [name, reading(field, direction)]));
    result.additionalProperties ??= false;
    const names = shown.map(([name]) => name);
    if (Array.isArray(required)) result.required = required.filter((name) => names.includes(String(name)));
  }
  return nullable ? { anyOf: [result, { type: "null" }] } : result;
}
