import type { TenantSession, Tx } from "../../db/client.ts";
import type { Cipher } from "../ports/vault.ts";
import { callProvider, type Settlement } from "./attempt-provider-command.ts";
import { recordAudit } from "./audit.ts";
import { authorizeTenant, type ProcedureCall, parseInput } from "./authorize.ts";
import { fromProviderError, noCipher, type ProviderQuery, retryWhileBusy, withSignedLinks } from "./call-provider.ts";
import type { Principal } from "./context.ts";
import { type Claim, claimKey, releaseKey, reserveKey, storeReserved } from "./idempotency.ts";
import { markIntentUnknown, openIntent, pendingResponse, providerDeadlineSeconds, settleIntent } from "./intents.ts";
import type { AnyProviderCommand, ProviderCommand } from "./provider-command.ts";
import { idempotencyClaim, redactedInput, replay, subjectIdOf, toResult, withTransactionRetry } from "./run-command.ts";
import { accessible } from "./trpc.ts";

type ProviderRequest = {
  ctx: ProcedureCall["ctx"] & { principal: Principal; session: TenantSession; parsedInput: unknown };
  path: string;
  isMutation: boolean;
  claim: Claim | null;
  /** Seals the stored response; null without an idempotency key. */
  cipher: Cipher | null;
};

/**
 * A command that needs a provider's response before it can respond. `ctx.perform` runs its three steps: an intent in a short
 * transaction, the provider without a transaction, the outcome in a short transaction.
 */
export const providerCommand = accessible("tenant").use(async (call) => {
  const request = await openRequest(call);
  const perform = <I, A, G, O, F, L>(command: ProviderCommand<I, A, G, O, F, L>, input: I) =>
    performCommand(request, command, input);
  return call.next({ ctx: { perform } });
});

/**
 * For provider requests that are safe to repeat and that leave nothing open without a response. Unlike a provider command it
 * writes no intent: if the process dies in between, nothing has happened, and the same key runs again after a minute.
 */
export const providerQuery = accessible("tenant").use(async (call) => {
  const request = await openRequest(call);
  const { ctx } = request;
  const { vault: purpose, signs } = ctx.procedure;
  const cipher = purpose ? await ctx.providers.vault.keys(ctx.principal.clientId, purpose) : noCipher;
  const queryProvider = <A, G, O = G>(query: ProviderQuery<A, G, O>) => performQuery(request, query);
  const result = await call.next({ ctx: { principal: ctx.principal, cipher, queryProvider } });
  return signs && result.ok ? { ...result, data: await withSignedLinks(ctx, result.data) } : result;
});

type Call = ProcedureCall & { path: string; type: string; getRawInput: () => Promise<unknown> };

async function openRequest(call: Call): Promise<ProviderRequest> {
  const { path, type } = call;
  const { principal, session } = await authorizeTenant(call);
  const ctx = { ...call.ctx, principal, session, parsedInput: await parseInput(call) };
  const isMutation = type === "mutation";
  const claim = isMutation ? idempotencyClaim(ctx, path) : null;
  const cipher = claim ? await ctx.providers.vault.keys(principal.clientId, "idempotency") : null;
  return { ctx, path, isMutation, claim, cipher };
}

