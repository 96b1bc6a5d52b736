import type { OpenApiMeta } from "trpc-to-openapi";
import type { VaultPurpose } from "../ports/vault.ts";
import type { ErrorCode } from "./errors.ts";
import type { LimitClass } from "./limits.ts";
import type { Scope, SystemScope } from "./scopes.ts";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/**
 * Who may call a procedure, and which rows it sees. `tenant`: one client's rows. `self`: the caller's own memberships.
 * `operator`: all clients, for operators of the installation. `service`: for the installation's own services.
 */
export type Access = "tenant" | "self" | "operator" | "service";

/** The metadata of a procedure. `scope` null: any authenticated caller, before a client is chosen. */
export type ProcedureOptions = {
  scope: Scope | SystemScope | null;
  /** Set by the builder in routers/core/procedures.ts. A procedure does not repeat it, and cannot change it. */
  access: Access;
  status: 200 | 201 | 202 | 204;
  limit: LimitClass;
  /** The error codes of this procedure, beside those that every endpoint can return. */
  errors: readonly ErrorCode[];
  /** The purpose of `ctx.cipher`, whose keys are fetched before the transaction opens. */
  vault?: VaultPurpose;
  /** A POST that changes nothing, and so has no audit row. */
  reads?: true;
  /** The output contains upload links, which are signed after the commit, and again on a replay. */
  signs?: true;
  /** Responds with a stream of this media type: the procedure returns `Chunks` and uses the builder `stream`. */
  produces?: "text/csv" | "audio/wav";
  /** Describes the 202, and the fields that it example: for procedures that always return 202, and for an unknown outcome. */
  accepted?: Accepted;
};

type Accepted = { description: string; example: Readonly<Record<string, unknown>> };

/** As a procedure declares it. Its builder adds `access`. */
export type Meta = OpenApiMeta<Omit<ProcedureOptions, "access">> & { access?: Access };
/** Complete, as routers/core/complete-metadata.ts has checked. */
export type CompleteMeta = OpenApiMeta<ProcedureOptions>;

type Options = Partial<Omit<ProcedureOptions, "scope" | "access">> & { description?: string };

/** Adds a procedure to /api/v1. The tag is the first segment of the path. A POST to a collection returns 201. */
export function rest(
  method: Method,
  path: `/${string}`,
  scope: Scope | SystemScope | null,
  summary: string,
  options: Options = {},
): Meta {
  const { description, ...more } = options;
  const created = method === "POST" && !path.includes("{");
  return {
    scope,
    status: method === "DELETE" ? 204 : created ? 201 : 200,
    limit: method === "GET" ? "read" : "write",
    errors: [],
    ...more,
    openapi: { method, path, summary, description, tags: [path.split("/")[1]!] },
  };
}

/** A subscription. It exists on /trpc only, and responds with server-sent events. */
export const subscription = (scope: Scope): Meta => ({ scope, status: 200, limit: "read", errors: [] });
