import type { Tx } from "../db/client.ts";
import { placeCall } from "../routers/calls/create/place.ts";
import { applyProviderCall, applyReports } from "../routers/calls/lifecycle/apply-provider-event.ts";
import { adoptCall } from "../routers/calls/lifecycle/inbound.ts";
import { openIntentOf, settleIntent } from "../routers/core/intents.ts";
import type { AnyProviderCommand } from "../routers/core/provider-command.ts";
import type { IngressRef, Mark, WaitingMessage } from "../routers/ingress/messages.ts";
import type { ProviderCall } from "../routers/ports/ultravox.ts";
import { type Cipher, KeysUnavailable } from "../routers/ports/vault.ts";
import { appliedTo, type Known, noCall, readInstead, type Unit } from "./ingress-plan.ts";
import { causeKindOf } from "./runtime/set-apart.ts";
import { asError, type JobContext } from "./runtime/task.ts";

export type Applied = { ref: IngressRef } & Known;
export type Failed = { ref: IngressRef; error: Error };
type Result = Applied | Failed;

/**
 * Applies the messages of a unit in one transaction. If it fails, it is repeated in halves, until the message that causes
 * this is alone. An error that no message causes would fail each half too.
 */
export async function applyUnit(unit: Unit, ctx: JobContext): Promise<Result[]> {
  const refs = unit.messages.map(({ message }) => message);
  try {
    const known = unit.kind === "new" ? await adoptAndApply(unit, ctx) : await report(unit, ctx);
    return refs.map((ref, n) => ({ ref, ...known[n]! }));
  } catch (error) {
    ctx.fence.check();
    if (ctx.signal.aborted) throw error;
    const isSplit = refs.length > 1 && causeKindOf(error) !== "ours" && !(error instanceof KeysUnavailable);
    if (!isSplit) return refs.map((ref) => ({ ref, error: asError(error) }));
    const middle = Math.ceil(refs.length / 2);
    const halves = [part(unit, 0, middle), part(unit, middle)];
    return [...(await applyUnit(halves[0]!, ctx)), ...(await applyUnit(halves[1]!, ctx))];
  }
}

const part = (unit: Unit, start: number, end?: number): Unit =>
  ({ ...unit, messages: unit.messages.slice(start, end) }) as Unit;

type Reports = Extract<Unit, { kind: "reports" }>;
type New = Extract<Unit, { kind: "new" }>;

async function report({ clientId, mayBeOpen, messages }: Reports, ctx: JobContext): Promise<Known[]> {
  const cipher = mayBeOpen ? await ctx.providers.vault.keys(clientId, "idempotency") : null;
  const reports = messages.map(({ plan }) => plan.report);
  const refusals = await transaction(ctx, clientId, messages[0]!.message, async (tx) => {
    const first = reports.find((each) => "seen" in each);
    if (cipher && first) await settleOpenIntent(tx, first.callId, first.seen, cipher);
    return applyReports(tx, reports);
  });
  return messages.map(({ plan: { call, report } }, n) => {
    const mark: Mark = appliedTo(call, "seen" in report ? report.seen : null);
    const refusal = refusals[n] ?? null;
    return { mark: refusal === null ? mark : { ...mark, status: "ignored", note: refusal } };
  });
}

/**
 * Creates the row of an inbound call, and applies the messages about it. The data of a stale message is not used: the call is
 * read from the provider.
 */
async function adoptAndApply({ clientId, messages }: New, ctx: JobContext): Promise<Known[]> {
  const [{ message, plan }] = messages as [New["messages"][number]];
  const { providerAccountId: accountId } = message;
  const fresh = messages.find(({ message }) => !message.stale);
  const seen =
    fresh?.plan.seen ?? (await ctx.providers.ultravox.getCall(accountId, plan.seen.providerCallId, deadline()));
  if (!seen || seen.providerAgentId !== plan.seen.providerAgentId) return messages.map(() => ({ mark: noCall }));
  const callId = await transaction(ctx, clientId, message, async (tx) => {
    const id = await adoptCall(tx, plan.agent.agentId, accountId, seen);
    const reports = messages
      .filter(({ message }) => !message.stale)
      .map(({ plan }) => ({ callId: id, seen: plan.seen }));
    await applyReports(tx, reports);
    return id;
  });
  const owner = { clientId, callId };
  return messages.map(({ message, plan }) =>
    message.stale ? readInstead(owner) : { mark: appliedTo(owner, plan.seen) },
  );
}

const deadline = () => ({ signal: AbortSignal.timeout(20_000) });

/** Fenced at both ends. The jobs and events that it causes carry the id of the request that brought the message. */
async function transaction<T>(
  ctx: JobContext,
  clientId: string,
  { requestId = ctx.requestId }: WaitingMessage,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  ctx.fence.check();
  return await ctx.db.asClient({ clientId, requestId }, async (tx) => {
    const result = await work(tx);
    ctx.fence.check();
    return result;
  });
}

/** An event may arrive before the response to the request that placed the call: then it settles the intent. */
async function settleOpenIntent(tx: Tx, callId: string, seen: ProviderCall, cipher: Cipher): Promise<boolean> {
  const intent = await openIntentOf(tx, callId);
  if (!intent) return false;
  const settlement = { outcome: "accepted", resource: seen as never } as const;
  const command = placeCall as unknown as AnyProviderCommand;
  await settleIntent(tx, command, { intentId: intent.id, subjectId: callId }, settlement, cipher);
  return true;
}

/** Applies the state of a call that was read from the provider. */
export async function bringForward(ctx: JobContext, clientId: string, callId: string, seen: ProviderCall) {
  const cipher = await ctx.providers.vault.keys(clientId, "idempotency");
  ctx.fence.check();
  await ctx.db.asClient({ clientId, requestId: ctx.requestId }, async (tx) => {
    const isSettled = await settleOpenIntent(tx, callId, seen, cipher);
    if (!isSettled) await applyProviderCall(tx, callId, seen, "lookup");
  });
}
