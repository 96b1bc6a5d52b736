import type { z } from "zod";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";

type Schema = z.core.$ZodType;
type Check = { check: string; maximum?: number; minimum?: number; value?: number; length?: number };

/** Of every JSON type, and the forms that texts and numbers are refused for. */
const ofEveryType = [
  ...[undefined, null, true, "", " ", "word", "\u0007", "x".repeat(300), "{{x}}", "http://x", "9999-99-99"],
  ...[0, -1, 0.5, 3, 1e15, -1e15, 1e300, [], [null], [1], {}, { x: 1 }, { "a name\u0007": null }],
];

/**
 * Values that a schema refuses, and some that it accepts. A wrong value of a field is inside an otherwise empty object, so
 * that each place of the schema is reached: an object reports every field.
 */
export function wrongValues(schema: Schema, above: readonly Schema[] = []): unknown[] {
  const inner = unwrapped(schema);
  if (above.includes(inner)) return ofEveryType;
  const within = (next: Schema) => wrongValues(next, [...above, inner]);
  return [...ofEveryType, ...beyondLimits(inner), ...insideOf(inner, within)];
}

function insideOf(schema: Schema, within: (next: Schema) => unknown[]): unknown[] {
  const def = definition(schema);
  switch (def.type) {
    case "object":
      return Object.entries(def.shape).flatMap(([name, field]) =>
        within(field).map((value) => ({ ...constants(def.shape), [name]: value })),
      );
    case "array":
      return within(def.element).map((value) => [value]);
    case "record":
      return [
        ...within(def.valueType).map((value) => ({ key: value })),
        ...within(def.keyType).map((key) => ({ [String(key)]: "x" })),
      ];
    case "union":
      return def.options.flatMap(within);
    default:
      return [];
  }
}

/** The literal fields of an object, so that a union by such a field chooses it. */
function constants(shape: Readonly<Record<string, Schema>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(shape).flatMap(([name, field]) => {
      const def = definition(field);
      return def.type === "literal" ? [[name, def.values[0]]] : [];
    }),
  );
}

/** Just beyond each limit that the schema states. */
function beyondLimits(schema: Schema): unknown[] {
  const { type, checks } = definition(schema);
  const sized = (length: number) =>
    type === "array" ? Array.from({ length }, () => null) : type === "string" ? "x".repeat(length) : {};
  return (checks ?? []).flatMap((each) => {
    const { check, maximum, minimum, value, length } = each._zod.def as Check;
    if (check === "max_length") return [sized(maximum! + 1)];
    if (check === "min_length") return [sized(Math.max(0, minimum! - 1))];
    if (check === "length_equals") return [sized(length! + 1), sized(length! - 1)];
    if (check === "less_than") return [Number(value) + 1];
    return check === "greater_than" ? [Number(value) - 1] : [];
  });
}
