import type { Tx } from "../db/client.ts";
import { enqueueFor } from "../db/queue.ts";
import { placeCall } from "../routers/calls/create/place.ts";
import { applyLegReport, applyProviderCall } from "../routers/calls/lifecycle/apply-provider-event.ts";
import { adoptCall } from "../routers/calls/lifecycle/inbound.ts";
import { shownEndReason } from "../routers/calls/lifecycle/outcome.ts";
import { openIntentOf, settleIntent } from "../routers/core/intents.ts";
import type { AnyProviderCommand } from "../routers/core/provider-command.ts";
import {
  agentOfCall,
  type CallOwner,
  callInAddress,
  type IngressProvider,
  type IngressRow,
  isErased,
  type Mark,
  markReceived,
  ownerOfCall,
  ownerOfLeg,
  readReceived,
} from "../routers/ingress/service.ts";
import type { ProviderCall } from "../routers/ports/ultravox.ts";
import type { JobContext, Task } from "./runtime/task.ts";

/** What becomes of an event: known now, or after work that needs more than the system transaction. */
type Verdict = Mark | (() => Promise<Mark>);

const appliers: Record<IngressProvider, (tx: Tx, row: IngressRow, ctx: JobContext) => Promise<Verdict>> = {
  ultravox: applyUltravox,
  stripe: applyStripe,
  telnyx: applyTelnyx,
};

/** Applies a provider's event, in any order and any number of times: a call only moves forward. */
export const apply: Task<"ingress.apply"> = {
  async run({ ingressId, receivedAt }, ctx) {
    const pending = await ctx.asSystem(async (tx) => {
      const row = await readReceived(tx, ingressId, receivedAt);
      if (row?.status !== "received") return null;
      if (isErased(row)) {
        await markReceived(tx, row, receivedAt, { status: "ignored", note: "Erased with its call." });
        return null;
      }
      const verdict = await appliers[row.provider as IngressProvider](tx, row, ctx); // written by the receivers of these alone
      if (typeof verdict === "function") return { row, work: verdict };
      await markReceived(tx, row, receivedAt, verdict);
      return null;
    });
    if (!pending) return;
    const mark = await pending.work();
    await ctx.asSystem((tx) => markReceived(tx, pending.row, receivedAt, mark));
  },

  async onExhausted({ ingressId, receivedAt }, ctx, error) {
    const row = await ctx.asSystem((tx) => readReceived(tx, ingressId, receivedAt));
    if (row)
      await ctx.asSystem((tx) =>
        markReceived(tx, row, receivedAt, { status: "failed", note: error.message.slice(0, 500) }),
      );
  },
};

const unreadable: Mark = { status: "failed", note: "The body is not a known event." };

async function applyUltravox(tx: Tx, row: IngressRow, ctx: JobContext): Promise<Verdict> {
  const { providerAccountId: accountId, stale } = row;
  const event = readOrNull(() => ctx.providers.ultravox.readEvent(row.body));
  if (!event) return unreadable;
  const { call } = event;
  const owner = await ownerOfCall(tx, accountId, call);
  if (owner && stale) return refreshInstead(tx, owner);
  if (owner) return () => applyToCall(ctx, owner, call);
  const agent = await agentOfCall(tx, accountId, call);
  if (!agent) return noCall;
  return async () => {
    const adopted = await adopt(ctx, row, agent, call);
    if (!adopted) return noCall;
    return stale ? ctx.asSystem((tx) => refreshInstead(tx, adopted)) : applyToCall(ctx, adopted, call);
  };
}

const unknownEnd = "Unknown end reason: stored as received, and shown as `other`.";

const noCall: Mark = { status: "ignored", note: "No call of this provider account." };

async function refreshInstead(tx: Tx, { clientId, callId }: CallOwner): Promise<Mark> {
  await enqueueFor(tx, clientId, "calls.refresh", { callId }, { key: callId });
  const note = "Outside the time window: the call is read from the provider instead.";
  return { status: "ignored", clientId, subjectId: callId, note };
}

