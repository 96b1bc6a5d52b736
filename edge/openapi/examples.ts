/** The part of JSON Schema that the generator writes and this project reads. */
export type JsonSchema = {
  $ref?: string;
  type?: string | string[];
  format?: string;
  pattern?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
  description?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  required?: string[];
  properties?: Record<string, JsonSchema>;
  additionalProperties?: boolean | JsonSchema;
  propertyNames?: JsonSchema;
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
};

export type Components = Record<string, JsonSchema>;

export const exampleRequestId = "req_01k9zq3v5ae8t9h2m7c4x6b0nd";

const byFormat: Record<string, string> = {
  "date-time": "2026-08-01T09:30:00.000Z",
  date: "2026-08-01",
  time: "09:30:00",
  email: "ada@example.com",
  uri: "https://example.com/path",
  uuid: "0198f2c4-7a10-7c3e-9b1a-5d2f8e6c4a01",
  ipv4: "192.0.2.10",
};

/** An example for the schema: the author's own, or one made from its parts. */
export function exampleOf(schema: JsonSchema, components: Components, within: readonly string[] = []): unknown {
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1)!;
    const target = components[name];
    return target && !within.includes(name) ? exampleOf(target, components, [...within, name]) : {};
  }
  if (schema.examples?.length) return schema.examples[0];
  if (schema.example !== undefined) return schema.example;
  if (schema.const !== undefined) return schema.const;
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return exampleOf(options.find(({ type }) => type !== "null") ?? {}, components, within);
  if (schema.allOf) return mergedExample(schema.allOf, components, within);
  return exampleOfType(schema, components, within);
}

function exampleOfType(schema: JsonSchema, components: Components, within: readonly string[]): unknown {
  const types = Array.isArray(schema.type) ? schema.type : [schema.type];
  const type = types.find((each) => each !== "null");
  // null is a better example than an invented text.
  if (types.includes("null") && type !== "object" && type !== "array") return null;
  switch (type) {
    case "object":
      return objectExample(schema, components, within);
    case "array": {
      const item = schema.items && !refersTo(schema.items, within) ? [exampleOf(schema.items, components, within)] : [];
      return schema.prefixItems?.map((each) => exampleOf(each, components, within)) ?? item;
    }
    case "integer":
    case "number":
      return schema.minimum ?? (schema.exclusiveMinimum === undefined ? 1 : schema.exclusiveMinimum + 1);
    case "boolean":
      return true;
    case "string":
      return byFormat[schema.format ?? ""] ?? "text".padEnd(schema.minLength ?? 0, "-");
    default:
      return {};
  }
}

/** Required fields, and those with an example. */
function objectExample(schema: JsonSchema, components: Components, within: readonly string[]): unknown {
  const shown = Object.entries(schema.properties ?? {}).filter(
    ([name, field]) => schema.required?.includes(name) || field.examples?.length || field.example !== undefined,
  );
  return Object.fromEntries(shown.map(([name, field]) => [name, exampleOf(field, components, within)]));
}

function mergedExample(parts: JsonSchema[], components: Components, within: readonly string[]): unknown {
  return Object.assign({}, ...parts.map((part) => exampleOf(part, components, within)));
}

/** The example, with the given values inserted: field by field, and item by item. */
export function overlaid(example: unknown, otherwise: unknown): unknown {
  if (otherwise === undefined) return example;
  if (Array.isArray(example) && Array.isArray(otherwise)) {
    return otherwise.map((each, place) => overlaid(example[place], each));
  }
  if (!isFields(example) || !isFields(otherwise)) return otherwise;
  const changed = Object.entries(otherwise).map(([name, each]) => [name, overlaid(example[name], each)]);
  return { ...example, ...Object.fromEntries(changed) };
}

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const refersTo = ({ $ref }: JsonSchema, within: readonly string[]) =>
  $ref !== undefined && within.includes($ref.split("/").at(-1)!);
