import { authorizeTenant, parseInput } from "./authorize.ts";
import { noCipher, withSignedLinks } from "./call-provider.ts";
import { runCommand } from "./run-command.ts";
import { accessible, listKeyOf, throwFailure } from "./trpc.ts";

export { providerCommand, providerQuery } from "./provider-procedures.ts";
export { liveQuery, stream } from "./stream-procedures.ts";
export {
  operatorClientCommand,
  operatorCommand,
  operatorQuery,
  selfCommand,
  selfQuery,
  serviceCommand,
  serviceQuery,
} from "./system-procedures.ts";
export { router } from "./trpc.ts";

/** Reads the rows of one tenant. It opens no transaction: each statement is one by itself. */
export const query = accessible("tenant").use(async (call) => {
  const { ctx, path, next } = call;
  const { principal, session } = await authorizeTenant(call);
  const listKey = listKeyOf(ctx, path, principal.clientId, await parseInput(call));
  return ctx.db.readAsClient(session, async (tx) => throwFailure(await next({ ctx: { principal, tx, listKey } })));
});

/** One transaction, all or nothing. Idempotent, and audited under the procedure's name in the same commit. */
export const command = accessible("tenant").use(async (call) => {
  const { principal, session } = await authorizeTenant(call);
  const ctx = { ...call.ctx, principal, parsedInput: await parseInput(call) };
  const { vault: purpose, signs } = ctx.procedure;
  const cipher = purpose ? await ctx.providers.vault.keys(principal.clientId, purpose) : noCipher;
  const result = await runCommand(
    ctx,
    call.path,
    (work) => ctx.db.asClient(session, work),
    (tx) => call.next({ ctx: { principal, tx, cipher } }),
  );
  return signs && result.ok ? { ...result, data: await withSignedLinks(ctx, result.data) } : result;
});
