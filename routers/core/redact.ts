import { z } from "zod";
import type { Redaction } from "./schema-kind.ts";

/** The input for the audit log: fields marked `secret` are removed, `personal` ones are masked. */
export function redact(schema: z.ZodType, value: unknown): unknown {
  const mark = markOf(schema);
  if (mark === "secret") return undefined;
  if (value === null || value === undefined) return value;
  if (mark === "personal") return "[personal]";
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject && isPlain(value)) {
    const entries = Object.entries(value).map(([key, leaf]) => {
      const field: z.ZodType | undefined = inner.shape[key];
      return [key, field ? redact(field, leaf) : undefined] as const;
    });
    return Object.fromEntries(entries.filter(([, leaf]) => leaf !== undefined));
  }
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    return value.map((item) => redact(inner.element as z.ZodType, item));
  }
  if (inner instanceof z.ZodUnion) {
    const option = (inner.options as z.ZodType[]).find((candidate) => candidate.safeParse(value).success);
    return option ? redact(option, value) : undefined;
  }
  return value;
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
