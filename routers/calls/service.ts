import { and, asc, eq, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { type EventType, emit } from "../../db/events.ts";
import { hotRead, prepared } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { callMessages, calls } from "../../db/schema/calls.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import { voicemailTool } from "../agents/references.ts";
import { releaseHold, settleBill } from "../billing/ledger.ts";
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
type Change = PgUpdateSetSource<typeof calls>;
/** `event`: a provider webhook, which may be stale or forged. `lookup`: the provider's present response. */
export type Source = "event" | "lookup";

export const callNotFound = (id: string) => new ApiError("call_not_found", `There is no call ${id}.`);

export async function getCall(tx: Tx, id: string): Promise<Call> {
  const [found] = await callById(tx, { id });
  if (!found) throw callNotFound(id);
  return toCall(found);
}

const callById = hotRead((db) => toCalls(db).where(eq(calls.id, sql.placeholder("id"))));

export async function getTranscript(tx: Tx, id: string): Promise<Transcript> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw callNotFound(id);
  const { transcriptStatus: status } = call;
  if (status === "erased") return { callId: id, status, messages: [], text: "" };
  if (call.status !== "failed" && !call.outcomeFinal) {
    throw new ApiError(
      "call_not_ended",
      "The transcript is not ready: the call has not ended, or its messages are still being read. Try again later.",
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

const readForUpdate = prepared((db) =>
  db
    .select()
    .from(calls)
    .where(eq(calls.id, sql.placeholder("id")))
    .for("update"),
);

/** Locks a call. Every change of a call goes through here. */
export async function lockCall(tx: Tx, id: string): Promise<CallRow> {
  const [call] = await readForUpdate(tx, { id });
  if (!call) throw callNotFound(id);
  return call;
}

/** The provider never accepted the call: nothing is owed. */
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

/** It is not known whether the provider accepted the call. */
export const markCallUnknown = (tx: Tx, call: CallRow) => move(tx, call, "markUnknown", {});

/**
 * Moves a locked call forward to the provider's state; never back, whatever the order of the events.
 * Steps that were skipped emit their events too, in order.
 */
export async function applyCall(
  tx: Tx,
  call: CallRow,
  reported: ProviderCall,
  source: Source = "event",
): Promise<CallRow> {
  let current = call;
  if (current.status === "ringing" && reported.joinedAt) {
    current = await move(tx, current, "join", { joinedAt: reported.joinedAt, ...nextCheck(60, 60) });
    if (current.hangUpWhenJoined && !reported.endedAt)
      await enqueue(tx, "calls.hangUp", { callId: current.id }, { key: current.id });
    await emitCallEvent(tx, "call.joined", current);
  }
  if ((current.status === "ringing" || current.status === "active") && reported.endedAt) {
    const legs = reported.joinedAt ? null : await summarizeLegs(tx, current.id);
    current = await move(tx, current, "end", {
      endedAt: reported.endedAt,
      endReason: reported.endReason,
      outcome: refinedOutcome(provisionalOutcome(reported), legs?.cause ?? null),
      durationSeconds: talkedSeconds(reported),
      summary: reported.summary,
      shortSummary: reported.shortSummary,
      recordingStatus: current.recordingEnabled && reported.joinedAt ? "pending" : "none",
      ...nextCheck(30, 30),
    });
    await emitCallEvent(tx, "call.ended", current);
    // The end of an open leg shows why the call was not answered.
    const delaySeconds = legs?.isOpen ? legEndWaitSeconds : undefined;
    await enqueue(tx, "calls.finalise", { callId: current.id }, { key: current.id, delaySeconds });
    if (current.recordingStatus === "pending")
      await enqueue(tx, "calls.fetchRecording", { callId: current.id }, { key: current.id, delaySeconds: 2 });
  }
  if (current.status === "ended") current = await applyBill(tx, current, reported, source);
  return current;
}

function toBill({ billing, billedSeconds, sipBilledSeconds }: ProviderCall) {
  if (billing === "refunded") return { billedSeconds: 0, sipBilledSeconds: 0 };
  return { billedSeconds: billedSeconds ?? 0, sipBilledSeconds: sipBilledSeconds ?? 0 };
}

export function isBilledAs(call: Pick<CallRow, "billedSeconds" | "sipBilledSeconds">, reported: ProviderCall): boolean {
  const { billedSeconds, sipBilledSeconds } = toBill(reported);
  return call.billedSeconds === billedSeconds && call.sipBilledSeconds === sipBilledSeconds;
}

/**
 * Settles the provider's bill, once per bill; a later bill posts the difference. Bills may arrive out of order, so only a
 * lookup shows which of two is valid.
 */
async function applyBill(tx: Tx, call: CallRow, reported: ProviderCall, source: Source): Promise<CallRow> {
  if (reported.billing === "pending") return call;
  if (isBilledAs(call, reported)) {
    return source === "event" || call.checkAt === null ? call : change(tx, call, { checkAt: null });
  }
  if (source === "event" && (await lookUpInstead(tx, call, reported))) return call;
  const { billedSeconds, sipBilledSeconds } = toBill(reported);
  const billingRevision = call.billingRevision + 1;
  const costMicros = await settleBill(tx, call.id, billingRevision, (price) =>
    billMicros(price, { billedSeconds, sipBilledSeconds }),
  );
  const changed = await change(tx, call, {
    billedSeconds,
    sipBilledSeconds,
    costMicros,
    billingRevision,
    ...(await withSummaries(tx, call, reported)),
    checkAt: null,
  });
  // A call that is erased here can be erased at the provider too: nothing more is needed from there.
  await eraseUpstreamIfDone(tx, changed);
  await emitCallEvent(tx, "call.billed", changed);
  return changed;
}

/**
 * Enqueues a lookup instead of trusting the bill in an event, unless it is the first bill and from an account of the
 * installation. The owner of an account can read its webhook secret, and could forge a bill.
 */
async function lookUpInstead(tx: Tx, { id: callId, providerAccountId, billingRevision }: CallRow, event: ProviderCall) {
  const isOwn = await isClientsOwn(tx, providerAccountId);
  if (!isOwn && billingRevision === 0) return false;
  if (!isOwn && event.billing === "refunded") await enqueueRefundCheck(tx, callId);
  else await enqueue(tx, "calls.refresh", { callId }, { key: callId });
  return true;
}

/** Looks up a reported refund. It has a separate job key, so that no other refresh replaces this one. */
export async function enqueueRefundCheck(tx: Tx, callId: string, options: { delaySeconds?: number } = {}) {
  await enqueue(tx, "calls.refresh", { callId, refundReported: true }, { key: `${callId}:refund`, ...options });
}

/** Refines the outcome of an unanswered call from its legs, while the outcome is not final. */
export async function refineOutcome(tx: Tx, call: CallRow) {
  if (call.status !== "ended" || call.outcomeFinal || call.joinedAt !== null || call.outcome === null) return;
  const { cause, isOpen } = await summarizeLegs(tx, call.id);
  // For Telnyx the voice provider reports only `unjoined`.
  const reported = call.medium === "telnyx" && call.endReason === "unjoined" ? "no_answer" : call.outcome;
  const outcome = refinedOutcome(reported, cause);
  if (outcome !== call.outcome) await change(tx, call, { outcome });
  if (!isOpen) await enqueue(tx, "calls.finalise", { callId: call.id }, { key: call.id });
}

/** Stores the messages and makes the outcome final. Idempotent. */
export async function finaliseCall(tx: Tx, id: string, messages: ProviderMessage[] | null) {
  const call = await lockCall(tx, id);
  if (call.status !== "ended" || call.outcomeFinal) return;
  const settings = await artifactSettingsOf(tx, call.agentId, call.agentVersion);
  const provisional = (call.outcome ?? "failed") as Outcome;
  const { outcome, reached } = conclusionOf(provisional, call, messages, voicemailTool(settings));
  const artifacts = await settleArtifacts(tx, { ...call, outcome }, messages);
  const changed = await change(tx, call, { outcome, outcomeFinal: true, ...artifacts });
  if (changed.transcriptStatus === "ready") await emitCallEvent(tx, "call.transcript.ready", changed);
  await emitCallEvent(tx, reached ? "call.completed" : "call.failed", changed);
}

const vanishedAfterSeconds = 600;
/** How long an outcome waits for the end of a leg. Carriers report it within one or two seconds. */
const legEndWaitSeconds = 10;

/**
 * The provider returned 404 for the call. That counts only the second time, and only when the longest possible call ended
 * at least ten minutes ago: then nothing more will be billed, and the hold is released. Earlier bills stay.
 */
export async function closeVanished(tx: Tx, call: CallRow): Promise<boolean> {
  if (call.checkAt === null || call.checks < 1 || !(await mustBeOver(tx, call))) return false;
  if (call.billingRevision > 0) await change(tx, call, { checkAt: null });
  else await applyCall(tx, call, syntheticFinalState(call, { billing: "final", seconds: 0 }), "lookup");
  return true;
}

/** The provider reported a refund and no longer has the call: the refund can no longer be verified, so it is applied. */
export async function refundVanished(tx: Tx, call: CallRow) {
  await applyCall(tx, call, syntheticFinalState(call, { billing: "refunded", seconds: 0 }), "lookup");
}

/** Whether the longest possible call ended at least ten minutes ago. */
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

/** A final provider state made from our own row, for a call that the provider no longer reports. */
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

/** Schedules the next lookup after one that changed nothing: 30 s, doubling, at most an hour apart. */
export async function postponeCheck(tx: Tx, call: CallRow) {
  const seconds = Math.min(3600, 30 * 2 ** Math.min(call.checks, 7));
  await tx
    .update(calls)
    .set({ checkAt: inSeconds(seconds), checks: call.checks + 1 })
    .where(eq(calls.id, call.id));
}

async function move(tx: Tx, call: CallRow, step: CallMove, set: Change): Promise<CallRow> {
  return change(tx, call, { ...set, status: statusAfter(call, step) });
}

export function statusAfter(call: CallRow, step: CallMove): CallRow["status"] {
  const status = after(call.status, step);
  if (!status) throw new Error(`A call that is ${call.status} cannot ${step}.`);
  return status;
}

export async function change(tx: Tx, call: CallRow, set: Change): Promise<CallRow> {
  const [changed] = await tx
    .update(calls)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(calls.id, call.id))
    .returning();
  return changed!;
}

function nextCheck(graceSeconds: number, seconds: number): Change {
  return { checkAt: inSeconds(graceSeconds + seconds), checks: 0 };
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
