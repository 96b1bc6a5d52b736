import type { AnyTRPCProcedure, AnyTRPCRouter } from "@trpc/server";
import type { z } from "zod";
import type { Meta } from "../../routers/core/rest-metadata.ts";
import { definition, unwrapped } from "../../routers/core/schema-kind.ts";

type Schema = z.core.$ZodType;
type Definition = {
  type: "query" | "mutation" | "subscription";
  meta: Meta | undefined;
  inputs: Schema[];
  output: Schema | undefined;
};

/** A procedure that is served at /api/v1, with the properties that the edge needs, computed once. */
export type RestOperation = {
  procedure: string;
  type: "query" | "mutation";
  meta: Meta;
  rest: NonNullable<Meta["openapi"]>;
  takesBody: boolean;
  params: string[];
  input: z.core.$ZodObject | null;
  output: Schema | undefined;
  /** The item schema of a list; null if it is not a list. */
  item: Schema | null;
};

/** For the installation's own services: only at the root, and not in the public document. */
export const isInternal = ({ rest }: RestOperation) => rest.path.startsWith("/internal/");
/** Operator operations are served at the root too. */
export const isAdmin = ({ rest }: RestOperation) => rest.path.startsWith("/admin/");

/** Every REST operation of a router. An invalid one fails at start, not at a request. */
export function operationsOf(router: AnyTRPCRouter): RestOperation[] {
  const procedures: Record<string, AnyTRPCProcedure> = router._def.procedures;
  return Object.entries(procedures).flatMap(([procedure, built]) => {
    const { type, meta, inputs, output } = definitionOf(built);
    if (!meta?.openapi || meta.openapi.enabled === false) return [];
    if (type === "subscription") throw new Error(`${procedure}: a subscription cannot be a REST operation.`);
    if (inputs.length > 1) throw new Error(`${procedure}: a REST operation takes one input object, not several.`);
    const { method, path } = meta.openapi;
    const input = inputs[0] ? objectWithin(inputs[0]) : null;
    if (inputs[0] && !input && !isVoid(inputs[0])) throw new Error(`${procedure}: a REST input must be an object.`);
    const params = Array.from(path.matchAll(/\{([^}]+)\}/g), ([, name]) => name!);
    const lost = params.find((name) => !input?._zod.def.shape[name]);
    if (lost) throw new Error(`${procedure}: the path has {${lost}}, the input has not.`);
    const takesBody = method !== "GET" && method !== "DELETE";
    return [{ procedure, type, meta, rest: meta.openapi, takesBody, params, input, output, item: itemWithin(output) }];
  });
}

/** tRPC types a procedure's schemas and meta as unknown and hides `output`: this is the only cast. */
function definitionOf(procedure: AnyTRPCProcedure): Definition {
  return procedure._def as unknown as Definition;
}

const isVoid = (schema: Schema) => ["void", "undefined", "never"].includes(definition(schema).type);

function objectWithin(schema: Schema): z.core.$ZodObject | null {
  const inner = unwrapped(schema);
  return isObject(inner) ? inner : null;
}

function isObject(schema: Schema): schema is z.core.$ZodObject {
  return definition(schema).type === "object";
}

/** A page has exactly `items`, `nextCursor` and `hasMore`. */
function itemWithin(output: Schema | undefined): Schema | null {
  const shape = output && objectWithin(output)?._zod.def.shape;
  if (!shape?.items || !shape.nextCursor || !shape.hasMore || Object.keys(shape).length !== 3) return null;
  const items = definition(unwrapped(shape.items));
  return items.type === "array" ? items.element : null;
}
