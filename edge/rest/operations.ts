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

/** A procedure that also answers at /api/v1, with what the edge must know of it, worked out once. */
export type RestOperation = {
  procedure: string;
  type: "query" | "mutation";
  meta: Meta;
  rest: NonNullable<Meta["openapi"]>;
  takesBody: boolean;
  params: string[];
  input: z.core.$ZodObject | null;
  output: Schema | undefined;
  /** What a list is made of; null for everything that is not a list. */
  item: Schema | null;
};

/** Of the installation's own services: at the root alone, and no part of the public document. */
export const isInternal = ({ rest }: RestOperation) => rest.path.startsWith("/internal/");
/** The operator's doors stand at the root as well. */
export const isAdmin = ({ rest }: RestOperation) => rest.path.startsWith("/admin/");

/** Every public door of a router. A door that could not keep its word stops the start, not a request. */
export function operationsOf(router: AnyTRPCRouter): RestOperation[] {
  const procedures: Record<string, AnyTRPCProcedure> = router._def.procedures;
  return Object.entries(procedures).flatMap(([procedure, built]) => {
    const { type, meta, inputs, output } = definitionOf(built);
    if (!meta?.openapi || meta.openapi.enabled === false) return [];
    if (type === "subscription") throw new Error(`${procedure}: a subscription cannot be a REST door.`);
    if (inputs.length > 1) throw new Error(`${procedure}: a REST door takes one input object, not several.`);
    const { method, path } = meta.openapi;
    const input = inputs[0] ? objectWithin(inputs[0]) : null;
    if (inputs[0] && !input && !isVoid(inputs[0])) throw new Error(`${procedure}: a REST input must be an object.`);
    const params = Array.from(path.matchAll(/\{([^}]+)\}/g), ([, name]) => name!);
    const lost = params.find((name) => !input?._zod.def.shape[name]);
    if (lost) throw new Error(`${procedure}: the path names {${lost}}, the input does not.`);
    const takesBody = method !== "GET" && method !== "DELETE";
    return [{ procedure, type, meta, rest: meta.openapi, takesBody, params, input, output, item: itemWithin(output) }];
  });
}

/** tRPC types a procedure's schemas and meta as unknown and hides `output`: here, once, they get their names. */
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

/** A page is known by its shape: exactly `items`, `nextCursor` and `hasMore`. */
function itemWithin(output: Schema | undefined): Schema | null {
  const shape = output && objectWithin(output)?._zod.def.shape;
  if (!shape?.items || !shape.nextCursor || !shape.hasMore || Object.keys(shape).length !== 3) return null;
  const items = definition(unwrapped(shape.items));
  return items.type === "array" ? items.element : null;
}
