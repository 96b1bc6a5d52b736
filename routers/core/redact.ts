import { z } from "zod";
import type { Redaction } from "./schema-kind.ts";

type Redactor = (value: unknown) => unknown;

const redactors = new WeakMap<z.ZodType, Redactor>();

/** The input for the audit log: fields marked `secret` are removed, `personal` ones are masked. */
export const redact = (schema: z.ZodType, value: unknown): unknown => redactorOf(schema)(value);

/** The redaction of a schema, which is read once. */
function redactorOf(schema: z.ZodType): Redactor {
  const known = redactors.get(schema);
  if (known) return known;
  const mark = markOf(schema);
  const inside = mark === "personal" ? () => "[personal]" : insideOf(unwrap(schema));
  const redactor: Redactor =
    mark === "secret" ? () => undefined : (value) => (value === null || value === undefined ? value : inside(value));
  redactors.set(schema, redactor);
  return redactor;
}

function insideOf(inner: z.ZodType): Redactor {
  if (inner instanceof z.ZodObject) {
    const { shape } = inner;
    return (value) => (isPlain(value) ? redactFields(shape, value) : value);
  }
  if (inner instanceof z.ZodArray) {
    const element = inner.element as z.ZodType;
    return (value) => (Array.isArray(value) ? value.map((item) => redact(element, item)) : value);
  }
  if (inner instanceof z.ZodUnion) {
    const options = inner.options as z.ZodType[];
    return (value) => {
      const option = options.find((candidate) => candidate.safeParse(value).success);
      return option ? redact(option, value) : undefined;
    };
  }
  return (value) => value;
}

function redactFields(shape: Readonly<Record<string, z.ZodType>>, value: Record<string, unknown>) {
  const shown: Record<string, unknown> = {};
  for (const [key, leaf] of Object.entries(value)) {
    const field = Object.hasOwn(shape, key) ? shape[key] : undefined;
    const redacted = field ? redact(field, leaf) : undefined;
    if (redacted !== undefined) shown[key] = redacted;
  }
  return shown;
}

function markOf(schema: z.ZodType): Redaction | undefined {
  const own = z.globalRegistry.get(schema)?.redact;
  if (own) return own;
  const inner = peel(schema);
  return inner ? markOf(inner) : undefined;
}

export function unwrap(schema: z.ZodType): z.ZodType {
  const inner = peel(schema);
  return inner ? unwrap(inner) : schema;
}

function peel(schema: z.ZodType): z.ZodType | undefined {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodReadonly
  ) {
    return schema.unwrap() as z.ZodType;
  }
  if (schema instanceof z.ZodPipe) return schema.in as z.ZodType;
}

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && !Array.isArray(value);
