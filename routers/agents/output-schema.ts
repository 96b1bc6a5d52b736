import { Ajv2020 } from "ajv/dist/2020.js";
import type { ErrorDetail } from "../core/errors.ts";

export const outputSchemaBytes = 20_000;
const maxDepth = 8;
const ajv = new Ajv2020({ strict: false, allErrors: true });

/** Where a value of the output may come from; `routers/calls/artifacts/output.ts` reads it. */
const source = /^(summary|shortSummary|outcome|endReason|durationSeconds|(variable|status|tool):.+)$/;

const one = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
const many = ["allOf", "anyOf", "oneOf", "prefixItems"];
const named = ["properties", "patternProperties", "dependentSchemas"];
const plain = [
  ..."type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern format".split(
    " ",
  ),
  ..."maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired".split(
    " ",
  ),
  ..."title description default examples deprecated readOnly writeOnly $comment".split(" "),
];
const keywords = new Set([...one, ...many, ...named, ...plain]);

/** What is wrong with the schema of an agent's output; paths begin at the schema. */
export function objectionsToSchema(schema: Record<string, unknown>): ErrorDetail[] {
  const bytes = Buffer.byteLength(JSON.stringify(schema));
  if (bytes > outputSchemaBytes)
    return [{ path: "", message: `A schema has ${outputSchemaBytes} bytes at most; this one has ${bytes}.` }];
  const found = [...walk(schema, [])];
  if (found.length > 0) return found;
  if (!ajv.validateSchema(schema)) {
    return (ajv.errors ?? []).map(({ instancePath, message }) => ({
      path: instancePath.split("/").slice(1).join("."),
      message: `This is no JSON Schema: it ${message}.`,
    }));
  }
  return schema.type === "object"
    ? []
    : [{ path: "type", message: 'The output is an object: write `"type": "object"`.' }];
}

/** Keywords that nobody knows are misspelt ones, and references are not followed. */
function* walk(schema: unknown, path: string[]): Generator<ErrorDetail> {
  if (!isPlain(schema)) return; // a boolean, or something that the meta-schema refuses
  const at = (...more: string[]) => [...path, ...more].join(".");
  if (path.length > maxDepth * 2) return yield { path: at(), message: `A schema is at most ${maxDepth} levels deep.` };
  for (const [key, value] of Object.entries(schema)) {
    if (key === "x-source") {
      const message = "Write `summary`, `outcome`, …, `variable:<name>`, `status:<path>` or `tool:<tool>.<argument>`.";
      if (typeof value !== "string" || !source.test(value)) yield { path: at(key), message };
    } else if (key.startsWith("x-")) continue;
    else if (!keywords.has(key))
      yield { path: at(key), message: "There is no such keyword here; references are not followed." };
    else if (one.includes(key)) yield* walk(value, [...path, key]);
    else if (many.includes(key) && Array.isArray(value)) {
      for (const [index, inner] of value.entries()) yield* walk(inner, [...path, key, String(index)]);
    } else if (named.includes(key) && isPlain(value)) {
      for (const [name, inner] of Object.entries(value)) yield* walk(inner, [...path, key, name]);
    }
  }
}

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
