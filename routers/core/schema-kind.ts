import type { z } from "zod";

type Schema = z.core.$ZodType;

/** How the audit log treats a field of the input. `none` states that the field was considered. */
export type Redaction = "secret" | "personal" | "none";

export type JsonBounds = { bytes: number; depth: number };

declare module "zod/v4/core" {
  interface GlobalMeta {
    redact?: Redaction;
    /** For a record: its maximum number of entries, also shown in the OpenAPI document. */
    maxProperties?: number;
    /** For free JSON: its maximum size and depth. */
    json?: JsonBounds;
  }
}

/** The definition, typed as zod's union of all schema classes: `$ZodType` itself cannot be narrowed. */
export function definition(schema: Schema): z.core.$ZodTypes["_zod"]["def"] {
  return (schema as z.core.$ZodTypes)._zod.def;
}

/** The schema of the value itself, without the wrappers for absent values. */
export function unwrapped(schema: Schema): Schema {
  const def = definition(schema);
  switch (def.type) {
    case "optional":
    case "default":
    case "prefault":
    case "nullable":
    case "nonoptional":
    case "readonly":
    case "catch":
      return unwrapped(def.innerType);
    case "pipe":
      // A preprocessing step has no shape: the schema after it describes the value.
      return unwrapped(definition(def.in).type === "transform" ? def.out : def.in);
    case "lazy":
      return unwrapped(def.getter());
    default:
      return schema;
  }
}
