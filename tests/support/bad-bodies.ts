import type { z } from "zod";
import { defaultBounds, isFree, maximumOf } from "../../routers/core/bounds.ts";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";

type Schema = z.core.$ZodType;
type Body = Record<string, unknown>;

export const bodyBytes = 900_000;

/** Bodies of almost a megabyte that no schema accepts, for every operation. */
export function hugeBodies(schema: Schema): [what: string, text: string][] {
  const named = fieldsOf(schema).flatMap(([name, field]) => [
    [`${name}: a list of numbers`, text(name, list("1"))] as const,
    [`${name}: a list of objects`, text(name, list('{"a":1}'))] as const,
    [
      `${name}: wrong pairs`,
      text(
        name,
        pairs((n) => `"!${n}":1`),
      ),
    ] as const,
    [`${name}: one long text`, text(name, JSON.stringify(" {{x".repeat(bodyBytes / 4)))] as const,
    [
      `${name}: as many pairs as the reader lets pass`,
      text(
        name,
        pairs((n) => `"!${n}":${" ".repeat(40)}1`),
      ),
    ] as const,
    [`${name}: as many items as the reader lets pass`, text(name, list(`${" ".repeat(44)}{"a":1}`))] as const,
    [`${name}: a deep list`, text(name, `${"[".repeat(bodyBytes / 2)}${"]".repeat(bodyBytes / 2)}`)] as const,
    [`${name}: as much wrong as its counts allow`, JSON.stringify({ [name]: wrong(field) })] as const,
  ]);
  return [
    ["unknown fields", `{${pairs((n) => `"f${n}":1`).slice(1)}`],
    ["as many unknown fields as the reader lets pass", `{${pairs((n) => `"f${n}":${" ".repeat(40)}1`).slice(1)}`],
    ["one long unknown name", `{"${"n".repeat(bodyBytes)}":1}`],
    ["every field as wrong as its counts allow", JSON.stringify(wrong(schema))],
    ...named,
  ].map(([what, made]) => [what!, made!]);
}

const text = (name: string, value: string) => `{${JSON.stringify(name)}:${value}}`;
const list = (item: string) => `[${new Array(Math.floor(bodyBytes / (item.length + 1))).fill(item).join()}]`;

function pairs(pair: (n: number) => string): string {
  const made: string[] = [];
  for (let size = 0; size < bodyBytes; ) size += made[made.push(pair(made.length)) - 1]!.length + 1;
  return `{${made.join()}}`;
}

function fieldsOf(schema: Schema): [string, Schema][] {
  const def = definition(unwrapped(schema));
  return def.type === "object" ? Object.entries(def.shape) : [];
}

/** A value within every size limit that is otherwise invalid. */
function wrong(schema: Schema, depth = 0): unknown {
  const inner = unwrapped(schema);
  const def = definition(inner);
  if (depth > 8) return 1;
  switch (def.type) {
    case "string":
      return " ".repeat(Math.min(maximumOf(inner) ?? defaultBounds.text, 20_000));
    case "array":
      return Array.from({ length: maximumOf(inner) ?? defaultBounds.items }, () => wrong(def.element, depth + 1));
    case "record": {
      const count = isFree(def.valueType) ? 400 : 50;
      return Object.fromEntries(Array.from({ length: count }, (_, n) => [`! ${n}`, isFree(def.valueType) ? "x" : []]));
    }
    case "object": {
      const made: Body = {};
      for (const [name, field] of Object.entries(def.shape)) made[name] = wrong(field, depth + 1);
      for (let n = 0; n < 15; n += 1) made[`unknown${n}`] = 1;
      return made;
    }
    case "union":
      return wrong(def.options.at(-1)!, depth + 1);
    case "literal":
      return def.values[0];
    case "enum":
      return Object.values(def.entries)[0];
    default:
      return "wrong";
  }
}
