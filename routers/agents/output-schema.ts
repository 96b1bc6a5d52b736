import { Ajv2020 } from "ajv/dist/2020.js";
import type { ErrorDetail } from "../core/errors.ts";

export const outputSchemaBytes = 20_000;
const maxDepth = 8;
const ajv = new Ajv2020({ strict: false, allErrors: true });

/** The allowed sources of an output value. `routers/calls/artifacts/output.ts` reads them. */
const source = /^(summary|shortSummary|outcome|endReason|durationSeconds|(variable|status|tool):.+)$/;

const schemaKeywords = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
const schemaListKeywords = ["allOf", "anyOf", "oneOf", "prefixItems"];
const schemaMapKeywords = ["properties", "patternProperties", "dependentSchemas"];
const valueKeywords = [
  ..."type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern format".split(
    " ",
  ),
  ..."maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired".split(
    " ",
  ),
  ..."title description default examples deprecated readOnly writeOnly $comment".split(" "),
];
const keywords = new Set([...schemaKeywords, ...schemaListKeywords, ...schemaMapKeywords, ...valueKeywords]);

/** The problems of an agent's output schema. Paths begin at the schema. */
export function objectionsToSchema(schema: Record<string, unknown>): ErrorDetail[] {
  const bytes = Buffer.byteLength(JSON.stringify(schema));
  if (bytes > outputSchemaBytes)
    return [
      { path: "", message: `A schema has at most ${outputSchemaBytes} bytes; this one has ${bytes}. Shorten it.` },
    ];
  const details = [...walk(schema, [])];
  if (details.length > 0) return details;
  if (!ajv.validateSchema(schema)) {
    return (ajv.errors ?? []).map(({ instancePath, message }) => ({
      path: instancePath.split("/").slice(1).join("."),
      message: `This is not a JSON Schema: it ${message}.`,
    }));
  }
  return schema.type === "object"
    ? []
    : [{ path: "type", message: 'The output must be an object: write `"type": "object"`.' }];
}

/** Unknown keywords are refused, since they are mostly misspelt. References are not followed. */
function* walk(schema: unknown, path: string[]): Generator<ErrorDetail> {
  if (!isRecord(schema)) return; // a boolean, or a value that the meta-schema refuses
  const at = (...more: string[]) => [...path, ...more].join(".");
  if (path.length > maxDepth * 2) return yield { path: at(), message: `A schema is at most ${maxDepth} levels deep.` };
  for (const [key, value] of Object.entries(schema)) {
    if (key === "x-source") {
      const message = "Write `summary`, `outcome`, …, `variable:<name>`, `status:<path>` or `tool:<tool>.<argument>`.";
      if (typeof value !== "string" || !source.test(value)) yield { path: at(key), message };
    } else if (key.startsWith("x-")) continue;
    else if (!keywords.has(key))
      yield { path: at(key), message: "This keyword is not supported, and references are not followed. Remove it." };
    else if (schemaKeywords.includes(key)) yield* walk(value, [...path, key]);
    else if (schemaListKeywords.includes(key) && Array.isArray(value)) {
      for (const [index, inner] of value.entries()) yield* walk(inner, [...path, key, String(index)]);
    } else if (schemaMapKeywords.includes(key) && isRecord(value)) {
      for (const [name, inner] of Object.entries(value)) yield* walk(inner, [...path, key, name]);
    }
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
