import { z } from "zod";
import { ApiError } from "../../routers/core/errors.ts";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";
import { isForbiddenKey } from "../json/limits.ts";

/** Converts the texts of one URL parameter to the type of the field's schema. */
export type Reader = (texts: string[], name: string) => unknown;

/**
 * Returns the reader for a field by its schema, which stays unchanged: the same schema validates bodies and /trpc. A text
 * that does not fit is passed on, so that the schema refuses it with its own message.
 */
export function readerOf(schema: z.core.$ZodType, owner: string): Reader {
  const def = definition(unwrapped(schema));
  switch (def.type) {
    case "number":
      return single(decimal);
    case "boolean":
      return single(truth);
    case "bigint":
      return single(whole);
    case "date":
      return single(moment);
    case "literal":
      return literal(def.values);
    case "enum":
      return literal(Object.values(def.entries));
    case "array": {
      const item = readerOf(def.element, owner);
      return (texts, name) => texts.map((text) => item([text], name));
    }
    case "record":
      return pairs(readerOf(def.valueType, owner));
    case "union":
      return firstThatReads(def.options.map((option) => readerOf(option, owner)));
    case "object":
    case "map":
    case "set":
    case "tuple":
    case "file":
      throw new Error(`${owner}: a URL cannot carry a value of type ${def.type}.`);
    default:
      return single((text) => text);
  }
}

function single(read: (text: string) => unknown): Reader {
  return (texts, name) => {
    if (texts.length === 1) return read(texts[0]!);
    throw ApiError.invalid(name, "Send it only once.");
  };
}

const decimal = (text: string) => (/^-?(0|[1-9]\d*)(\.\d+)?$/.test(text) ? Number(text) : text);
const truth = (text: string) => (text === "true" ? true : text === "false" ? false : text);
const whole = (text: string) => (/^-?(0|[1-9]\d*)$/.test(text) ? BigInt(text) : text);

const IsoMoment = z.union([z.iso.datetime({ offset: true }), z.iso.date()]);
const moment = (text: string) => (IsoMoment.safeParse(text).success ? new Date(text) : text);

function literal(values: readonly unknown[]): Reader {
  const byText = new Map(values.map((value) => [String(value), value]));
  return single((text) => byText.get(text) ?? text);
}

/** For alternatives, such as a number or a word: the first reader that converts the text. */
function firstThatReads(readers: Reader[]): Reader {
  return (texts, name) => {
    for (const read of readers) {
      const value = read(texts, name);
      if (value !== texts[0]) return value;
    }
    return texts[0];
  };
}

/** `metadata=tier:gold&metadata=site:https://x` -> `{ tier: "gold", site: "https://x" }`: the first colon separates. */
function pairs(value: Reader): Reader {
  return (texts, name) => {
    const record: Record<string, unknown> = {};
    for (const text of texts) {
      const colon = text.indexOf(":");
      if (colon < 1) throw ApiError.invalid(name, "Write it as key:value, and repeat it for more pairs.");
      const key = text.slice(0, colon);
      if (isForbiddenKey(key)) throw ApiError.invalid(`${name}.${key}`, "This name is not allowed.");
      if (Object.hasOwn(record, key)) throw ApiError.invalid(`${name}.${key}`, "Send it only once.");
      record[key] = value([text.slice(colon + 1)], `${name}.${key}`);
    }
    return record;
  };
}
