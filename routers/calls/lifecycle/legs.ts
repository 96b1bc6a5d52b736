import { and, asc, count, desc, eq, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { callLegs, calls } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import { toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import type { LegCause, LegReport } from "../../ports/carriers.ts";
import type { CallLeg, ListLegs } from "../schema.ts";

export type LegRow = typeof callLegs.$inferSelect;
/** What is said of a leg, apart from whose it is. */
type Facts = Omit<LegRow, "clientId" | "id" | "callId" | "carrier" | "carrierAccountId" | "createdAt" | "updatedAt">;

/** A transfer or two; whoever sends more is making them up. */
const legsPerCall = 20;
const ranks = { initiated: 0, answered: 1, ended: 2 } as const;

/** The legs of a call, the latest first. */
export async function listLegs(tx: Tx, { id: callId, limit, cursor }: ListLegs, key: ListKey) {
  const [call] = await tx.select({ id: calls.id }).from(calls).where(eq(calls.id, callId));
  if (!call) throw new ApiError("call_not_found", `There is no call ${callId}.`);
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(callLegs)
    .where(and(eq(callLegs.callId, callId), before === null ? undefined : lt(callLegs.id, before)))
    .orderBy(desc(callLegs.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/**
 * Writes down what a carrier says of a leg, whatever the order and however often. The caller holds the call's row. Answers
 * why it was not written, or null.
 */
export async function saveLeg(
  tx: Tx,
  callId: string,
  report: LegReport,
  {
    accountId,
    heardAt,
    masked,
  }: { accountId: string; heardAt: Date; masked: (address: string | null) => string | null },
): Promise<string | null> {
  const [known] = await tx
    .select()
    .from(callLegs)
    .where(and(eq(callLegs.carrier, "telnyx"), eq(callLegs.carrierLegId, report.carrierLegId)));
  if (known && known.callId !== callId) return "This leg is one of another call.";
  if (known && known.carrierAccountId !== accountId) return "Another account reported this leg first.";
  const facts = merge(known ?? null, { ...report, from: masked(report.from), to: masked(report.to) }, heardAt);
  if (known) {
    const updatedAt = sql`clock_timestamp()` as unknown as Date;
    await tx
      .update(callLegs)
      .set({ ...facts, updatedAt })
      .where(eq(callLegs.id, known.id));
    return null;
  }
  const [found] = await tx.select({ legs: count() }).from(callLegs).where(eq(callLegs.callId, callId));
  if (found!.legs >= legsPerCall) return `A call has ${legsPerCall} legs at most.`;
  const id = newId("leg");
  await tx.insert(callLegs).values({ id, callId, carrier: "telnyx", carrierAccountId: accountId, ...facts });
  return null;
}

/** As far as the carrier has told: why the last leg ended, and whether one is still under way. */
export async function summarizeLegs(tx: Tx, callId: string): Promise<{ cause: LegCause | null; isOpen: boolean }> {
  const rows = await tx
    .select({ status: callLegs.status, cause: callLegs.cause })
    .from(callLegs)
    .where(eq(callLegs.callId, callId))
    .orderBy(asc(callLegs.endedAt), asc(callLegs.id));
  const ended = rows.filter(({ status }) => status === "ended").at(-1);
  // Written by `merge` alone, from a list of ours.
  return { cause: (ended?.cause ?? null) as LegCause | null, isOpen: rows.some(({ status }) => status !== "ended") };
}

/** Nobody's number stays whole once its call is erased. */
export async function maskLegs(tx: Tx, callId: string, masked: (address: string | null) => string | null) {
  const legs = await tx.select().from(callLegs).where(eq(callLegs.callId, callId));
  for (const { id, from, to } of legs) {
    await tx
      .update(callLegs)
      .set({ from: masked(from), to: masked(to) })
      .where(eq(callLegs.id, id));
  }
}

/**
 * A leg moves forward only. The earliest beginning, answer and end count, by the carrier's clock, and the latest bill; so
 * that the same reports make the same leg in every order. A report without a time counts from when it was heard.
 */
export function merge(known: Facts | null, told: LegReport, heardAt: Date): Facts {
  const at = told.occurredAt ?? heardAt;
  const status = forward(known?.status ?? "initiated", told.status ?? "initiated");
  return {
    carrierLegId: told.carrierLegId,
    carrierSessionId: known?.carrierSessionId ?? told.carrierSessionId,
    direction: known?.direction ?? told.direction,
    from: known?.from ?? told.from,
    to: known?.to ?? told.to,
    status,
    startedAt: earliest(known?.startedAt, told.startedAt),
    answeredAt: earliest(known?.answeredAt, told.answeredAt ?? (told.status === "answered" ? at : null)),
    ...endOf(known, told, at),
    ...costOf(known, told, at),
  };
}

const forward = (a: LegRow["status"], b: LegRow["status"]) => (ranks[a] >= ranks[b] ? a : b);

function earliest(a: Date | null | undefined, b: Date | null): Date | null {
  if (!a || !b) return a ?? b;
  return a <= b ? a : b;
}

type End = Pick<Facts, "endedAt" | "cause" | "hangupCause" | "hangupSource" | "sipHangupCause" | "durationSeconds">;

function endOf(known: Facts | null, { end, endedAt }: LegReport, at: Date): End {
  const before: End = {
    endedAt: known?.endedAt ?? null,
    cause: known?.cause ?? null,
    hangupCause: known?.hangupCause ?? null,
    hangupSource: known?.hangupSource ?? null,
    sipHangupCause: known?.sipHangupCause ?? null,
    durationSeconds: known?.durationSeconds ?? null,
  };
  if (!end) return before;
  const said: End = { ...end, endedAt: endedAt ?? at };
  const isFirst = before.endedAt === null || said.endedAt! < before.endedAt;
  return isFirst ? filled(said, before) : filled(before, said);
}

/** What the one that counts leaves open, the other one may say: TeXML has the length, Call Control the cause of SIP. */
function filled(counts: End, other: End): End {
  return {
    endedAt: counts.endedAt,
    cause: counts.cause,
    hangupCause: counts.hangupCause ?? other.hangupCause,
    hangupSource: counts.hangupSource ?? other.hangupSource,
    sipHangupCause: counts.sipHangupCause ?? other.sipHangupCause,
    durationSeconds: counts.durationSeconds ?? other.durationSeconds,
  };
}

function costOf(known: Facts | null, { cost }: LegReport, at: Date) {
  const { carrierCost = null, carrierCurrency = null, costedAt = null } = known ?? {};
  if (!cost || (costedAt !== null && costedAt > at)) return { carrierCost, carrierCurrency, costedAt };
  return { carrierCost: cost.amount, carrierCurrency: cost.currency, costedAt: at };
}

/** What the operator's own carrier charges him is his affair; what the client's own charges is the client's. */
const isOwn = ({ carrierAccountId }: LegRow) => carrierAccountId.startsWith("cred_");

function onTheWire(leg: LegRow): CallLeg {
  return {
    id: leg.id,
    callId: leg.callId,
    carrier: leg.carrier,
    carrierLegId: leg.carrierLegId,
    carrierSessionId: leg.carrierSessionId,
    direction: leg.direction,
    from: leg.from,
    to: leg.to,
    status: leg.status,
    cause: leg.cause as LegCause | null,
    hangupCause: leg.hangupCause,
    hangupSource: leg.hangupSource,
    sipHangupCause: leg.sipHangupCause,
    startedAt: toIsoOrNull(leg.startedAt),
    answeredAt: toIsoOrNull(leg.answeredAt),
    endedAt: toIsoOrNull(leg.endedAt),
    durationSeconds: leg.durationSeconds ?? talked(leg),
    carrierCost:
      leg.carrierCost !== null && isOwn(leg) ? { amount: leg.carrierCost, currency: leg.carrierCurrency } : null,
  };
}

/** Where the carrier gives no length: from answer to end. */
function talked({ status, answeredAt, endedAt }: LegRow): number | null {
  if (status !== "ended" || !endedAt) return null;
  return answeredAt ? Math.max(0, Math.round((endedAt.getTime() - answeredAt.getTime()) / 1000)) : 0;
}
