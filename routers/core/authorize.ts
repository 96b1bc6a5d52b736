import { TRPCError } from "@trpc/server";
import type { TenantSession } from "../../db/client.ts";
import { idPattern } from "../../db/ids.ts";
import { isStorable, storable } from "../../db/text.ts";
import { overflows } from "./bounds.ts";
import { type Caller, type Context, type Principal, unknownPersonError } from "./context.ts";
import { ApiError, type FaultDetail } from "./errors.ts";
import type { CompleteMeta } from "./rest-metadata.ts";
import { grants, type Scope } from "./scopes.ts";

/** `door`: the metadata of the procedure, which its builder has found to be complete. */
export type ProcedureCall = { ctx: Context & { door: CompleteMeta } };

/** Who may come in: the caller is known, his client chosen, his scope looked at, his limit spent. */
export async function authorizeTenant({ ctx }: ProcedureCall) {
  const { scope, limit } = ctx.door;
  const principal = await ctx.choosePrincipal(await ctx.authenticate());
  requireScope(principal.scopes, scope as Scope);
  ctx.spend(principal.id, limit, principal.clientId);
  return { principal, entry: tenantSessionOf(principal, ctx.requestId) };
}

/** For what goes on for long: throws when the caller may do this no more. */
export async function admitAgain({ ctx }: ProcedureCall, caller: Caller, { id, clientId }: Principal) {
  const present = await ctx.choosePrincipal(caller);
  if (present.id !== id || present.clientId !== clientId) throw new ApiError("unauthenticated");
  requireScope(present.scopes, ctx.door.scope as Scope);
}

const checkEveryMs = 10_000;

/**
 * For a stream, which may go on for half an hour: a person's membership and role are read again every few seconds. A key
 * is looked at in each transaction anyway. The token is not: it was good when the request came.
 */
export function membershipChecks(asked: ProcedureCall, principal: Principal, now = () => performance.now()) {
  let checkedAt = now();
  return async () => {
    if (principal.kind !== "user" || now() - checkedAt < checkEveryMs) return;
    await admitAgain(asked, await asked.ctx.authenticate(), principal);
    checkedAt = now();
  };
}

export function requireScope(held: readonly string[], scope: Scope) {
  if (!grants(held, scope))
    throw new ApiError("scope_missing", `This takes the scope ${scope}, which you do not have.`);
}

/** The operator: his audit and his idempotency keys stand under a client of his own. */
export const platformClientId = "client_00000000000000000000000000";

/** Who may come in from the house: an operator at the operator's procedures, a service at those of services. */
export async function authorizeSystem({ ctx }: ProcedureCall) {
  const { access, scope, limit } = ctx.door;
  const caller = await ctx.authenticate();
  if (caller.kind === "stranger") throw unknownPersonError();
  const admitted = access === "service" ? serviceOf(caller, scope) : operatorOf(caller);
  // A credential that names scopes has these and no others: an empty list grants nothing.
  if (admitted.scopes !== null && !admitted.scopes.some((held) => held === scope))
    throw new ApiError("scope_missing", `This takes the scope ${scope}, which your token does not carry.`);
  ctx.spend(admitted.id, limit);
  return { id: admitted.id, kind: caller.kind };
}

/** The client that an operator's command is about, where its input names one. */
export function targetOf(input: unknown): string[] {
  const { id, scope, clientId } = (input ?? {}) as { id?: unknown; scope?: unknown; clientId?: unknown };
  return [id, scope, clientId].filter((named): named is string => typeof named === "string" && isClientId.test(named));
}

const isClientId = idPattern("client");

type Admitted = { id: string; scopes: readonly string[] | null };

function operatorOf(caller: Caller): Admitted {
  if (caller.kind !== "user" || !caller.platform) throw new ApiError("platform_required");
  return { id: caller.userId, scopes: caller.scopes };
}

function serviceOf(caller: Caller, scope: string | null): Admitted {
  if (caller.kind === "service") return { id: `service:${caller.name}`, scopes: caller.scopes };
  throw new ApiError("scope_missing", `This takes the scope ${scope}, which only a service of this installation has.`);
}

/**
 * Parses before anything is opened, and not before the caller is known: what a stranger sends is not looked at.
 * The procedure's own parser runs again and gives the resolver its types.
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
  const given = schema && (await getRawInput());
  if (schema) refuseOverflow(overflows(schema, given));
  const result = schema ? await schema.safeParseAsync(given) : { success: true as const, data: undefined };
  if (!result.success) throw new TRPCError({ code: "BAD_REQUEST", cause: result.error });
  refuseUnstorable(result.data, []);
  return result.data;
}

function refuseOverflow(details: FaultDetail[]) {
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path || "The body"}: ${first.message}`, { details });
}

/** What JSON can say and the database cannot keep, in a value or in a name: it would be no one's bug but the caller's. */
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
  const message = `${what} must not hold the character U+0000, nor half of a surrogate pair (U+D800 to U+DFFF). Leave it out.`;
  const path = storable(at.join("."));
  throw new ApiError("input_invalid", `${path}: ${message}`, { details: [{ path, message }] });
}

export const tenantSessionOf = (principal: Principal, requestId: string): TenantSession => {
  return { clientId: principal.clientId, keyId: principal.kind === "key" ? principal.id : null, requestId };
};
