import { z } from "zod";
import { definition } from "./schema-kind.ts";

type Schema = z.core.$ZodType;
export type Projection = (value: unknown) => unknown;

/**
 * Compiles an output schema to a function that copies what the schema has, and nothing else: a column that the schema does
 * not name never leaves. Absent fields get their defaults. Values are not validated: that takes ten times longer, and
 * tests do it for every response. What cannot be copied by its shape, such as a transformation, is parsed by zod.
 */
export function projectionOf(schema: Schema): Projection {
  const compiled = compile(schema, new Map());
  return compiled === same ? (value) => value : compiled;
}

/** The projection of a value that is passed on as it is. */
const same: Projection = (value) => value;

/** Schemas that are being compiled: a recursive schema finds itself here. */
type Known = Map<Schema, Projection>;

function compile(schema: Schema, known: Known): Projection {
  const found = known.get(schema);
  if (found) return found;
  let late: Projection | undefined;
  known.set(schema, (value) => late!(value));
  late = compileNew(schema, known);
  known.set(schema, late);
  return late;
}

function compileNew(schema: Schema, known: Known): Projection {
  const def = definition(schema);
  switch (def.type) {
    case "string":
    case "number":
      return (def.checks ?? []).some(changesValue) ? parsedBy(schema) : same;
    case "boolean":
    case "literal":
    case "enum":
    case "null":
    case "unknown":
    case "any":
    case "undefined":
    case "void":
    case "template_literal":
      return same;
    case "nullable":
    case "optional":
      return unlessAbsent(compile(def.innerType, known));
    case "readonly":
    case "nonoptional":
      return compile(def.innerType, known);
    case "default":
      return withDefault(compile(def.innerType, known), () => def.defaultValue);
    case "array":
      return ofArray(compile(def.element, known));
    case "record":
      return ofRecord(compile(def.valueType, known));
    case "object":
      return ofObject(def, schema, known);
    case "union":
      return ofUnion(def, schema, known);
    case "lazy":
      return compile(def.getter(), known);
    default:
      return parsedBy(schema);
  }
}

/** Such as `.trim()`. */
const changesValue = (check: z.core.$ZodCheck<never>) => check._zod.def.check === "overwrite";

const parsedBy =
  (schema: Schema): Projection =>
  (value) =>
    z.parse(schema, value);

const unlessAbsent = (inner: Projection): Projection =>
  inner === same ? same : (value) => (value === null || value === undefined ? value : inner(value));

const withDefault =
  (inner: Projection, makeDefault: () => unknown): Projection =>
  (value) =>
    value === undefined ? makeDefault() : inner(value);

const ofArray = (element: Projection): Projection =>
  element === same ? same : (value) => (value as unknown[]).map(element);

function ofRecord(item: Projection): Projection {
  if (item === same) return same;
  return (value) => Object.fromEntries(Object.entries(value as object).map(([name, each]) => [name, item(each)]));
}

function ofObject(def: z.core.$ZodObjectDef, schema: Schema, known: Known): Projection {
  // An object that keeps other names, or that changes as a whole, has no fixed list of names to copy.
  if ((def.catchall && definition(def.catchall).type !== "never") || (def.checks ?? []).some(changesValue as never))
    return parsedBy(schema);
  const fields = Object.entries(def.shape).map(([name, inner]) => ({ name, project: compile(inner, known) }));
  return literalOf(fields);
}

/**
 * Compiled from the names of our own schemas, as zod does: an object literal is copied five times faster than in a loop.
 * A field that is undefined is not in the JSON.
 */
function literalOf(fields: { name: string; project: Projection }[]): Projection {
  const own = fields.filter(({ project }) => project !== same);
  const parts = fields.map((field) => {
    const value = `value[${JSON.stringify(field.name)}]`;
    return `${JSON.stringify(field.name)}: ${field.project === same ? value : `field${own.indexOf(field)}(${value})`}`;
  });
  const compiled = new Function(...own.map((_, n) => `field${n}`), `return (value) => ({ ${parts.join(", ")} })`);
  return compiled(...own.map(({ project }) => project));
}

function ofUnion(def: z.core.$ZodUnionDef, schema: Schema, known: Known): Projection {
  const options = def.options.map((option) => ({ option, project: compile(option, known) }));
  if (options.every(({ project }) => project === same)) return same;
  const { discriminator } = def as { discriminator?: string };
  if (discriminator === undefined) return parsedBy(schema);
  const byValue = new Map(
    options.flatMap(({ option, project }) =>
      [...(option._zod.propValues?.[discriminator] ?? [])].map((value) => [value, project] as const),
    ),
  );
  return (value) => {
    const project = byValue.get((value as Record<string, never>)[discriminator] as never);
    if (!project) throw new Error(`No form of the output has this ${discriminator}.`);
    return project(value);
  };
}
