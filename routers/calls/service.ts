import { and, asc, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type EventType, emit } from "../../db/events.ts";
import { enqueue } from "../../db/queue.ts";
import { holds } from "../../db/schema/billing.ts";
import { callMessages, calls } from "../../db/schema/calls.ts";
import { voicemailTool } from "../agents/references.ts";
import { priceById, releaseHold, settleBill } from "../billing/ledger.ts";
import { billMicros } from "../billing/price.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { isClientsOwn } from "../credentials/accounts.ts";
import type { ProviderCall, ProviderMessage } from "../ports/ultravox.ts";
import { artifactSettingsOf, eraseUpstreamIfDone, settleArtifacts, withSummaries } from "./artifacts/artifacts.ts";
import { summarizeLegs } from "./lifecycle/legs.ts";
import {
  conclusionOf,
  type Outcome,
  provisionalOutcome,
  refinedOutcome,
  shownEndReason,
  talkedSeconds,
} from "./lifecycle/outcome.ts";
import { after, type CallMove } from "./lifecycle/transitions.ts";
import { toCall, toCalls } from "./resource.ts";
import type { Call, Transcript } from "./schema.ts";

export type CallRow = typeof calls.$inferSelect;
type Change = Partial<typeof calls.$inferInsert>;
/** `told`: by an event, which may be older than what we know, or forged; `asked`: the provider says so at this moment. */
export type How = "told" | "asked";

export const callNotFound = (id: string) => new ApiError("call_not_found", `There is no call ${id}.`);

export async function getCall(tx: Tx, id: string): Promise<Call> {
  const [found] = await toCalls(tx).where(eq(calls.id, id));
  if (!found) throw callNotFound(id);
  return toCall(found);
}

export async function getTranscript(tx: Tx, id: string): Promise<Transcript> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw callNotFound(id);
  const { transcriptStatus: status } = call;
  if (status === "erased") return { callId: id, status, messages: [], text: "" };
  if (call.status !== "failed" && !call.outcomeFinal) {
    throw new ApiError(
      "call_not_ended",
      "The transcript is not ready: the call goes on, or its messages are being read.",
    );
  }
  const rows = await tx
    .select()
    .from(callMessages)
    .where(and(eq(callMessages.callId, id), eq(callMessages.createdAt, call.createdAt)))
    .orderBy(asc(callMessages.index));
  const messages = rows.map(({ index, role, text, toolName, startSeconds, endSeconds }) => {
    return { index, role, text, toolName, startSeconds, endSeconds };
  });
  const spoken = messages.filter(({ role }) => role === "user" || role === "agent");
  return { callId: id, status, messages, text: spoken.map(({ role, text }) => `${role}: ${text}`).join("\n") };
}

/** Locks a call: whoever changes one comes through here. */
export async function lockCall(tx: Tx, id: string): Promise<CallRow> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id)).for("update");
  if (!call) throw callNotFound(id);
  return call;
}

/** The provider has it: from now on it rings, and will be billed. */
export async function acceptCall(tx: Tx, call: CallRow, seen: ProviderCall): Promise<CallRow> {
  const moved = await move(tx, call, "accept", {
    providerCallId: seen.providerCallId,
    joinUrl: seen.joinUrl,
    failureReason: call.hangUpWhenJoined ? call.failureReason : null,
    outcome: null,
    outcomeFinal: false,
    ...nextCheck(30, call.joinTimeoutSeconds),
  });
  await emitCallEvent(tx, "call.created", moved);
  await emitCallEvent(tx, "call.started", moved);
  return applyCall(tx, moved, seen);
}

/** The provider never accepted it: nothing is owed. */
export async function failCall(tx: Tx, call: CallRow, reason: string) {
  const moved = await move(tx, call, "fail", {
    outcome: "failed",
    outcomeFinal: true,
    failureReason: reason,
    transcriptStatus: "missing",
    checkAt: null,
  });
  await releaseHold(tx, call.id);
  await emitCallEvent(tx, "call.failed", moved);
}

/** Nobody knows whether the provider accepted it. */
export const markCallUnknown = (tx: Tx, call: CallRow) => move(tx, call, "lose", {});

/**
 * Brings a locked call forward to what the provider says of it; never back, whatever the order of what arrives.
 * Every step that was skipped is said all the same, in order.
 */
