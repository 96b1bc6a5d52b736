import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { prepared } from "../../../db/prepared.ts";
import { holds } from "../../../db/schema/billing.ts";
import { calls } from "../../../db/schema/calls.ts";
import { dbNow } from "../../../db/time.ts";
import type { ProviderCall } from "../../ports/ultravox.ts";
import { applyCall, type CallRow, emitCallEvent, lockCall, statusAfter } from "../service.ts";

const readHold = prepared((db) =>
  db
    .select({ status: holds.status, amountMicros: holds.amountMicros })
    .from(holds)
    .where(eq(holds.subjectId, sql.placeholder("id"))),
);

export type LockedCall = { call: CallRow; hold: Awaited<ReturnType<typeof readHold>>[number] | null };

/** Locks a call and reads its hold, in one round trip. */
export async function lockCallWithHold(tx: Tx, id: string): Promise<LockedCall> {
  const [call, [hold]] = await Promise.all([lockCall(tx, id), readHold(tx, { id })]);
  return { call, hold: hold ?? null };
}

/** The provider accepted the call: it rings from now on, and will be billed. */
export async function acceptCall(tx: Tx, call: CallRow, reported: ProviderCall): Promise<CallRow> {
  const { providerCallId, joinUrl } = reported;
  const failureReason = call.hangUpWhenJoined ? call.failureReason : null;
  const status = statusAfter(call, "accept");
  const changes = { status, providerCallId, joinUrl, failureReason };
  const accepted: CallRow = { ...call, ...changes, outcome: null, outcomeFinal: false };
  // Sent together: nothing in the events depends on what the update returns.
  const [[moved]] = await Promise.all([
    updateAccepted(tx, { id: call.id, ...changes, checkSeconds: 30 + call.joinTimeoutSeconds }),
    emitCallEvent(tx, "call.created", accepted),
    emitCallEvent(tx, "call.started", accepted),
  ]);
  return applyCall(tx, moved!, reported);
}

const given = (name: string) => sql`${sql.placeholder(name)}`;
const updateAccepted = prepared((db) =>
  db
    .update(calls)
    .set({
      status: given("status"),
      providerCallId: given("providerCallId"),
      joinUrl: given("joinUrl"),
      failureReason: given("failureReason"),
      outcome: null,
      outcomeFinal: false,
      checkAt: sql`clock_timestamp() + make_interval(secs => ${given("checkSeconds")})`,
      checks: 0,
      updatedAt: dbNow(),
    })
    .where(eq(calls.id, sql.placeholder("id")))
    .returning(),
);
