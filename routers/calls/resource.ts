import { and, eq, getTableColumns } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { holds, prices } from "../../db/schema/billing.ts";
import { calls } from "../../db/schema/calls.ts";
import { costLines } from "../billing/price.ts";
import { wire, wireOrNull } from "../words.ts";
import { shownEndReason } from "./outcome.ts";
import type { Call } from "./schema.ts";

const { finalState: _, overrides: __, ...shown } = getTableColumns(calls);

const heldFor = and(eq(holds.clientId, calls.clientId), eq(holds.subjectId, calls.id));

/** The rows of calls as the world sees them: with what is held, and the price that their cost was made from. */
export const shownCalls = (tx: Tx) =>
  tx
    .select({
      call: shown,
      hold: { state: holds.state, amountMicros: holds.amountMicros },
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

export type ShownCall = Awaited<ReturnType<typeof shownCalls>>[number];

export function onTheWire({ call, hold, price }: ShownCall): Call {
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
    fromState: call.fromState,
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
    heldMicros: hold?.state === "held" ? hold.amountMicros : null,
    costMicros,
    costLines: isBilled ? costLines(price, { billedSeconds, sipBilledSeconds }) : [],
    billedSeconds,
    durationSeconds: call.durationSeconds,
    summary: call.summary,
    transcriptState: call.transcriptState,
    recordingState: call.recordingState,
    output: call.output,
    outputState: call.outputState,
    outputProblems: call.outputProblems ?? [],
    createdAt: wire(call.createdAt),
    joinedAt: wireOrNull(call.joinedAt),
    endedAt: wireOrNull(call.endedAt),
    erasedAt: wireOrNull(call.erasedAt),
  };
}
