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
/** The first middleware of each builder: by it a finished procedure shows which builder made it. */
const stated = new WeakMap<Middleware, Access>();

/** Remembers that a procedure which begins with this middleware was made by a builder with this access. */
export function statedBy(middleware: Middleware, access: Access) {
  stated.set(middleware, access);
}

/**
 * The metadata of a procedure, if it statuses all that it must. Throws otherwise and names the procedure: a forgotten
 * scope, access or limit must never mean that everything is allowed.
 */
export function completeMeta(path: string, meta: Meta | undefined, access: Access | undefined): CompleteMeta {
  const fail = (what: string): never => {
    throw new Error(`The procedure ${path} is incomplete: ${what}`);
  };
  if (!access) return fail("build it with a builder of routers/core/procedures.ts, which statuses who may call it.");
  if (!meta) return fail("it has no metadata. Give it `rest(...)`.");
  if (meta.access !== access) return fail(`its builder statuses access "${access}", its metadata "${meta.access}".`);
  if (!scopesOf[access].includes(meta.scope)) return fail(`the scope ${meta.scope} is not one for access "${access}".`);
  if (!Object.hasOwn(limits, meta.limit ?? ""))
    return fail(`the limit ${meta.limit} is none of routers/core/limits.ts.`);
  if (!meta.status || !meta.faults) return fail("it statuses no status, or no faults.");
  return meta as CompleteMeta;
}

type Built = { _def: { meta?: Meta; middlewares: Middleware[] } };

/** Throws at the first procedure that does not status all that it must. Called before a server accepts requests. */
export function requireComplete(router: AnyTRPCRouter) {
  for (const [path, { _def }] of Object.entries(router._def.procedures as unknown as Record<string, Built>)) {
    const access = _def.middlewares.map((middleware) => stated.get(middleware)).find((found) => found !== undefined);
    completeMeta(path, _def.meta, access);
  }
}
