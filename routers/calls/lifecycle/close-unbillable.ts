import { and, eq, isNotNull } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { calls } from "../../../db/schema/calls.ts";
import { recordAudit } from "../../core/audit.ts";
import { isForgotten } from "../../credentials/accounts.ts";
import { applyCall, type CallRow, change, mustBeOver, syntheticFinalState } from "../service.ts";

/** Ids of the calls of an account that still need a lookup: their bill is not known. */
export async function listCallsToCheck(tx: Tx, accountId: string): Promise<string[]> {
  const rows = await tx
    .select({ id: calls.id })
    .from(calls)
    .where(and(eq(calls.providerAccountId, accountId), isNotNull(calls.checkAt)));
  return rows.map(({ id }) => id);
}

/**
 * Closes a call whose provider account was forgotten, so that its bill can no longer be looked up. Charges the seconds
 * between answer and end; a call whose end was never reported is free, once it must be over. Releases the rest of the hold
 * and records this in the audit log.
 */
export async function closeUnbillable(tx: Tx, call: CallRow, requestId: string | null): Promise<boolean> {
  if (call.checkAt === null || !(await isForgotten(tx, call.providerAccountId))) return false;
  if (call.status !== "ended" && !(await mustBeOver(tx, call))) return false;
  if (call.billingRevision > 0) {
    await change(tx, call, { checkAt: null });
    return true;
  }
  const seconds = call.durationSeconds ?? 0;
  const { costMicros } = await applyCall(tx, call, syntheticFinalState(call, { billing: "final", seconds }), "lookup");
  const input = { reason: "account_forgotten", providerAccountId: call.providerAccountId, seconds, costMicros };
  const row = { actor: "system", action: "calls.settle", subjectId: call.id, input, requestId: requestId ?? "" };
  await recordAudit(tx, row);
  return true;
}
