import type { AnyTRPCRouter } from "@trpc/server";
import { limits } from "./limits.ts";
import type { Access, CompleteMeta, Meta } from "./rest-metadata.ts";
import { scopes, systemScopes } from "./scopes.ts";

const operatorScopes = systemScopes.filter((scope) => scope.startsWith("platform:"));
const serviceScopes = systemScopes.filter((scope) => scope.startsWith("internal:"));
const scopesOf: Record<Access, readonly (string | null)[]> = {
  tenant: scopes,
  self: [null],
  operator: operatorScopes,
  service: serviceScopes,
};

type Middleware = (...given: never[]) => unknown;
/** The first middleware of each builder, which identifies the builder of a finished procedure. */
const builders = new WeakMap<Middleware, Access>();

/** Records that procedures which begin with this middleware were built with this access. */
export function markBuilder(middleware: Middleware, access: Access) {
  builders.set(middleware, access);
}

/**
 * Returns the metadata of a procedure if it is complete. Otherwise throws and names the procedure: a missing scope, access
 * or limit must never mean that everything is allowed.
 */
export function completeMeta(path: string, meta: Meta | undefined, access: Access | undefined): CompleteMeta {
  const fail = (what: string): never => {
    throw new Error(`The procedure ${path} is incomplete: ${what}`);
  };
  if (!access) return fail("build it with a builder of routers/core/procedures.ts, which states who may call it.");
  if (!meta) return fail("it has no metadata. Add `.meta(rest(...))`.");
  if (meta.access !== access)
    return fail(`its builder states access "${access}", but its metadata states "${meta.access}".`);
  if (!scopesOf[access].includes(meta.scope))
    return fail(`the scope ${meta.scope} does not belong to access "${access}".`);
  if (!Object.hasOwn(limits, meta.limit ?? ""))
    return fail(`the limit ${meta.limit} is not in routers/core/limits.ts.`);
  if (!meta.status || !meta.errors) return fail("it states no status, or no errors.");
  return meta as CompleteMeta;
}

type Built = { _def: { meta?: Meta; middlewares: Middleware[] } };

/** Throws at the first procedure with incomplete metadata. Called before a server accepts requests. */
export function requireComplete(router: AnyTRPCRouter) {
  for (const [path, { _def }] of Object.entries(router._def.procedures as unknown as Record<string, Built>)) {
    const access = _def.middlewares.map((middleware) => builders.get(middleware)).find((found) => found !== undefined);
    completeMeta(path, _def.meta, access);
  }
}