export async function applyCall(tx: Tx, call: CallRow, seen: ProviderCall, how: How = "told"): Promise<CallRow> {
  let now = call;
  if (now.status === "ringing" && seen.joinedAt) {
    now = await move(tx, now, "join", { joinedAt: seen.joinedAt, ...nextCheck(60, 60) });
    if (now.hangUpWhenJoined && !seen.endedAt) await enqueue(tx, "calls.hangUp", { callId: now.id }, { key: now.id });
    await emitCallEvent(tx, "call.joined", now);
  }
  if ((now.status === "ringing" || now.status === "active") && seen.endedAt) {
    const legs = seen.joinedAt ? null : await summarizeLegs(tx, now.id);
    now = await move(tx, now, "end", {
      endedAt: seen.endedAt,
      endReason: seen.endReason,
      outcome: refinedOutcome(provisionalOutcome(seen), legs?.cause ?? null),
      durationSeconds: talkedSeconds(seen),
      summary: seen.summary,
      shortSummary: seen.shortSummary,
      recordingStatus: now.recordingEnabled && seen.joinedAt ? "pending" : "none",
      ...nextCheck(30, 30),
    });
    await emitCallEvent(tx, "call.ended", now);
    // A leg that is not over yet: its end will say why nobody answered.
    const delaySeconds = legs?.isOpen ? legsEndSeconds : 0;
    await enqueue(tx, "calls.finalise", { callId: now.id }, { key: now.id, ...(delaySeconds ? { delaySeconds } : {}) });
    if (now.recordingStatus === "pending")
      await enqueue(tx, "calls.fetchRecording", { callId: now.id }, { key: now.id, delaySeconds: 2 });
  }
  if (now.status === "ended") now = await applyBill(tx, now, seen, how);
  return now;
}

function billOf({ billing, billedSeconds, sipBilledSeconds }: ProviderCall) {
  if (billing === "refunded") return { billedSeconds: 0, sipBilledSeconds: 0 };
  return { billedSeconds: billedSeconds ?? 0, sipBilledSeconds: sipBilledSeconds ?? 0 };
}

function isBilledAs(call: CallRow, seen: ProviderCall): boolean {
  const { billedSeconds, sipBilledSeconds } = billOf(seen);
  return call.billedSeconds === billedSeconds && call.sipBilledSeconds === sipBilledSeconds;
}

/**
 * Settles what the provider's bill says, once per bill; a later one posts the difference. Which of two bills holds, the
 * provider knows: they may arrive out of order.
 */
async function applyBill(tx: Tx, call: CallRow, seen: ProviderCall, how: How): Promise<CallRow> {
  if (seen.billing === "pending") return call;
  if (isBilledAs(call, seen)) {
    return how === "told" || call.checkAt === null ? call : change(tx, call, { checkAt: null });
  }
  if (how === "told" && (await askInstead(tx, call, seen))) return call;
  const { billedSeconds, sipBilledSeconds } = billOf(seen);
  const [hold] = await tx.select().from(holds).where(eq(holds.subjectId, call.id));
  if (!hold) throw new Error(`Nothing was held for ${call.id}.`);
  const costMicros = billMicros(await priceById(tx, hold.priceId), { billedSeconds, sipBilledSeconds });
  const billingRevision = call.billingRevision + 1;
  await settleBill(tx, call.id, billingRevision, costMicros);
  const changed = await change(tx, call, {
    billedSeconds,
    sipBilledSeconds,
    costMicros,
    billingRevision,
    ...(await withSummaries(tx, call, seen)),
    checkAt: null,
  });
  // What is erased here can go at the provider too, now that nothing more is to be asked.
  await eraseUpstreamIfDone(tx, changed);
  await emitCallEvent(tx, "call.billed", changed);
  return changed;
}

/**
 * Has the provider asked for a bill that it told, unless it is the first and from an account of the installation's. Whose
 * account it is can read what its webhooks are signed with, and would write his own bill.
 */
async function askInstead(tx: Tx, { id: callId, providerAccountId, billingRevision }: CallRow, told: ProviderCall) {
  const isOwn = await isClientsOwn(tx, providerAccountId);
  if (!isOwn && billingRevision === 0) return false;
  if (!isOwn && told.billing === "refunded") await enqueueRefundCheck(tx, callId);
  else await enqueue(tx, "calls.refresh", { callId }, { key: callId });
  return true;
}

/** The provider has told of a refund. Under a key of its own, so that no other look takes the place of this one. */
export async function enqueueRefundCheck(tx: Tx, callId: string, later: { delaySeconds?: number } = {}) {
  await enqueue(tx, "calls.refresh", { callId, refundReported: true }, { key: `${callId}:refund`, ...later });
}

/** What a carrier says of the end of a call that nobody answered, as long as the outcome is not final. */
export async function refineOutcome(tx: Tx, call: CallRow) {
  if (call.status !== "ended" || call.outcomeFinal || call.joinedAt !== null || call.outcome === null) return;
  const { cause, isOpen } = await summarizeLegs(tx, call.id);
  // The voice provider itself says of Telnyx only that nobody joined.
  const told = call.medium === "telnyx" && call.endReason === "unjoined" ? "no_answer" : call.outcome;
  const outcome = refinedOutcome(told, cause);
  if (outcome !== call.outcome) await change(tx, call, { outcome });
  if (!isOpen) await enqueue(tx, "calls.finalise", { callId: call.id }, { key: call.id });
}

