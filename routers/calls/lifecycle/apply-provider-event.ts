import type { Tx } from "../../../db/client.ts";
import type { LegReport } from "../../ports/carriers.ts";
import type { ProviderCall } from "../../ports/ultravox.ts";
import { masked } from "../artifacts/erase.ts";
import { hangUpOrphan } from "../create/place.ts";
import { applyCall, lockCall, refineOutcome, type Source } from "../service.ts";
import { saveLeg } from "./legs.ts";

/** Applies the provider's state to one of our calls. */
export async function applyProviderCall(tx: Tx, callId: string, reported: ProviderCall, source: Source) {
  const call = await lockCall(tx, callId);
  if (call.providerCallId !== reported.providerCallId)
    return hangUpOrphan(tx, callId, call.providerAccountId, reported);
  await applyCall(tx, call, reported, source);
}

/** Applies a carrier's report of a leg. Returns why the report was not stored, or null. */
export async function applyLegReport(
  tx: Tx,
  callId: string,
  report: LegReport,
  { accountId, receivedAt }: { accountId: string; receivedAt: Date },
): Promise<string | null> {
  const call = await lockCall(tx, callId);
  const maskAddress = call.erasedAt ? masked : (address: string | null) => address;
  const refusal = await saveLeg(tx, callId, report, { accountId, receivedAt, mask: maskAddress });
  if (refusal === null && report.end) await refineOutcome(tx, call);
  return refusal;
}
