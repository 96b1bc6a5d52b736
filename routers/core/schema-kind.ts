import type { z } from "zod";

type Schema = z.core.$ZodType;

/** How the audit treats a leaf of the input. `none` is a decision too: somebody looked. */
export type Redaction = "secret" | "personal" | "none";

export type JsonBounds = { bytes: number; depth: number };

declare module "zod/v4/core" {
  interface GlobalMeta {
    redact?: Redaction;
    /** Of a record: how many entries it has at most. The document says it too. */
    maxProperties?: number;
    /** Of free JSON: how large and how deep it may be. */
    json?: JsonBounds;
  }
}

/** zod's own union of all its schema classes, which a plain `$ZodType` is never narrowed to. */
export function definition(schema: Schema): z.core.$ZodTypes["_zod"]["def"] {
  return (schema as z.core.$ZodTypes)._zod.def;
}

/** The schema of the value itself, without the layers that only say what happens when it is absent. */
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
      // A preprocessing step has no shape of its own: what follows it describes the value.
      return unwrapped(definition(def.in).type === "transform" ? def.out : def.in);
    case "lazy":
      return unwrapped(def.getter());
    default:
      return schema;
  }
}
