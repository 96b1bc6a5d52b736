import { createContext, Script } from "node:vm";
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";

export type JsonSchema = Record<string, unknown>;

export const schemaBytes = 8_000;
export const schemaDepth = 10;
/** The objects and lists in all schemas of a tool. Compiling takes up to a tenth of a millisecond for each. */
export const schemaParts = 300;
/** Keywords that refer outside a schema, or name places inside it. A schema must be self-contained. */
const referenceKeywords = new Set([
  "$ref",
  "$dynamicRef",
  "$recursiveRef",
  "$id",
  "$anchor",
  "$dynamicAnchor",
  "$defs",
  "$schema",
]);

/** A pattern in a client's schema took too long and was stopped. */
class PatternTooSlow extends Error {}
const patternsTimeoutMs = 100;
const search = new Script("new RegExp(pattern, flags).test(text)");
const sandbox = createContext({ pattern: "", flags: "", text: "" });
let searchDeadline = 0;

/** The patterns of one validation share one deadline. A malicious pattern could otherwise run without end. */
function boundedPattern(pattern: string, flags: string) {
  new RegExp(pattern, flags); // throws a SyntaxError when the schema is compiled
  return {
    test(text: string): boolean {
      const timeout = Math.ceil(searchDeadline - performance.now());
      if (timeout <= 0) throw new PatternTooSlow(pattern);
      Object.assign(sandbox, { pattern, flags, text });
      try {
        return search.runInContext(sandbox, { timeout }) as boolean;
      } catch (cause) {
        throw new PatternTooSlow(pattern, { cause });
      }
    },
    /** ajv uses this as the key of a pattern. */
    toString: () => `/${pattern}/${flags}`,
  };
}
boundedPattern.code = "a bounded pattern has no source code";

function newAjv() {
  const ajv = new Ajv2020({
    strict: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    allowUnionTypes: true,
    logger: false,
    code: { regExp: boundedPattern },
  });
  formats.default(ajv, { mode: "fast" });
  return ajv;
}

/** A new Ajv is slow, since it reads the draft, so it serves many schemas. It keeps some memory of each, so not all. */
const schemasPerCompiler = 2_000;
let compiler = { ajv: newAjv(), used: 0 };

/** Compiles a schema of draft 2020-12. Throws an Error if it is not valid. */
function compile(schema: JsonSchema): ValidateFunction {
  if (compiler.used >= schemasPerCompiler) compiler = { ajv: newAjv(), used: 0 };
  compiler.used += 1;
  try {
    return compiler.ajv.compile(schema);
  } finally {
    compiler.ajv.removeSchema(schema);
  }
}

/** Checked schemas: an input is parsed twice, and an update repeats most of them. */
const checked = new Map<string, string | null>();
const maxChecked = 1_000;

/** Why a client's schema is not valid, as a sentence; null if it is valid. */
export function objectionToSchema(schema: JsonSchema): string | null {
  const text = JSON.stringify(schema);
  const known = checked.get(text);
  if (known !== undefined) return known;
  const objection = check(schema);
  const [oldest] = checked.keys();
  if (checked.size >= maxChecked && oldest !== undefined) checked.delete(oldest);
  if (text.length <= schemaBytes) checked.set(text, objection);
  return objection;
}

function check(schema: JsonSchema): string | null {
  if (Buffer.byteLength(JSON.stringify(schema)) > schemaBytes) return `A schema has at most ${schemaBytes} bytes.`;
  if (depthOf(schema) > schemaDepth) return `A schema is at most ${schemaDepth} levels deep.`;
  const reference = keysOf(schema).find((key) => referenceKeywords.has(key));
  if (reference) return `A schema must not use ${reference}. Write the referenced schema inline.`;
  searchDeadline = patternDeadline();
  try {
    compile(schema);
    return null;
  } catch (error) {
    return `This is not a JSON Schema of draft 2020-12: ${error instanceof Error ? error.message : "it cannot be parsed"}`;
  }
}

export type SchemaProblem = { path: string; message: string };

/** The deadline for the patterns of one validation. */
export const patternDeadline = () => performance.now() + patternsTimeoutMs;

/** The problems of a value under a checked schema. A path begins with a dot, or is empty. */
export function problemsWith(schema: JsonSchema, value: unknown, until = patternDeadline()): SchemaProblem[] {
  searchDeadline = until;
  try {
    const validate = compile(schema);
    return validate(value) ? [] : (validate.errors ?? []).map(toProblem);
  } catch (error) {
    if (error instanceof PatternTooSlow)
      return [{ path: "", message: "The pattern of its schema takes too long to match. Simplify it." }];
    throw error;
  }
}

const toProblem = ({ instancePath, message = "does not fit its schema" }: ErrorObject): SchemaProblem => ({
  path: instancePath.replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~"),
  message: `This ${message}.`,
});

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

/** The number of objects and lists in a value, itself included. */
export function partsOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce<number>((sum, inner) => sum + partsOf(inner), 1);
}

function keysOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(keysOf);
  return Object.entries(value).flatMap(([key, inner]) => [key, ...keysOf(inner)]);
}
