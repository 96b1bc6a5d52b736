import { z } from "zod";
import type { ErrorDetail } from "./errors.ts";
import { definition, type JsonBounds, unwrapped } from "./schema-kind.ts";
import { noSuchField } from "./validation-messages.ts";

type Schema = z.core.$ZodType;
type Found = ErrorDetail[];
type Path = readonly (string | number)[];
type Check = (value: unknown, path: Path, found: Found) => void;

/** The bounds of a schema that states none. */
export const defaultBounds = { text: 1_000, items: 100, entries: 50, json: { bytes: 20_000, depth: 32 } } as const;

/** A text is refused here only beyond its maximum plus this: up to there the field itself has the better message. */
const textSlack = 1_000;
const maxFound = 20;

const checks = new WeakMap<Schema, Check>();

/**
 * Finds what is too large for its schema, without reading the contents. A validator first collects every problem of every
 * entry, so without this check a caller decides how long it runs.
 */
export function overflows(schema: Schema, value: unknown): ErrorDetail[] {
  const found: Found = [];
  checkOf(schema)(value, [], found);
  return found.slice(0, maxFound);
}

/** A record of small values with a maximum number of entries, which is checked before any entry. */
export function boundedRecord<K extends z.core.$ZodRecordKey, V extends z.core.SomeType>(
  key: K,
  value: V,
  maxProperties: number,
  what = "pairs",
) {
  return z
    .record(key, value)
    .refine((pairs) => Object.keys(pairs).length <= maxProperties, `Use at most ${maxProperties} ${what}.`)
    .meta({ maxProperties });
}

/** A JSON object in a format that is not ours, with a maximum size. */
export function jsonObject(json: JsonBounds, key = z.string().max(200)) {
  return z
    .record(key, z.unknown())
    .refine(
      (value) => Buffer.byteLength(JSON.stringify(value)) <= json.bytes,
      `Use at most ${json.bytes} bytes of JSON.`,
    )
    .meta({ json });
}

function checkOf(schema: Schema): Check {
  const known = checks.get(schema);
  if (known) return known;
  let made: Check | undefined;
  // Built on first use and registered before, because a schema can contain itself.
  const check: Check = (value, path, found) => {
    if (value === null || value === undefined || found.length >= maxFound) return;
    made ??= make(schema);
    made(value, path, found);
  };
  checks.set(schema, check);
  return check;
}

const noCheck: Check = () => {};

function make(outer: Schema): Check {
  const schema = unwrapped(outer);
  const def = definition(schema);
  const meta = { ...z.globalRegistry.get(schema), ...z.globalRegistry.get(outer) };
  switch (def.type) {
    case "string":
    case "template_literal":
      return textCheck(maximumOf(schema) ?? defaultBounds.text);
    case "array":
      return arrayCheck(maximumOf(schema) ?? defaultBounds.items, checkOf(def.element));
    case "record":
      if (isFree(def.valueType)) return jsonCheck(meta.json ?? defaultBounds.json);
      return recordCheck(meta.maxProperties ?? defaultBounds.entries, checkOf(def.keyType), checkOf(def.valueType));
    case "object":
      return objectCheck(def);
    case "union":
      return unionCheck(def);
    case "unknown":
    case "any":
      return jsonCheck(meta.json ?? defaultBounds.json);
    default:
      if (!small.has(def.type))
        throw new Error(`Inputs of type ${def.type} have no bounds. Add them in routers/core/bounds.ts.`);
      return noCheck;
  }
}

/** Types whose values are always small, or that refuse large ones. */
const small = new Set(
  "number int boolean bigint date literal enum null undefined void never nan symbol success transform custom".split(
    " ",
  ),
);

/** The maximum length of a string or array schema, from its own checks. */
export function maximumOf(schema: Schema): number | undefined {
  const bounds = (definition(schema).checks ?? []).flatMap((check) => {
    const { def } = check._zod as { def: { check: string; maximum?: number; length?: number } };
    if (def.check === "max_length") return def.maximum ?? [];
    return def.check === "length_equals" ? (def.length ?? []) : [];
  });
  return bounds.length > 0 ? Math.min(...bounds) : undefined;
}

/** Whether the schema accepts any JSON. */
export const isFree = (schema: Schema) => ["unknown", "any"].includes(definition(unwrapped(schema)).type);

