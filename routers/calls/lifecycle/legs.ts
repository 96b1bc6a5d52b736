import { isDeepStrictEqual } from "node:util";
import { and, asc, desc, eq, lt, or, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { type Given, pages, prepared, type Wire } from "../../../db/prepared.ts";
import { callLegs, calls } from "../../../db/schema/calls.ts";
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

/** Who reported a leg, and when. */
export type LegSource = { accountId: string; receivedAt: Date };
type NewReport = {
  callId: string;
  report: LegReport;
  from: LegSource;
  mask: (address: string | null) => string | null;
};

/** The legs that these reports may change. Send it after the statement that locks the calls; it need not wait for the result. */
export async function legsFor(
  tx: Tx,
  reports: readonly { callId: string; leg: Pick<LegReport, "carrierLegId"> }[],
): Promise<LegRow[]> {
  if (reports.length === 0) return [];
  return knownLegs(tx, {
    callIds: JSON.stringify(reports.map(({ callId }) => callId)),
    legIds: JSON.stringify(reports.map(({ leg }) => leg.carrierLegId)),
  });
}

/**
 * Stores carriers' reports of legs, which may arrive in any order and more than once. The caller holds the locks of the
 * calls' rows. Returns for each report why it was not stored, or null.
 */
export async function saveLegs(
  tx: Tx,
  known: readonly LegRow[],
  reports: readonly NewReport[],
): Promise<(string | null)[]> {
  const legs = new Map<string, StoredLeg>(known.map((leg) => [leg.carrierLegId, leg]));
  const changed = new Set<string>();
  const refusals = reports.map((given) => {
    const { carrierLegId } = given.report;
    const refusal = refusalOf(legs, given);
    if (refusal !== null) return refusal;
    const before = legs.get(carrierLegId) ?? null;
    const merged = withReport(before, given);
    if (before === null || !isDeepStrictEqual(merged, before)) changed.add(carrierLegId);
    legs.set(carrierLegId, merged);
    return null;
  });
  if (changed.size > 0)
    await writeLegs(
      tx,
      [...changed].map((id) => legs.get(id)!),
    );
  return refusals;
}

type StoredLeg = Pick<LegRow, "id" | "callId" | "carrier" | "carrierAccountId"> & Facts;

const textsOf = (name: string) => sql`array(select json_array_elements_text(${sql.placeholder(name)}::text::json))`;

/** The legs of these calls, and those with these ids of the carrier. */
const knownLegs = prepared((db) => {
  const legOf = sql`${callLegs.carrierLegId} = any(${textsOf("legIds")})`;
  return db
    .select()
    .from(callLegs)
    .where(or(sql`${callLegs.callId} = any(${textsOf("callIds")})`, and(eq(callLegs.carrier, "telnyx"), legOf)));
});

function refusalOf(legs: Map<string, StoredLeg>, { callId, report, from }: NewReport): string | null {
  const known = legs.get(report.carrierLegId);
  if (known && known.callId !== callId) return "This leg belongs to another call.";
  if (known && known.carrierAccountId !== from.accountId) return "Another account reported this leg first.";
  const legsOfCall = [...legs.values()].filter((leg) => leg.callId === callId).length;
  return known || legsOfCall < maxLegsPerCall ? null : `A call has ${maxLegsPerCall} legs at most.`;
}

function withReport(known: StoredLeg | null, { callId, report, from, mask }: NewReport): StoredLeg {
  const facts = merge(known, { ...report, from: mask(report.from), to: mask(report.to) }, from.receivedAt);
  if (known) return { ...known, ...facts };
  return { id: newId("leg"), callId, carrier: "telnyx", carrierAccountId: from.accountId, ...facts };
}

/** One statement for any number of legs. The columns of the key are never changed. */
async function writeLegs(tx: Tx, legs: readonly StoredLeg[]) {
  await tx.execute(sql`
    insert into call_legs (id, call_id, carrier, carrier_account_id, carrier_leg_id, carrier_session_id, direction, "from", "to",
      status, cause, hangup_cause, hangup_source, sip_hangup_cause, started_at, answered_at, ended_at, duration_seconds,
      carrier_cost, carrier_currency, costed_at)
    select id, "callId", carrier, "carrierAccountId", "carrierLegId", "carrierSessionId", direction, "from", "to",
      status, cause, "hangupCause", "hangupSource", "sipHangupCause", "startedAt", "answeredAt", "endedAt", "durationSeconds",
      "carrierCost", "carrierCurrency", "costedAt"
    from json_to_recordset(${JSON.stringify(legs)}::text::json) as leg(
      id text, "callId" text, carrier text, "carrierAccountId" text, "carrierLegId" text, "carrierSessionId" text,
      direction text, "from" text, "to" text, status text, cause text, "hangupCause" text, "hangupSource" text,
      "sipHangupCause" text, "startedAt" timestamptz, "answeredAt" timestamptz, "endedAt" timestamptz,
      "durationSeconds" integer, "carrierCost" text, "carrierCurrency" text, "costedAt" timestamptz)
    on conflict (client_id, id) do update set
      carrier_session_id = excluded.carrier_session_id, direction = excluded.direction, "from" = excluded."from",
      "to" = excluded."to", status = excluded.status, cause = excluded.cause, hangup_cause = excluded.hangup_cause,
      hangup_source = excluded.hangup_source, sip_hangup_cause = excluded.sip_hangup_cause,
      started_at = excluded.started_at, answered_at = excluded.answered_at, ended_at = excluded.ended_at,
      duration_seconds = excluded.duration_seconds, carrier_cost = excluded.carrier_cost,
      carrier_currency = excluded.carrier_currency, costed_at = excluded.costed_at, updated_at = clock_timestamp()`);
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
