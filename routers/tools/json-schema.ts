import { createContext, Script } from "node:vm";
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";

export type JsonSchema = Record<string, unknown>;

export const schemaBytes = 8_000;
export const schemaDepth = 10;
/** What leads out of a schema, or names places within it: one schema stands for itself. */
const leading = new Set([
  "$ref",
  "$dynamicRef",
  "$recursiveRef",
  "$id",
  "$anchor",
  "$dynamicAnchor",
  "$defs",
  "$schema",
]);

/** A pattern that somebody else wrote took so long that it was stopped. */
class PatternTooSlow extends Error {}
const patternsMs = 100;
const search = new Script("new RegExp(pattern, flags).test(text)");
const room = createContext({ pattern: "", flags: "", text: "" });
let searchUntil = 0;

/** All patterns of one look together are searched for so long and no longer: one may be made to search for ever. */
function patientPattern(pattern: string, flags: string) {
  new RegExp(pattern, flags); // throws what is wrong with it while the schema is compiled
  return {
    test(text: string): boolean {
      const timeout = Math.ceil(searchUntil - performance.now());
      if (timeout <= 0) throw new PatternTooSlow(pattern);
      Object.assign(room, { pattern, flags, text });
      try {
        return search.runInContext(room, { timeout }) as boolean;
      } catch (cause) {
        throw new PatternTooSlow(pattern, { cause });
      }
    },
    /** By this ajv tells one pattern from another. */
    toString: () => `/${pattern}/${flags}`,
  };
}
patientPattern.code = "a pattern of ours is not written out";

function newAjv() {
  const ajv = new Ajv2020({
    strict: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    allowUnionTypes: true,
    logger: false,
    code: { regExp: patientPattern },
  });
  formats.default(ajv, { mode: "fast" });
  return ajv;
}

/** Reading the draft itself takes long, so one reader serves many; it keeps something of each, so not for ever. */
const schemasPerReader = 2_000;
let reader = { ajv: newAjv(), used: 0 };

/** Compiles a schema of draft 2020-12. Throws what is wrong with it. */
function compile(schema: JsonSchema): ValidateFunction {
  if (reader.used >= schemasPerReader) reader = { ajv: newAjv(), used: 0 };
  reader.used += 1;
  try {
    return reader.ajv.compile(schema);
  } finally {
    reader.ajv.removeSchema(schema);
  }
}

/** What speaks against a schema that a client wrote, as a sentence; null if nothing does. */
export function objectionToSchema(schema: JsonSchema): string | null {
  if (Buffer.byteLength(JSON.stringify(schema)) > schemaBytes) return `A schema has at most ${schemaBytes} bytes.`;
  if (depthOf(schema) > schemaDepth) return `A schema is at most ${schemaDepth} levels deep.`;
  const lead = keysOf(schema).find((key) => leading.has(key));
  if (lead) return `A schema must not use ${lead}: write out what it would refer to.`;
  searchUntil = patience();
  try {
    compile(schema);
    return null;
  } catch (error) {
    return `This is not a JSON Schema of draft 2020-12: ${error instanceof Error ? error.message : "it cannot be read"}`;
  }
}

export type SchemaProblem = { path: string; message: string };

/** Until when the patterns of one look may be searched for. */
export const patience = () => performance.now() + patternsMs;

/** Where a value does not fit a schema that was looked at before. The path begins with a dot, or is empty. */
export function problemsWith(schema: JsonSchema, value: unknown, until = patience()): SchemaProblem[] {
  searchUntil = until;
  try {
    const validate = compile(schema);
    return validate(value) ? [] : (validate.errors ?? []).map(said);
  } catch (error) {
    if (error instanceof PatternTooSlow) return [{ path: "", message: "The pattern of its schema takes too long." }];
    throw error;
  }
}

const said = ({ instancePath, message = "does not fit its schema" }: ErrorObject): SchemaProblem => ({
  path: instancePath.replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~"),
  message: `This ${message}.`,
});

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

function keysOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(keysOf);
  return Object.entries(value).flatMap(([key, inner]) => [key, ...keysOf(inner)]);
}
