import { z } from "zod";
import { isFree, kindOf, maximumOf } from "../../routers/core/bounds.ts";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";

type Schema = z.core.$ZodType;

/** Formats whose pattern limits the length of a text. */
const shortFormats = new Set(["datetime", "cidrv4", "cidrv6", "ipv4", "ipv6"]);

/** The places of an input schema without a limit: a text, a list, a record, free JSON, a number. */
export function unboundedIn(schema: Schema, path = "", above: readonly Schema[] = []): string[] {
  const inner = unwrapped(schema);
  if (above.includes(inner)) return [];
  const def = definition(inner);
  const within = (next: Schema, more: string) => unboundedIn(next, path ? `${path}.${more}` : more, [...above, inner]);
  const missing = (is: boolean, what: string) => (is ? [] : [`${path}: ${what}`]);
  const meta = { ...z.globalRegistry.get(inner), ...z.globalRegistry.get(schema) };
  switch (def.type) {
    case "string":
      return missing(maximumOf(inner) !== undefined || isShort(inner), "a text without a maximum");
    case "number":
      return missing(hasEnds(inner), "a number without a minimum and a maximum");
    case "array":
      return [...missing(maximumOf(inner) !== undefined, "a list without a maximum"), ...within(def.element, "[]")];
    case "record":
      if (isFree(def.valueType))
        return [...missing(meta.json !== undefined, "JSON without bounds"), ...within(def.keyType, "{}")];
      return [
        ...missing(meta.maxProperties !== undefined, "a record without a maximum of entries"),
        ...within(def.keyType, "{}"),
        ...within(def.valueType, "*"),
      ];
    case "object":
      return Object.entries(def.shape).flatMap(([name, field]) => within(field, name));
    case "union":
      return [
        ...missing(isClear(def), "a union whose lists or objects cannot be distinguished"),
        ...def.options.flatMap((option, n) => within(option, `|${n}`)),
      ];
    case "unknown":
    case "any":
      return missing(meta.json !== undefined, "JSON without bounds");
    default:
      return [];
  }
}

/** A pattern without `*`, `+` or an open `{n,}` matches only texts of limited length. */
function isShort(schema: Schema): boolean {
  const { format, checks } = definition(schema) as z.core.$ZodStringDef & { format?: string };
  if (format && shortFormats.has(format)) return true;
  return (checks ?? []).some((check) => {
    const { pattern, format: named } = check._zod.def as { pattern?: RegExp; format?: string };
    if (named && shortFormats.has(named)) return true;
    const source = pattern?.source.replace(/\\.|\[(?:\\.|[^\]])*\]/g, "x");
    return source?.startsWith("^") === true && source.endsWith("$") && !/[*+]|\{\d+,\}/.test(source);
  });
}

function hasEnds(schema: Schema): boolean {
  const names = (definition(schema).checks ?? []).map((check) => check._zod.def.check);
  return names.includes("greater_than") && names.includes("less_than");
}

/** Lists and objects among alternatives are distinguished by their type or by a discriminator. */
function isClear({ options, discriminator }: z.core.$ZodUnionDef & { discriminator?: string }): boolean {
  if (discriminator) return true;
  const large = options.map(kindOf).filter((kind) => kind !== "small" && kind !== "text");
  return new Set(large).size === large.length && !(large.includes("mixed") && large.length > 1);
}