/** Keeps the messages and makes the outcome final. Doing so again changes nothing. */
export async function finaliseCall(tx: Tx, id: string, messages: ProviderMessage[] | null) {
  const call = await lockCall(tx, id);
  if (call.status !== "ended" || call.outcomeFinal) return;
  const wishes = await artifactSettingsOf(tx, call.agentId, call.agentVersion);
  const provisional = (call.outcome ?? "failed") as Outcome;
  const { outcome, reached } = conclusionOf(provisional, call, messages, voicemailTool(wishes));
  const artifacts = await settleArtifacts(tx, { ...call, outcome }, messages);
  const changed = await change(tx, call, { outcome, outcomeFinal: true, ...artifacts });
  if (changed.transcriptStatus === "ready") await emitCallEvent(tx, "call.transcript.ready", changed);
  await emitCallEvent(tx, reached ? "call.completed" : "call.failed", changed);
}

const vanishedAfterSeconds = 600;
/** So long an outcome waits for the end of a leg; carriers tell it within a second or two. */
const legsEndSeconds = 10;

/**
 * The provider says that it has no such call any more. That counts when it has said so at least twice and the call,
 * at its longest, must have been over for ten minutes: then nothing more will be billed, and the hold is given back.
 * What was billed before stays billed.
 */
export async function closeVanished(tx: Tx, call: CallRow): Promise<boolean> {
  if (call.checkAt === null || call.checks < 1 || !(await mustBeOver(tx, call))) return false;
  if (call.billingRevision > 0) await change(tx, call, { checkAt: null });
  else await applyCall(tx, call, syntheticFinalState(call, { billing: "final", seconds: 0 }), "asked");
  return true;
}

/** The provider has told of a refund and has the call no more: nobody is left who could say otherwise. */
export async function refundVanished(tx: Tx, call: CallRow) {
  await applyCall(tx, call, syntheticFinalState(call, { billing: "refunded", seconds: 0 }), "asked");
}

/** Ten minutes ago at the latest it was over, at its longest. */
export async function mustBeOver(
  tx: Tx,
  { createdAt, joinTimeoutSeconds, maxDurationSeconds }: CallRow,
): Promise<boolean> {
  const longest = joinTimeoutSeconds + maxDurationSeconds + vanishedAfterSeconds;
  const [row] = await tx.execute<{ over: boolean }>(
    sql`select ${toIso(createdAt)}::timestamptz + make_interval(secs => ${longest}) < clock_timestamp() as over`,
  );
  return row?.over === true;
}

type LastBill = { billing: "final" | "refunded"; seconds: number };

/** A call of which the provider says nothing more, as if it said what we know. */
export function syntheticFinalState(call: CallRow, { billing, seconds }: LastBill): ProviderCall {
  return {
    providerCallId: call.providerCallId ?? "",
    callId: call.id,
    createdAt: call.createdAt,
    joinedAt: call.joinedAt,
    endedAt: call.endedAt ?? new Date(),
    endReason: "system_error",
    billing,
    billedSeconds: seconds,
    sipBilledSeconds: call.medium === "web" ? 0 : seconds,
    sipReason: null,
    joinUrl: null,
    summary: call.summary,
    shortSummary: call.shortSummary,
    providerAgentId: null,
    recordingEnabled: call.recordingEnabled,
    medium: call.medium,
    isInbound: call.direction === "inbound",
    fromRaw: null,
    toRaw: null,
  };
}

/** The provider was asked and nothing came of it: ask again, each time later, an hour apart at most. */
export async function postponeCheck(tx: Tx, call: CallRow) {
  const seconds = Math.min(3600, 30 * 2 ** Math.min(call.checks, 7));
  await tx
    .update(calls)
    .set({ checkAt: sql`clock_timestamp() + make_interval(secs => ${seconds})`, checks: call.checks + 1 })
    .where(eq(calls.id, call.id));
}

async function move(tx: Tx, call: CallRow, by: CallMove, change_: Change): Promise<CallRow> {
  const status = after(call.status, by);
  if (!status) throw new Error(`A call that is ${call.status} cannot ${by}.`);
  return change(tx, call, { ...change_, status });
}

export async function change(tx: Tx, call: CallRow, set: Change): Promise<CallRow> {
  const [changed] = await tx
    .update(calls)
    .set({ ...set, updatedAt: sql`clock_timestamp()` as unknown as Date })
    .where(eq(calls.id, call.id))
    .returning();
  return changed!;
}

function nextCheck(graceSeconds: number, seconds: number): Change {
  return {
    checkAt: sql`clock_timestamp() + make_interval(secs => ${graceSeconds + seconds})` as unknown as Date,
    checks: 0,
  };
}

export async function emitCallEvent(tx: Tx, type: EventType & `call.${string}`, call: CallRow) {
  await emit(tx, type, call.id, {
    id: call.id,
    agentId: call.agentId,
    agentVersion: call.agentVersion,
    direction: call.direction,
    to: call.to,
    from: call.from,
    status: call.status,
    outcome: call.outcome,
    outcomeFinal: call.outcomeFinal,
    endReason: shownEndReason(call.endReason),
    failureReason: call.failureReason,
    metadata: call.metadata,
    createdAt: toIso(call.createdAt),
    joinedAt: toIsoOrNull(call.joinedAt),
    endedAt: toIsoOrNull(call.endedAt),
    billedSeconds: call.billedSeconds,
    costMicros: call.costMicros,
    output: call.output,
  });
}
