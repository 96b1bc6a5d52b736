import { and, eq, getTableColumns } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import type { Wire } from "../../db/prepared.ts";
import { holds, prices } from "../../db/schema/billing.ts";
import { calls } from "../../db/schema/calls.ts";
import { costLines } from "../billing/price.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { shownEndReason } from "./lifecycle/outcome.ts";
import type { Call } from "./schema.ts";

const { finalState: _, overrides: __, ...columns } = getTableColumns(calls);

const heldFor = and(eq(holds.clientId, calls.clientId), eq(holds.subjectId, calls.id));

/** Calls with their hold and the price of their cost, ready for `toCall`. */
export const toCalls = (tx: Tx) =>
  tx
    .select({
      call: columns,
      hold: { status: holds.status, amountMicros: holds.amountMicros },
      price: {
        id: prices.id,
        callMicrosPerMinute: prices.callMicrosPerMinute,
        telephoneMicrosPerMinute: prices.telephoneMicrosPerMinute,
        roundingSeconds: prices.roundingSeconds,
        voiceCloneMicros: prices.voiceCloneMicros,
      },
    })
    .from(calls)
    .leftJoin(holds, heldFor)
    .leftJoin(prices, eq(prices.id, holds.priceId));

export type ShownCall = Wire<Awaited<ReturnType<typeof toCalls>>[number]>;

export function toCall({ call, hold, price }: ShownCall): Call {
  const { costMicros, billedSeconds, sipBilledSeconds } = call;
  const isBilled = price !== null && billedSeconds !== null && sipBilledSeconds !== null;
  return {
    id: call.id,
    agentId: call.agentId,
    agentVersion: call.agentVersion,
    direction: call.direction,
    carrier: call.medium,
    to: call.to,
    from: call.from,
    fromStatus: call.fromStatus,
    fromRaw: call.fromRaw,
    toRaw: call.toRaw,
    status: call.status,
    outcome: call.outcome,
    outcomeFinal: call.outcomeFinal,
    failureReason: call.failureReason,
    endReason: shownEndReason(call.endReason),
    providerEndReason: call.endReason,
    variables: call.variables,
    metadata: call.metadata,
    maxDurationSeconds: call.maxDurationSeconds,
    joinTimeoutSeconds: call.joinTimeoutSeconds,
    recordingEnabled: call.recordingEnabled,
    joinUrl: call.joinUrl,
    heldMicros: hold?.status === "held" ? hold.amountMicros : null,
    costMicros,
    costLines: isBilled ? costLines(price, { billedSeconds, sipBilledSeconds }) : [],
    billedSeconds,
    durationSeconds: call.durationSeconds,
    summary: call.summary,
    transcriptStatus: call.transcriptStatus,
    recordingStatus: call.recordingStatus,
    output: call.output,
    outputStatus: call.outputStatus,
    outputProblems: call.outputProblems ?? [],
    createdAt: toIso(call.createdAt),
    joinedAt: toIsoOrNull(call.joinedAt),
    endedAt: toIsoOrNull(call.endedAt),
    erasedAt: toIsoOrNull(call.erasedAt),
  };
}
