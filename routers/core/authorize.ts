import { TRPCError } from "@trpc/server";
import type { TenantSession } from "../../db/client.ts";
import { idPattern } from "../../db/ids.ts";
import { isStorable, storable } from "../../db/text.ts";
import { overflows } from "./bounds.ts";
import { rememberParsed } from "./checked-procedures.ts";
import { type Caller, type Context, type Principal, unknownPersonError } from "./context.ts";
import { ApiError } from "./errors.ts";
import { refuseInvalid } from "./refuse-invalid.ts";
import type { CompleteMeta } from "./rest-metadata.ts";
import { grants, type Scope } from "./scopes.ts";

/** `ctx.procedure`: the metadata of the procedure, complete as its builder has checked. */
export type ProcedureCall = { ctx: Context & { procedure: CompleteMeta } };

/** Authenticates the caller, chooses the client, checks the scope and counts the request against the rate limit. */
export async function authorizeTenant({ ctx }: ProcedureCall) {
  const { scope, limit } = ctx.procedure;
  const principal = await ctx.choosePrincipal(await ctx.authenticate());
  requireScope(principal.scopes, scope as Scope);
  ctx.spend(principal.id, limit, principal.clientId);
  return { principal, session: tenantSessionOf(principal, ctx.requestId) };
}

/** For long responses: throws once the caller has lost access. */
export async function reauthorize({ ctx }: ProcedureCall, caller: Caller, { id, clientId }: Principal) {
  const present = await ctx.choosePrincipal(caller);
  if (present.id !== id || present.clientId !== clientId) throw new ApiError("unauthenticated");
  requireScope(present.scopes, ctx.procedure.scope as Scope);
}

const checkEveryMs = 10_000;

/**
 * For a stream, which can last half an hour: reads a person's membership and role again every few seconds. Every transaction
 * checks an API key anyway. The person's token is not checked again: it was valid when the request arrived.
 */
export function membershipChecks(call: ProcedureCall, principal: Principal, now = () => performance.now()) {
  let checkedAt = now();
  return async () => {
    if (principal.kind !== "user" || now() - checkedAt < checkEveryMs) return;
    await reauthorize(call, await call.ctx.authenticate(), principal);
    checkedAt = now();
  };
}

export function requireScope(held: readonly string[], scope: Scope) {
  if (!grants(held, scope)) throw new ApiError("scope_missing", `Missing scope: ${scope}.`);
}

/** The client that owns the audit rows and idempotency keys of operators. */
export const platformClientId = "client_00000000000000000000000000";

/** Authorizes an operator for operator procedures, and a service for service procedures. */
export async function authorizeSystem({ ctx }: ProcedureCall) {
  const { access, scope, limit } = ctx.procedure;
  const caller = await ctx.authenticate();
  if (caller.kind === "stranger") throw unknownPersonError();
  const authorized = access === "service" ? serviceOf(caller, scope) : operatorOf(caller);
  // A credential that lists scopes has only these: an empty list grants nothing.
  if (authorized.scopes !== null && !authorized.scopes.some((held) => held === scope))
    throw new ApiError("scope_missing", `Missing scope: ${scope}. Use a token that has it.`);
  ctx.spend(authorized.id, limit);
  return { id: authorized.id, kind: caller.kind };
}

/** The client that an operator's command is about, if its input names one. */
export function targetOf(input: unknown): string[] {
  const { id, scope, clientId } = (input ?? {}) as { id?: unknown; scope?: unknown; clientId?: unknown };
  return [id, scope, clientId].filter((named): named is string => typeof named === "string" && isClientId.test(named));
}

const isClientId = idPattern("client");

type Authorized = { id: string; scopes: readonly string[] | null };

function operatorOf(caller: Caller): Authorized {
  if (caller.kind !== "user" || !caller.platform) throw new ApiError("platform_required");
  return { id: caller.userId, scopes: caller.scopes };
}

function serviceOf(caller: Caller, scope: string | null): Authorized {
  if (caller.kind === "service") return { id: `service:${caller.name}`, scopes: caller.scopes };
  throw new ApiError("scope_missing", `Missing scope: ${scope}. Only services of this installation can have it.`);
}

/**
 * Parses the input before a transaction opens, and after authentication, so that unauthenticated input is never parsed.
 * The resolver gets the result: see `rememberParsed`.
 */
export async function parseInput({
  ctx,
  path,
  getRawInput,
}: {
  ctx: Context;
  path: string;
  getRawInput: () => Promise<unknown>;
}) {
  const schema = ctx.inputOf(path);
  const raw = schema && (await getRawInput());
  if (schema) refuseInvalid(overflows(schema, raw));
  const result = schema ? schema.safeParse(raw) : { success: true as const, data: undefined };
  if (!result.success) throw new TRPCError({ code: "BAD_REQUEST", cause: result.error });
  refuseUnstorable(result.data, []);
  if (schema) rememberParsed(getRawInput, result.data);
  return result.data;
}

/** Refuses text that JSON can contain but Postgres cannot store, in values and in names. */
function refuseUnstorable(value: unknown, at: string[]): void {
  if (typeof value === "string") refuseText(value, at, "A text");
  if (typeof value !== "object" || value === null) return;
  for (const [name, inner] of Object.entries(value)) {
    refuseText(name, [...at, name], "A name");
    refuseUnstorable(inner, [...at, name]);
  }
}

function refuseText(text: string, at: string[], what: string) {
  if (isStorable(text)) return;
  const message = `${what} must not contain U+0000 or a lone surrogate (U+D800 to U+DFFF). Remove it.`;
  const path = storable(at.join("."));
  throw ApiError.invalid(path, message);
}

export const tenantSessionOf = (principal: Principal, requestId: string): TenantSession => {
  return { clientId: principal.clientId, keyId: principal.kind === "key" ? principal.id : null, requestId };
};
