import type { z } from "zod";
import { definition } from "../../routers/core/schema-kind.ts";
import type { Components, JsonSchema } from "./examples.ts";

type Schema = z.core.$ZodType;

/** The generator writes a date as a plain string: this walks both schemas in parallel and adds the format. */
export function nameDates(schema: Schema, json: JsonSchema, components: Components, io: "in" | "out"): void {
  const seen = new Set<Schema>();
  walk(schema, json);

  function walk(at: Schema, found: JsonSchema | undefined): void {
    const here = found?.$ref ? components[found.$ref.split("/").at(-1)!] : found;
    if (!here) return;
    const def = definition(at);
    if (def.type === "date") here.format = "date-time";
    if (def.type === "nullable") walk(def.innerType, here.anyOf?.[0] ?? here);
    else if ("innerType" in def) walk(def.innerType, here);
    if (def.type === "pipe") walk(io === "in" ? def.in : def.out, here);
    if (seen.has(at)) return;
    seen.add(at);
    if (def.type === "lazy") walk(def.getter(), here);
    if (def.type === "array") walk(def.element, here.items);
    if (def.type === "record" && typeof here.additionalProperties === "object") {
      walk(def.valueType, here.additionalProperties);
    }
    if (def.type === "union") {
      for (const [place, option] of def.options.entries()) walk(option, (here.anyOf ?? here.oneOf)?.[place]);
    }
    if (def.type === "object") {
      for (const [name, field] of Object.entries(def.shape)) walk(field, here.properties?.[name]);
    }
  }
}

/** The keywords that are published. Metadata of our own, such as what an audit redacts, is not. */
const keywords = new Set(
  `title description type format pattern enum const default example examples deprecated readOnly writeOnly
  minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength contentEncoding contentMediaType
  items prefixItems minItems maxItems uniqueItems properties required additionalProperties propertyNames
  patternProperties minProperties maxProperties anyOf oneOf allOf not discriminator`.split(/\s+/),
);

/** Formats that validators support; for others, such as zod's own `cidrv4`, the pattern is more precise. */
const knownFormats = new Set(["date-time", "date", "time", "duration", "email", "uri", "uuid", "ipv4", "ipv6"]);

const publicPart = (schema: JsonSchema): JsonSchema =>
  Object.fromEntries(Object.entries(schema).filter(([keyword]) => keywords.has(keyword)));

/** Shortens a schema: removes limits that every number has and patterns that repeat a format; null becomes a type. */
export function tidy(schema: JsonSchema): JsonSchema {
  const { $ref } = schema;
  const { example, ...clean } = publicPart(schema);
  if ($ref) return Object.keys(clean).length > 0 ? { allOf: [{ $ref }], ...clean } : { $ref };
  if (example !== undefined) clean.examples ??= [example];
  if (clean.examples?.length === 0) delete clean.examples;
  if (clean.minimum === Number.MIN_SAFE_INTEGER) delete clean.minimum;
  if (clean.maximum === Number.MAX_SAFE_INTEGER) delete clean.maximum;
  if (clean.format && knownFormats.has(clean.format)) delete clean.pattern;
  else delete clean.format;
  if (clean.propertyNames && JSON.stringify(clean.propertyNames) === '{"type":"string"}') delete clean.propertyNames;
  if (clean.properties) clean.properties = mapped(clean.properties);
  if (typeof clean.additionalProperties === "object") clean.additionalProperties = tidy(clean.additionalProperties);
  if (clean.items) clean.items = tidy(clean.items);
  for (const key of ["anyOf", "oneOf", "allOf", "prefixItems"] as const)
    if (clean[key]) clean[key] = clean[key].map(tidy);
  return nullAsType(clean);
}

const mapped = (schemas: Record<string, JsonSchema>) =>
  Object.fromEntries(Object.entries(schemas).map(([name, each]) => [name, tidy(each)]));

/** `anyOf: [X, null]` as `type: [x, "null"]`, where X is one plain type. */
function nullAsType(schema: JsonSchema): JsonSchema {
  const { anyOf, ...rest } = schema;
  const [first, second] = anyOf ?? [];
  if (anyOf?.length !== 2 || !first || second?.type !== "null" || typeof first.type !== "string") return schema;
  if (first.const !== undefined || first.oneOf || first.anyOf) return schema;
  const { enum: values, ...plain } = first;
  return { ...plain, ...(values ? { enum: [...values, null] } : {}), type: [first.type, "null"], ...rest };
}
