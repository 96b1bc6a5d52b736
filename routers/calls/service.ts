import { and, asc, desc, eq, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type EventType, emit } from "../../db/events.ts";
import { enqueue } from "../../db/queue.ts";
import { agents } from "../../db/schema/agents.ts";
import { holds } from "../../db/schema/billing.ts";
import { callMessages, calls } from "../../db/schema/calls.ts";
import { priceById, releaseHold, settleBill } from "../billing/ledger.ts";
import { billMicros } from "../billing/price.ts";
import { Fault } from "../fault.ts";
import { type ListKey, readCursor, toPage } from "../page.ts";
import type { ProviderCall, ProviderMessage } from "../providers.ts";
import { wire, wireOrNull } from "../words.ts";
import { after, type CallMove } from "./machine.ts";
import { finalOutcome, type Outcome, provisionalOutcome, reached } from "./outcome.ts";
import type { Call, ListCalls, Transcript } from "./schema.ts";

export type CallRow = typeof calls.$inferSelect;
type Change = Partial<typeof calls.$inferInsert>;

const notFound = (id: string) => new Fault("call_not_found", `There is no call ${id}.`);

export async function getCall(tx: Tx, id: string): Promise<Call> {
  const [found] = await tx
    .select({ call: calls, heldMicros: holds.amountMicros })
    .from(calls)
    .leftJoin(holds, and(eq(holds.clientId, calls.clientId), eq(holds.subjectId, calls.id), eq(holds.state, "held")))
    .where(eq(calls.id, id));
  if (!found) throw notFound(id);
  return onTheWire(found.call, found.heldMicros);
}

export async function listCalls(tx: Tx, { limit, cursor, ...filters }: ListCalls, key: ListKey) {
  const before = readCursor(key, cursor);
  if (filters.agentId) await mustExist(tx, filters.agentId);
  const rows = await tx
    .select({ call: calls, heldMicros: holds.amountMicros })
    .from(calls)
    .leftJoin(holds, and(eq(holds.clientId, calls.clientId), eq(holds.subjectId, calls.id), eq(holds.state, "held")))
    .where(
      and(
        before === null ? undefined : lt(calls.id, before),
        filters.status ? eq(calls.status, filters.status) : undefined,
        filters.outcome ? eq(calls.outcome, filters.outcome) : undefined,
        filters.agentId ? eq(calls.agentId, filters.agentId) : undefined,
      ),
    )
    .orderBy(desc(calls.id))
    .limit(limit + 1);
  const items = rows.map(({ call, heldMicros }) => onTheWire(call, heldMicros));
  return toPage(key, items, limit, ({ id }) => id);
}

/** A filter by somebody else's agent is not an empty list: there is no such agent here. */
async function mustExist(tx: Tx, agentId: string) {
  const [found] = await tx.select({ id: agents.id }).from(agents).where(eq(agents.id, agentId));
  if (!found) throw new Fault("agent_not_found", `There is no agent ${agentId}.`);
}

export async function getTranscript(tx: Tx, id: string): Promise<Transcript> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw notFound(id);
  if (call.status !== "failed" && !call.outcomeFinal) {
    throw new Fault("call_not_ended", "The transcript is not ready: the call goes on, or its messages are being read.");
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
  return { callId: id, messages, text: spoken.map(({ role, text }) => `${role}: ${text}`).join("\n") };
}

/** Locks a call: whoever changes one comes through here. */
export async function lockCall(tx: Tx, id: string): Promise<CallRow> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id)).for("update");
  if (!call) throw notFound(id);
  return call;
}

/** The provider has it: from now on it rings, and will be billed. */
export async function acceptCall(tx: Tx, call: CallRow, seen: ProviderCall): Promise<CallRow> {
  const moved = await move(tx, call, "accept", {
    providerCallId: seen.providerCallId,
    joinUrl: seen.joinUrl,
    failureReason: null,
    outcome: null,
    outcomeFinal: false,
    ...nextCheck(30, call.joinTimeoutSeconds),
  });
  await say(tx, "call.created", moved);
  await say(tx, "call.started", moved);
  return applyCall(tx, moved, seen);
}

/** The provider never accepted it: nothing is owed. */
export async function failCall(tx: Tx, call: CallRow, reason: string) {
  const moved = await move(tx, call, "fail", {
    outcome: "failed",
    outcomeFinal: true,
    failureReason: reason,
    checkAt: null,
  });
  await releaseHold(tx, call.id);
  await say(tx, "call.failed", moved);
}

/** Nobody knows whether the provider accepted it. */
export const loseCall = (tx: Tx, call: CallRow) => move(tx, call, "lose", {});

/**
 * Brings a locked call forward to what the provider says of it; never back, whatever the order of what arrives.
 * Every step that was skipped is said all the same, in order.
 */
