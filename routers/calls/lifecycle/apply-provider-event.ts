import type { Tx } from "../../../db/client.ts";
import type { LegReport } from "../../ports/carriers.ts";
import type { ProviderCall } from "../../ports/ultravox.ts";
import { masked } from "../artifacts/erase.ts";
import { hangUpOrphan } from "../create/place.ts";
import { applyCall, type How, lockCall, refineOutcome } from "../service.ts";
import { saveLeg } from "./legs.ts";

/** Takes in what the provider says of a call of ours. */
export async function applyProviderCall(tx: Tx, callId: string, seen: ProviderCall, how: How) {
  const call = await lockCall(tx, callId);
  if (call.providerCallId !== seen.providerCallId) return hangUpOrphan(tx, callId, call.providerAccountId, seen);
  await applyCall(tx, call, seen, how);
}

/** Takes in what a carrier says of a leg of a call. Answers why it was not taken, or null. */
export async function applyLegReport(
  tx: Tx,
  callId: string,
  report: LegReport,
  { accountId, heardAt }: { accountId: string; heardAt: Date },
): Promise<string | null> {
  const call = await lockCall(tx, callId);
  const shown = call.erasedAt ? masked : (address: string | null) => address;
  const objection = await saveLeg(tx, callId, report, { accountId, heardAt, masked: shown });
  if (objection === null && report.end) await refineOutcome(tx, call);
  return objection;
}
