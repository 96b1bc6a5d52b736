import { Ajv2020 } from "ajv/dist/2020.js";
import type { ErrorDetail } from "../core/errors.ts";
import { partsOf, schemaParts } from "../tools/json-schema.ts";

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
  const parts = partsOf(schema);
  if (parts > schemaParts)
    return [
      {
        path: "",
        message: `A schema holds at most ${schemaParts} objects and lists; this one holds ${parts}. Simplify it.`,
      },
    ];
  const details = [...walk(schema, [])];
  if (details.length > 0) return details;
  if (!ajv.validateSchema(schema)) {
    return (ajv.errors ?? []).map(({ instancePath, message }) => ({
      path: instancePath.split("/").slice(1).join("."),
      message: `This is not a JSON Schema: it ${message}.`,
    }));
  }
  if (schema.type !== "object")
    return [{ path: "type", message: 'The output must be an object: write `"type": "object"`.' }];
  return compiles(schema) ? [] : [{ path: "", message: "This JSON Schema cannot be used. Correct its keywords." }];
}

/** The meta-schema accepts some schemas that no validator can use, such as one with an empty `enum`. */
function compiles(schema: Record<string, unknown>): boolean {
  const text = JSON.stringify(schema);
  if (text === compiled) return true; // an input is parsed twice
  try {
    new Ajv2020({ strict: false, validateSchema: false, logger: false }).compile(schema);
    compiled = text;
    return true;
  } catch {
    return false;
  }
}

let compiled = "";

/** Only constructs the pattern: it takes no time, however slow the pattern would be to match. */
function isPattern(text: string): boolean {
  try {
    new RegExp(text, "u");
    return true;
  } catch {
    return false;
  }
}

const notPattern = "This is not a regular expression of ECMA-262 (with the flag u). Correct it.";

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
    else if (key === "pattern" && typeof value === "string" && !isPattern(value))
      yield { path: at(key), message: notPattern };
    else if (schemaKeywords.includes(key)) yield* walk(value, [...path, key]);
    else if (schemaListKeywords.includes(key) && Array.isArray(value)) {
      for (const [index, inner] of value.entries()) yield* walk(inner, [...path, key, String(index)]);
    } else if (schemaMapKeywords.includes(key) && isRecord(value)) {
      for (const [name, inner] of Object.entries(value)) {
        if (key === "patternProperties" && !isPattern(name)) yield { path: at(key, name), message: notPattern };
        yield* walk(inner, [...path, key, name]);
      }
    }
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
