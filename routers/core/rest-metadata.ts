import type { OpenApiMeta } from "trpc-to-openapi";
import type { VaultPurpose } from "../ports/vault.ts";
import type { ErrorCode } from "./errors.ts";
import type { LimitClass } from "./limits.ts";
import type { Scope, SystemScope } from "./scopes.ts";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/**
 * Who may call a procedure, and whose rows it sees. `tenant`: rows of one client. `self`: the caller's own memberships.
 * `operator`: over all clients, for those who run the installation. `service`: for the installation's own services.
 */
export type Access = "tenant" | "self" | "operator" | "service";

/** What a door says of itself. `scope` null: any authenticated caller, before a client is chosen. */
export type ProcedureOptions = {
  scope: Scope | SystemScope | null;
  /** Stated by the builder in routers/core/procedures.ts. A procedure does not repeat it, and cannot change it. */
  access: Access;
  status: 200 | 201 | 202 | 204;
  limit: LimitClass;
  /** The failures of its own, beside those that any door may answer. */
  faults: readonly ErrorCode[];
  /** Fetched before the transaction opens: `ctx.ring` seals and opens with the keys of this purpose. */
  vault?: VaultPurpose;
  /** Changes nothing, though it is a POST by shape: it leaves no audit row. */
  reads?: true;
  /** The answer holds links of `openUploads`: they are signed after the commit, and anew in a replay. */
  signs?: true;
  /** Answers no JSON but a stream of this type: the procedure gives `Chunks`, by the builder `stream`. */
  produces?: "text/csv" | "audio/wav";
  /** Its 202 in words, and what its answer shows then: of a door that always answers so, and of an outbound that was not answered. */
  accepted?: Accepted;
};

type Accepted = { says: string; shows: Readonly<Record<string, unknown>> };

/** As a procedure statuses it: its builder adds `access`. */
export type Meta = OpenApiMeta<Omit<ProcedureOptions, "access">> & { access?: Access };
/** With all that a procedure must status: see routers/core/complete-metadata.ts. */
export type CompleteMeta = OpenApiMeta<ProcedureOptions>;

type Options = Partial<Omit<ProcedureOptions, "scope" | "access">> & { description?: string };

/** Opens a procedure at /api/v1 too. The tag is the path's first word; a POST to a collection answers 201. */
export function rest(
  method: Method,
  path: `/${string}`,
  scope: Scope | SystemScope | null,
  summary: string,
  options: Options = {},
): Meta {
  const { description, ...door } = options;
  const created = method === "POST" && !path.includes("{");
  return {
    scope,
    status: method === "DELETE" ? 204 : created ? 201 : 200,
    limit: method === "GET" ? "read" : "write",
    faults: [],
    ...door,
    openapi: { method, path, summary, ...(description ? { description } : {}), tags: [path.split("/")[1]!] },
  };
}

/** A subscription: on /trpc alone, where it answers with server-sent events. */
export const subscription = (scope: Scope): Meta => ({ scope, status: 200, limit: "read", faults: [] });