export async function applyCall(tx: Tx, call: CallRow, seen: ProviderCall): Promise<CallRow> {
  let now = call;
  if (now.status === "ringing" && seen.joinedAt) {
    now = await move(tx, now, "join", { joinedAt: seen.joinedAt, ...nextCheck(60, 60) });
    await say(tx, "call.joined", now);
  }
  if ((now.status === "ringing" || now.status === "active") && seen.endedAt) {
    now = await move(tx, now, "end", {
      endedAt: seen.endedAt,
      endReason: seen.endReason,
      outcome: provisionalOutcome(seen),
      ...nextCheck(30, 30),
    });
    await say(tx, "call.ended", now);
    await enqueue(tx, "calls.finalise", { callId: now.id }, { key: now.id });
  }
  if (now.status === "ended") now = await applyBill(tx, now, seen);
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

/** The bill of a call that was billed already, and otherwise. Bills may arrive out of order: which one holds, the provider knows. */
export function contradictsBill(call: CallRow, seen: ProviderCall): boolean {
  return call.billingRevision > 0 && seen.billing !== "pending" && !isBilledAs(call, seen);
}

/** Settles what the provider's bill says, once per bill; a later one posts the difference. */
async function applyBill(tx: Tx, call: CallRow, seen: ProviderCall): Promise<CallRow> {
  if (seen.billing === "pending") return call;
  const { billedSeconds, sipBilledSeconds } = billOf(seen);
  if (isBilledAs(call, seen)) return call.checkAt === null ? call : change(tx, call, { checkAt: null });
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
    summary: seen.summary,
    shortSummary: seen.shortSummary,
    checkAt: null,
  });
  await say(tx, "call.billed", changed);
  return changed;
}

/** Keeps the messages and makes the outcome final. Doing so again changes nothing. */
export async function finaliseCall(tx: Tx, id: string, messages: ProviderMessage[] | null) {
  const call = await lockCall(tx, id);
  if (call.status !== "ended" || call.outcomeFinal) return;
  if (messages && messages.length > 0) {
    const rows = messages.map((message, index) => ({ ...message, index, callId: id, createdAt: call.createdAt }));
    for (let from = 0; from < rows.length; from += 200)
      await tx.insert(callMessages).values(rows.slice(from, from + 200));
  }
  const outcome = finalOutcome((call.outcome ?? "failed") as Outcome, messages ?? []);
  const changed = await change(tx, call, { outcome, outcomeFinal: true });
  if (messages) await say(tx, "call.transcript.ready", changed);
  await say(tx, reached(outcome) ? "call.completed" : "call.failed", changed);
}

const vanishedAfterSeconds = 600;

/**
 * The provider says that it has no such call any more. That counts when it has said so at least twice and the call,
 * at its longest, must have been over for ten minutes: then nothing more will be billed, and the hold is given back.
 */
export async function closeVanished(tx: Tx, call: CallRow): Promise<boolean> {
  const longest = call.joinTimeoutSeconds + call.maxDurationSeconds + vanishedAfterSeconds;
  const [row] = await tx.execute<{ over: boolean }>(
    sql`select ${wire(call.createdAt)}::timestamptz + make_interval(secs => ${longest}) < clock_timestamp() as over`,
  );
  if (call.checkAt === null || call.checks < 1 || !row?.over) return false;
  const gone: ProviderCall = {
    providerCallId: call.providerCallId ?? "",
    callId: call.id,
    createdAt: call.createdAt,
    joinedAt: call.joinedAt,
    endedAt: call.endedAt ?? new Date(),
    endReason: "system_error",
    billing: "final",
    billedSeconds: 0,
    sipBilledSeconds: 0,
    sipReason: null,
    joinUrl: null,
    summary: null,
    shortSummary: null,
  };
  await applyCall(tx, call, gone);
  return true;
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

async function change(tx: Tx, call: CallRow, set: Change): Promise<CallRow> {
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

async function say(tx: Tx, type: EventType & `call.${string}`, call: CallRow) {
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
    endReason: call.endReason,
    failureReason: call.failureReason,
    metadata: call.metadata,
    createdAt: wire(call.createdAt),
    joinedAt: wireOrNull(call.joinedAt),
    endedAt: wireOrNull(call.endedAt),
    billedSeconds: call.billedSeconds,
    costMicros: call.costMicros,
  });
}

function onTheWire(call: CallRow, heldMicros: number | null): Call {
  return {
    id: call.id,
    agentId: call.agentId,
    agentVersion: call.agentVersion,
    direction: call.direction,
    carrier: call.medium,
    to: call.to,
    from: call.from,
    status: call.status,
    outcome: call.outcome,
    outcomeFinal: call.outcomeFinal,
    failureReason: call.failureReason,
    endReason: call.endReason,
    variables: call.variables,
    metadata: call.metadata,
    maxDurationSeconds: call.maxDurationSeconds,
    recordingEnabled: call.recordingEnabled,
    joinUrl: call.joinUrl,
    heldMicros,
    costMicros: call.costMicros,
    billedSeconds: call.billedSeconds,
    summary: call.summary,
    createdAt: wire(call.createdAt),
    joinedAt: wireOrNull(call.joinedAt),
    endedAt: wireOrNull(call.endedAt),
  };
}
