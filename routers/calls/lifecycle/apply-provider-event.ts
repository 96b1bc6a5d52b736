import { asc, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { prepared } from "../../../db/prepared.ts";
import { calls } from "../../../db/schema/calls.ts";
import type { LegReport } from "../../ports/carriers.ts";
import type { ProviderCall } from "../../ports/ultravox.ts";
import { masked } from "../artifacts/erase.ts";
import { hangUpOrphan } from "../create/place.ts";
import { applyCall, type CallRow, callNotFound, isBilledAs, lockCall, refineOutcome, type Source } from "../service.ts";
import { type LegSource, legsFor, saveLegs } from "./legs.ts";

/** As much of a call as shows whether a report changes it. */
export type CallState = Pick<CallRow, "status" | "providerCallId" | "billedSeconds" | "sipBilledSeconds">;

/**
 * Whether the provider's event certainly changes nothing, now or later: a call only moves forward, so this needs no lock. An
 * answer from before the intent of the call is settled is never certain.
 */
export function changesNothing(call: CallState, reported: ProviderCall): boolean {
  if (call.providerCallId !== reported.providerCallId) return false;
  if (call.status === "ringing") return !reported.joinedAt && !reported.endedAt;
  if (call.status === "active") return !reported.endedAt;
  return call.status === "ended" && (reported.billing === "pending" || isBilledAs(call, reported));
}

/** Applies the provider's state to one of our calls. */
export async function applyProviderCall(tx: Tx, callId: string, reported: ProviderCall, source: Source) {
  await applyToLocked(tx, await lockCall(tx, callId), reported, source);
}

async function applyToLocked(tx: Tx, call: CallRow, reported: ProviderCall, source: Source): Promise<CallRow> {
  if (call.providerCallId === reported.providerCallId) return applyCall(tx, call, reported, source);
  await hangUpOrphan(tx, call.id, call.providerAccountId, reported);
  return call;
}

/** A report about a call: the voice provider's state of it, or a carrier's state of one of its legs. */
export type CallReport = { callId: string } & ({ seen: ProviderCall } | { leg: LegReport; from: LegSource });

/**
 * Applies reports about calls of one client, those about the same call in the given order. The legs come first: they show why
 * a call was not answered. Returns for each report why it was not stored, or null.
 */
export async function applyReports(tx: Tx, reports: readonly CallReport[]): Promise<(string | null)[]> {
  const ids = [...new Set(reports.map(({ callId }) => callId))];
  const legs = reports.flatMap((report, place) => ("leg" in report ? [{ ...report, place }] : []));
  const [locked, known] = await Promise.all([lockCalls(tx, ids), legsFor(tx, legs)]);
  const refusals = await saveLegs(
    tx,
    known,
    legs.map(({ callId, leg: report, from }) => ({ callId, report, from, mask: maskOf(locked.get(callId)!) })),
  );
  await Promise.all(
    [...locked.values()].map(async (call) => {
      const hasEndedLeg = legs.some(({ callId, leg }, n) => callId === call.id && leg.end && refusals[n] === null);
      if (hasEndedLeg) await refineOutcome(tx, call);
      let current = call;
      for (const report of reports) {
        if (report.callId === call.id && "seen" in report)
          current = await applyToLocked(tx, current, report.seen, "event");
      }
    }),
  );
  const refused = new Map(legs.map(({ place }, n) => [place, refusals[n] ?? null]));
  return reports.map((_, place) => refused.get(place) ?? null);
}

const maskOf = ({ erasedAt }: CallRow) => (erasedAt ? masked : (address: string | null) => address);

const lockedRows = prepared((db) =>
  db
    .select()
    .from(calls)
    .where(sql`${calls.id} = any(array(select json_array_elements_text(${sql.placeholder("ids")}::text::json)))`)
    .orderBy(asc(calls.id))
    .for("update"),
);

/** Locks calls in the order of their ids, so that two transactions with the same calls cannot deadlock. */
async function lockCalls(tx: Tx, ids: readonly string[]): Promise<Map<string, CallRow>> {
  const rows = await lockedRows(tx, { ids: JSON.stringify(ids) });
  const found = new Map(rows.map((row) => [row.id, row]));
  for (const id of ids) if (!found.has(id)) throw callNotFound(id);
  return found;
}