function textCheck(maximum: number): Check {
  return (value, path, found) => {
    if (typeof value === "string" && value.length > maximum + textSlack) {
      add(found, path, `Use at most ${maximum} characters.`);
    }
  };
}

function arrayCheck(maximum: number, element: Check): Check {
  return (value, path, found) => {
    if (!Array.isArray(value)) return;
    if (value.length > maximum) return add(found, path, `Use at most ${maximum} items. You gave ${value.length}.`);
    for (const [index, item] of value.entries()) element(item, [...path, index], found);
  };
}

function recordCheck(maximum: number, key: Check, inner: Check): Check {
  return (value, path, found) => {
    if (!isPlain(value)) return;
    const entries = Object.entries(value);
    if (entries.length > maximum) return add(found, path, `Use at most ${maximum} pairs. You gave ${entries.length}.`);
    for (const [name, item] of entries) {
      key(name, [...path, name], found);
      inner(item, [...path, name], found);
    }
  };
}

function objectCheck(def: z.core.$ZodObjectDef): Check {
  const isStrict = def.catchall !== undefined && definition(def.catchall).type === "never";
  const fields = Object.entries(def.shape).map(([name, field]) => [name, checkOf(field)] as const);
  return (value, path, found) => {
    if (!isPlain(value)) return;
    if (isStrict) addUnknownFields(Object.keys(value), def.shape, path, found);
    for (const [name, check] of fields) if (Object.hasOwn(value, name)) check(value[name], [...path, name], found);
  };
}

/** The validator reports a few unknown fields, together with other problems. Many are reported here, by themselves. */
function addUnknownFields(names: string[], shape: object, path: Path, found: Found) {
  if (names.length <= Object.keys(shape).length + maxFound) return;
  for (const name of names) {
    if (Object.hasOwn(shape, name)) continue;
    add(found, [...path, name], noSuchField);
    if (found.length >= maxFound) return;
  }
}

type Union = z.core.$ZodUnionDef & { discriminator?: string };

/** Checks the alternatives that match the value's type and discriminator. */
function unionCheck({ options, discriminator }: Union): Check {
  const alternatives = options.map((option) => ({ option, kind: kindOf(option), check: checkOf(option) }));
  return (value, path, found) => {
    const named = discriminator && isPlain(value) ? value[discriminator] : undefined;
    for (const { option, kind, check } of alternatives) {
      if (kind !== "mixed" && kind !== kindOfValue(value)) continue;
      const names = discriminator ? option._zod.propValues?.[discriminator] : undefined;
      if (names && !names.has(named as z.core.util.Primitive)) continue;
      check(value, path, found);
    }
  };
}

export function kindOf(schema: Schema): "text" | "list" | "object" | "mixed" | "small" {
  const { type } = definition(unwrapped(schema));
  if (type === "string" || type === "template_literal") return "text";
  if (type === "array") return "list";
  if (type === "object" || type === "record") return "object";
  return type === "union" || type === "unknown" || type === "any" ? "mixed" : "small";
}

function kindOfValue(value: unknown) {
  if (typeof value === "string") return "text";
  if (Array.isArray(value)) return "list";
  return typeof value === "object" ? "object" : "small";
}

/** Stops as soon as the value is too large. The count never exceeds the bytes of its JSON. */
function jsonCheck({ bytes, depth }: JsonBounds): Check {
  return (value, path, found) => {
    let left = bytes;
    const take = (size: number) => {
      left -= size;
      return left >= 0;
    };
    const fits = (inner: unknown, level: number): boolean => {
      if (typeof inner === "string") return take(inner.length + 2);
      if (typeof inner !== "object" || inner === null) return take(1);
      if (level > depth) return false;
      if (Array.isArray(inner)) return take(inner.length + 1) && inner.every((item) => fits(item, level + 1));
      for (const name in inner) {
        if (!take(name.length + 3) || !fits((inner as Record<string, unknown>)[name], level + 1)) return false;
      }
      return take(2);
    };
    if (fits(value, 1)) return;
    add(found, path, left < 0 ? `Use at most ${bytes} bytes of JSON.` : `Use at most ${depth} levels.`);
  };
}

function add(found: Found, path: Path, message: string) {
  found.push({ path: path.join("."), message });
}

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
