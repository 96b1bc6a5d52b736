import { and, eq, isNotNull } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { calls } from "../../../db/schema/calls.ts";
import { recordAudit } from "../../core/audit.ts";
import { isForgotten } from "../../credentials/accounts.ts";
import { applyCall, type CallRow, change, mustBeOver, syntheticFinalState } from "../service.ts";

/** Calls of an account of which something should be heard yet. */
export async function listCallsToCheck(tx: Tx, accountId: string): Promise<string[]> {
  const rows = await tx
    .select({ id: calls.id })
    .from(calls)
    .where(and(eq(calls.providerAccountId, accountId), isNotNull(calls.checkAt)));
  return rows.map(({ id }) => id);
}

/**
 * The account that the call was made in is forgotten, and with it who could have told its bill. What is known is charged:
 * the seconds that were talked; and nothing for a call that nobody saw end, once it must be over. The rest of the hold is
 * given back, and the audit log says that it was so.
 */
export async function closeUnbillable(tx: Tx, call: CallRow, requestId: string | null): Promise<boolean> {
  if (call.checkAt === null || !(await isForgotten(tx, call.providerAccountId))) return false;
  if (call.status !== "ended" && !(await mustBeOver(tx, call))) return false;
  if (call.billingRevision > 0) {
    await change(tx, call, { checkAt: null });
    return true;
  }
  const seconds = call.durationSeconds ?? 0;
  const { costMicros } = await applyCall(tx, call, syntheticFinalState(call, { billing: "final", seconds }), "asked");
  const input = { reason: "account_forgotten", providerAccountId: call.providerAccountId, seconds, costMicros };
  const row = { actor: "system", action: "calls.settle", subjectId: call.id, input, requestId: requestId ?? "" };
  await recordAudit(tx, row);
  return true;
}
