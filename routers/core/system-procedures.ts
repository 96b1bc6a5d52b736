import type { Tx } from "../../db/client.ts";
import { authorizeSystem, parseInput, platformClientId, targetOf } from "./authorize.ts";
import { type Person, type Principal, unknownPersonError } from "./context.ts";
import { ApiError } from "./errors.ts";
import { clientOwning, existingClient, invitingClient } from "./resolve-client.ts";
import { runCommand } from "./run-command.ts";
import { accessible, listKeyOf, throwFailure } from "./trpc.ts";

/** Before a client is chosen: the caller's own profile and memberships. */
export const selfQuery = accessible("self").use(async ({ ctx, next }) => {
  const caller = await ctx.authenticate();
  if (caller.kind === "service") {
    throw new ApiError("scope_missing", "A service token has no clients. Use the token of a person, or an API key.");
  }
  if (caller.kind === "stranger") throw unknownPersonError();
  const { limit } = ctx.procedure;
  if (caller.kind === "key") ctx.spend(caller.keyId, limit, caller.clientId);
  else ctx.spend(caller.userId, limit);
  return next({ ctx: { caller } });
});

/** A command of a person who may not be a member yet: a system transaction for the client of the invitation. */
export const selfCommand = accessible("self").use(async (call) => {
  const { ctx } = call;
  const caller = await ctx.authenticate();
  if (caller.kind === "key" || caller.kind === "service") {
    throw new ApiError("client_forbidden", "This endpoint needs the token of a person, not an API key.");
  }
  ctx.spend(caller.subject, ctx.procedure.limit);
  const parsedInput = await parseInput(call);
  const clientId = await ctx.db.asSystem((tx) => invitingClient(tx, ctx.hashKey, parsedInput), { mode: "read" });
  // Not the user id: the first response creates the user, and a retry must still have the same idempotency owner.
  const id = `person:${caller.subject}`;
  const principal: Principal = { id, kind: caller.kind, clientId, scopes: [], idempotencyOwner: id };
  return runCommand(
    { ...ctx, principal, parsedInput },
    call.path,
    (work) => ctx.db.asSystem(work, { requestId: ctx.requestId, clientId }),
    (tx) => call.next({ ctx: { tx, person: caller as Person } }),
  );
});

const systemQuery = (access: "operator" | "service") =>
  accessible(access).use(async (call) => {
    const { ctx, path, next } = call;
    await authorizeSystem(call);
    const listKey = listKeyOf(ctx, path, platformClientId, await parseInput(call));
    return ctx.db.asSystem(async (tx) => throwFailure(await next({ ctx: { tx, listKey } })), {
      mode: "read",
      requestId: ctx.requestId,
    });
  });

/** An operator reads across clients. */
export const operatorQuery = systemQuery("operator");

/** One of the installation's own services reads across clients. */
export const serviceQuery = systemQuery("service");

/** An operator's command: one system transaction, idempotent, audited under the operator's own client. */
export const operatorCommand = accessible("operator").use(async (call) => {
  const operator = await authorizeSystem(call);
  const parsedInput = await parseInput(call);
  const principal: Principal = {
    ...{ ...operator, clientId: platformClientId, scopes: [] },
    // All these keys are stored under the operator's client, so the client of the command is part of their owner.
    idempotencyOwner: [operator.id, ...targetOf(parsedInput)].join(" "),
  };
  const ctx = { ...call.ctx, principal, parsedInput };
  return runCommand(
    ctx,
    call.path,
    (work) => ctx.db.asSystem(work, { requestId: ctx.requestId, clientId: platformClientId }),
    (tx) => call.next({ ctx: { principal, tx } }),
  );
});

/**
 * A system command about the resource that the input's `id` names: a transaction of the client that owns it, audited there.
 * `ownerOf` returns that client in a system transaction, and throws the not-found error of the resource.
 */
const commandForOwner = (access: "operator" | "service", ownerOf: (tx: Tx, id: string) => Promise<string>) =>
  accessible(access).use(async (call) => {
    const caller = await authorizeSystem(call);
    const parsedInput = await parseInput(call);
    const { db, requestId } = call.ctx;
    const { id } = parsedInput as { id: string };
    const clientId = await db.asSystem((tx) => ownerOf(tx, id), { mode: "read", requestId });
    const principal: Principal = { ...caller, clientId, scopes: [], idempotencyOwner: caller.id };
    return runCommand(
      { ...call.ctx, principal, parsedInput },
      call.path,
      (work) => db.asClient({ clientId, requestId }, work),
      (tx) => call.next({ ctx: { principal, tx } }),
    );
  });

/** A service's command about one resource of a client. */
export const serviceCommand = commandForOwner("service", clientOwning);

/** An operator's command about one client. */
export const operatorClientCommand = commandForOwner("operator", existingClient);
