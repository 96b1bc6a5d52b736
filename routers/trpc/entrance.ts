import { TRPCError } from "@trpc/server";
import type { Entry } from "../../db/client.ts";
import { isStorable, storable } from "../../db/text.ts";
import { overflows } from "../bounds.ts";
import { Fault, type FaultDetail } from "../fault.ts";
import type { Meta } from "../rest.ts";
import { grants, type HouseScope, houseScopes } from "../scopes.ts";
import { type Context, type Principal, unknownPerson } from "./context.ts";

export const door = (meta: Meta | undefined): Meta => {
  if (!meta) throw new Error("A procedure without meta has no door.");
  return meta;
};

export type Asked = { ctx: Context; meta: Meta | undefined };

/** Who may come in: the caller is known, his client chosen, his scope looked at, his limit spent. */
export async function admit({ ctx, meta }: Asked) {
  const { scope, limit, wall } = door(meta);
  if (!scope || wall !== "client") throw new Error("This procedure is no client's: it wants another builder.");
  const principal = await ctx.choosePrincipal(await ctx.authenticate());
  if (!grants(principal.scopes, scope))
    throw new Fault("scope_missing", `This takes the scope ${scope}, which you do not have.`);
  ctx.spend(principal.id, limit);
  return { principal, entry: entryOf(principal, ctx.requestId) };
}

/** The operator: his audit and his idempotency keys stand under a client of his own. */
export const platformClientId = "client_00000000000000000000000000";

/** Who may come in from the house: an operator at his doors, a service at its own. */
export async function admitToHouse({ ctx, meta }: Asked) {
  const { scope, limit, wall } = door(meta);
  const caller = await ctx.authenticate();
  if (caller.kind === "stranger") throw unknownPerson();
  if (wall === "house" && !(caller.kind === "user" && caller.platform)) throw new Fault("platform_required");
  if (wall === "owner" && caller.kind !== "service") {
    throw new Fault("scope_missing", `This takes the scope ${scope}, which only a service of this installation has.`);
  }
  const own =
    caller.kind === "user"
      ? caller.scopes?.filter((held): held is HouseScope => (houseScopes as readonly string[]).includes(held))
      : null;
  if (own && own.length > 0 && !own.some((held) => held === scope))
    throw new Fault("scope_missing", `This takes the scope ${scope}, which your token does not carry.`);
  const id =
    caller.kind === "user" ? caller.userId : caller.kind === "service" ? `service:${caller.name}` : caller.keyId;
  ctx.spend(id, limit);
  return { id, kind: caller.kind };
}

/**
 * Parses before anything is opened, and not before the caller is known: what a stranger sends is not looked at.
 * The procedure's own parser runs again and gives the resolver its types.
 */
export async function parse({
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
  if (first) throw new Fault("invalid_input", `${first.path || "The body"}: ${first.message}`, { details });
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
  throw new Fault("invalid_input", `${path}: ${message}`, { details: [{ path, message }] });
}

export const entryOf = (principal: Principal, requestId: string): Entry => {
  return { clientId: principal.clientId, keyId: principal.kind === "key" ? principal.id : null, requestId };
};