async function performCommand<I, A, G, O, F, L>(
  request: ProviderRequest,
  command: ProviderCommand<I, A, G, O, F, L>,
  input: I,
): Promise<O> {
  const { ctx, cipher } = request;
  const anyCommand = command as unknown as AnyProviderCommand;
  const open = () => withTransactionRetry(() => openCommand(request, command, input));
  const opened = await retryWhileBusy(command.busyCode, command.waitWhileBusySeconds, open);
  if (opened.earlier) {
    if (opened.earlier.answer.status === 202) ctx.reply.status = 202; // its request died and the intent is still open
    return replay(ctx, opened.earlier) as O;
  }

  // From here on other processes may settle the intent too. The session has no key: a revocation no longer stops it.
  const session = { clientId: ctx.principal.clientId, requestId: ctx.requestId };
  const settlement = await callProvider(command, {
    providers: ctx.providers,
    accountId: opened.providerAccountId,
    request: opened.request,
    deadline: providerDeadline(),
    log: ctx.log(),
  });
  if (!settlement) {
    const response = await markIntentUnknown(ctx.db, session, anyCommand, opened, cipher);
    ctx.reply.status = response.status;
    return toResult(response) as O;
  }
  const settle = (tx: Tx) => settleIntent(tx, anyCommand, opened, settlement as Settlement<never>, cipher);
  const response = await withTransactionRetry(() => ctx.db.asClient(session, settle));
  return toResult(response, "retryAfterSeconds" in settlement ? settlement.retryAfterSeconds : undefined) as O;
}

/** Step 1: claims the idempotency key and writes the intent, or returns the stored response of an earlier request. */
function openCommand<I, A, G, O, F, L>(
  { ctx, path, claim, cipher }: ProviderRequest,
  command: ProviderCommand<I, A, G, O, F, L>,
  input: I,
) {
  const { principal, requestId } = ctx;
  const auditInput = redactedInput(ctx, path);
  return ctx.db.asClient(ctx.session, async (tx) => {
    const pending = (intentId: string) => pendingResponse(tx, command as unknown as AnyProviderCommand, intentId);
    const claiming = claim && cipher ? claimKey(tx, claim, cipher, pending) : null;
    const found = command.readFirst?.(tx, input) as F;
    const earlier = await claiming;
    if (earlier) return { earlier };
    const opening = { principal: principal.id, claim, requestId, auditInput, found };
    return { earlier: null, ...(await openIntent(tx, command, input, principal.clientId, opening)) };
  });
}

async function performQuery<A, G, O>(request: ProviderRequest, query: ProviderQuery<A, G, O>): Promise<O> {
  const { ctx, claim } = request;
  const begin = async (tx: Tx) => {
    const earlier = claim && request.cipher ? await claimKey(tx, claim, request.cipher) : null;
    if (earlier) return { earlier };
    const read = await query.read(tx);
    if (claim) await reserveKey(tx, claim, null);
    return { earlier: null, read };
  };
  const mode = claim ? "write" : "read";
  const begun = await withTransactionRetry(() => ctx.db.asClient(ctx.session, begin, { mode }));
  if (begun.earlier) return replay(ctx, begun.earlier) as O;
  try {
    const response = await query.execute(begun.read, providerDeadline());
    if (!query.record && !claim) return response as unknown as O;
    const record = (tx: Tx) => recordQuery(tx, request, query, { read: begun.read, response });
    return await withTransactionRetry(() => ctx.db.asClient(ctx.session, record));
  } catch (error) {
    if (claim) await ctx.db.asClient(ctx.session, (tx) => releaseKey(tx, claim));
    throw fromProviderError(error) ?? error;
  }
}

async function recordQuery<A, G, O>(
  tx: Tx,
  { ctx, path, isMutation, claim, cipher }: ProviderRequest,
  query: ProviderQuery<A, G, O>,
  { read, response }: { read: A; response: G },
): Promise<O> {
  const output = query.record ? await query.record(tx, read, response) : (response as unknown as O);
  if (isMutation && !ctx.procedure.reads) {
    const subjectId = subjectIdOf(output) ?? subjectIdOf(ctx.parsedInput);
    const input = redactedInput(ctx, path);
    await recordAudit(tx, { actor: ctx.principal.id, action: path, subjectId, input, requestId: ctx.requestId });
  }
  if (claim && cipher) await storeReserved(tx, claim, cipher, { status: 200, data: output });
  return output;
}

const providerDeadline = () => ({ signal: AbortSignal.timeout(providerDeadlineSeconds * 1000) });