async function applyToCall(ctx: JobContext, { clientId, callId }: CallOwner, seen: ProviderCall): Promise<Mark> {
  await bringForward(ctx, clientId, callId, seen, "event");
  const note = seen.endReason !== null && shownEndReason(seen.endReason) === "other" ? unknownEnd : undefined;
  return { status: "applied", clientId, subjectId: callId, note };
}

/** Stored unchanged, so that it can be applied once there is a handler for its type. */
async function applyStripe(_tx: Tx, row: IngressRow, ctx: JobContext): Promise<Mark> {
  const event = readOrNull(() => ctx.providers.stripe.readEvent(row.body));
  if (!event) return unreadable;
  return { status: "ignored", note: `No handler for ${event.type}.` };
}

/** A leg of a call. The call is named by our own id: returned by the carrier, or in the URL that the carrier calls. */
async function applyTelnyx(tx: Tx, row: IngressRow, ctx: JobContext): Promise<Verdict> {
  const event = readOrNull(() => ctx.providers.telnyx.readEvent(row.body));
  if (!event) return unreadable;
  const { type, leg } = event;
  if (!leg) return { status: "ignored", note: `No handler for ${type}.` };
  const inAddress = row.headers[callInAddress] ?? null;
  if (leg.callId !== null && inAddress !== null && leg.callId !== inAddress) {
    return { status: "ignored", note: "The event and its URL name different calls." };
  }
  const named = leg.callId ?? inAddress;
  if (named === null) return { status: "ignored", note: "The event names no call of ours." };
  const owner = await ownerOfLeg(tx, row, named);
  if (!owner) return { status: "ignored", note: "No call of this account." };
  const { clientId, callId } = owner;
  return async () => {
    const from = { accountId: row.providerAccountId, receivedAt: row.receivedAt };
    ctx.fence.check();
    const entry = { clientId, requestId: ctx.requestId };
    const objection = await ctx.db.asClient(entry, (tx) => applyLegReport(tx, callId, leg, from));
    const about = { clientId, subjectId: callId };
    return objection === null ? { status: "applied", ...about } : { status: "ignored", ...about, note: objection };
  };
}

/** Creates the row of an inbound call to one of our agents. The data of a stale event is not used. */
async function adopt(
  ctx: JobContext,
  { providerAccountId: accountId, stale }: IngressRow,
  { clientId, agentId }: { clientId: string; agentId: string },
  event: ProviderCall,
): Promise<CallOwner | null> {
  const seen = stale ? await ctx.providers.ultravox.getCall(accountId, event.providerCallId, deadline()) : event;
  if (!seen || seen.providerAgentId !== event.providerAgentId) return null;
  const work = (tx: Tx) => adoptCall(tx, agentId, accountId, seen);
  ctx.fence.check();
  return { clientId, callId: await ctx.db.asClient({ clientId, requestId: ctx.requestId }, work) };
}

const deadline = () => ({ signal: AbortSignal.timeout(20_000) });

/** An event may arrive before the response to the request that placed the call: then it settles the intent. */
export async function bringForward(
  ctx: JobContext,
  clientId: string,
  callId: string,
  seen: ProviderCall,
  how: "event" | "lookup",
) {
  const cipher = await ctx.providers.vault.keys(clientId, "idempotency");
  ctx.fence.check();
  await ctx.db.asClient({ clientId, requestId: ctx.requestId }, async (tx) => {
    const intent = await openIntentOf(tx, callId);
    if (!intent) return applyProviderCall(tx, callId, seen, how);
    const settlement = { outcome: "accepted", resource: seen as never } as const;
    await settleIntent(
      tx,
      placeCall as unknown as AnyProviderCommand,
      { intentId: intent.id, subjectId: callId },
      settlement,
      cipher,
    );
  });
}

function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
