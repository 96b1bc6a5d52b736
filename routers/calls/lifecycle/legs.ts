import { and, asc, count, desc, eq, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { type Given, pages, type Wire } from "../../../db/prepared.ts";
import { callLegs, calls } from "../../../db/schema/calls.ts";
import { dbNow } from "../../../db/time.ts";
import { ApiError } from "../../core/errors.ts";
import { toIso, toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import type { LegCause, LegReport } from "../../ports/carriers.ts";
import type { CallLeg, ListLegs } from "./leg-schema.ts";

export type LegRow = typeof callLegs.$inferSelect;
/** What the carrier reports of a leg. */
type Facts = Omit<LegRow, "clientId" | "id" | "callId" | "carrier" | "carrierAccountId" | "createdAt" | "updatedAt">;

/** A real call has one or two transfers. More legs are not genuine. */
const maxLegsPerCall = 20;
const ranks = { initiated: 0, answered: 1, ended: 2 } as const;

/** The legs of a call, newest first. */
export async function listLegs(tx: Tx, { id: callId, limit, cursor }: ListLegs, key: ListKey) {
  const [call] = await tx.select({ id: calls.id }).from(calls).where(eq(calls.id, callId));
  if (!call) throw new ApiError("call_not_found", `There is no call ${callId}.`);
  const rows = await legPages(tx, { callId, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, rows.map(toCallLeg), limit, ({ id }) => id);
}

const legPages = pages(
  (db, given: Given<"callId">) =>
    db
      .select()
      .from(callLegs)
      .where(and(eq(callLegs.callId, given.callId!), given.before && lt(callLegs.id, given.before)))
      .orderBy(desc(callLegs.id))
      .limit(sql.placeholder("limit")),
  ["callId"],
);

/**
 * Stores a carrier's report of a leg. Reports may arrive in any order and more than once. The caller holds the lock of the
 * call's row. Returns why the report was not stored, or null.
 */
export async function saveLeg(
  tx: Tx,
  callId: string,
  report: LegReport,
  {
    accountId,
    receivedAt,
    mask,
  }: { accountId: string; receivedAt: Date; mask: (address: string | null) => string | null },
): Promise<string | null> {
  const [known] = await tx
    .select()
    .from(callLegs)
    .where(and(eq(callLegs.carrier, "telnyx"), eq(callLegs.carrierLegId, report.carrierLegId)));
  if (known && known.callId !== callId) return "This leg belongs to another call.";
  if (known && known.carrierAccountId !== accountId) return "Another account reported this leg first.";
  const facts = merge(known ?? null, { ...report, from: mask(report.from), to: mask(report.to) }, receivedAt);
  if (known) {
    await tx
      .update(callLegs)
      .set({ ...facts, updatedAt: dbNow() })
      .where(eq(callLegs.id, known.id));
    return null;
  }
  const [found] = await tx.select({ legs: count() }).from(callLegs).where(eq(callLegs.callId, callId));
  if (found!.legs >= maxLegsPerCall) return `A call has ${maxLegsPerCall} legs at most.`;
  const id = newId("leg");
  await tx.insert(callLegs).values({ id, callId, carrier: "telnyx", carrierAccountId: accountId, ...facts });
  return null;
}

/** From the reports so far: why the last leg ended, and whether any leg is still open. */
export async function summarizeLegs(tx: Tx, callId: string): Promise<{ cause: LegCause | null; isOpen: boolean }> {
  const rows = await tx
    .select({ status: callLegs.status, cause: callLegs.cause })
    .from(callLegs)
    .where(eq(callLegs.callId, callId))
    .orderBy(asc(callLegs.endedAt), asc(callLegs.id));
  const ended = rows.filter(({ status }) => status === "ended").at(-1);
  // Only `merge` writes it, from `legCauses`.
  return { cause: (ended?.cause ?? null) as LegCause | null, isOpen: rows.some(({ status }) => status !== "ended") };
}

/** Masks the numbers of the legs of an erased call. */
export async function maskLegs(tx: Tx, callId: string, mask: (address: string | null) => string | null) {
  const legs = await tx.select().from(callLegs).where(eq(callLegs.callId, callId));
  for (const { id, from, to } of legs) {
    await tx
      .update(callLegs)
      .set({ from: mask(from), to: mask(to) })
      .where(eq(callLegs.id, id));
  }
}

/**
 * A leg moves forward only. The earliest start, answer and end count, by the carrier's clock, and the latest cost. So the
 * same reports give the same leg in every order. A report without a time uses the time of receipt.
 */
export function merge(known: Facts | null, report: LegReport, receivedAt: Date): Facts {
  const at = report.occurredAt ?? receivedAt;
  const status = forward(known?.status ?? "initiated", report.status ?? "initiated");
  return {
    carrierLegId: report.carrierLegId,
    carrierSessionId: known?.carrierSessionId ?? report.carrierSessionId,
    direction: known?.direction ?? report.direction,
    from: known?.from ?? report.from,
    to: known?.to ?? report.to,
    status,
    startedAt: earliest(known?.startedAt, report.startedAt),
    answeredAt: earliest(known?.answeredAt, report.answeredAt ?? (report.status === "answered" ? at : null)),
    ...endOf(known, report, at),
    ...costOf(known, report, at),
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
  const reported: End = { ...end, endedAt: endedAt ?? at };
  const isFirst = before.endedAt === null || reported.endedAt! < before.endedAt;
  return isFirst ? fillGaps(reported, before) : fillGaps(before, reported);
}

/** Fills missing fields from the other report: TeXML has the duration, Call Control the SIP cause. */
function fillGaps(counts: End, other: End): End {
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

/** Clients see the costs of their own carrier accounts only, never those of the operator's account. */
const isOwn = ({ carrierAccountId }: Pick<LegRow, "carrierAccountId">) => carrierAccountId.startsWith("cred_");

function toCallLeg(leg: Wire<LegRow>): CallLeg {
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
    durationSeconds: leg.durationSeconds ?? talkedSeconds(leg),
    carrierCost:
      leg.carrierCost !== null && isOwn(leg) ? { amount: leg.carrierCost, currency: leg.carrierCurrency } : null,
  };
}

/** From answer to end, for a carrier that reports no duration. */
function talkedSeconds({ status, answeredAt, endedAt }: Wire<LegRow>): number | null {
  if (status !== "ended" || !endedAt) return null;
  return answeredAt ? Math.max(0, Math.round((Date.parse(toIso(endedAt)) - Date.parse(toIso(answeredAt))) / 1000)) : 0;
}
