import { and, eq } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { callMessages, callPairs, calls, callWords } from "../../../db/schema/calls.ts";
import { dbNow } from "../../../db/time.ts";
import { ApiError } from "../../core/errors.ts";
import { maskLegs } from "../lifecycle/legs.ts";
import { type CallRow, lockCall } from "../service.ts";
import { recordingKey } from "./artifacts.ts";
import { eraseCopies } from "./erase-copies.ts";

/**
 * Removes the content of a call and masks its parties: messages, words, recording, summary, output, variables, metadata.
 * Masked numbers keep their first and last digits. Costs and the row itself stay. At the provider the call is erased once
 * its bill is known. Idempotent.
 */
export async function eraseCall(tx: Tx, id: string) {
  const call = await lockCall(tx, id);
  if (call.erasedAt) return;
  refuseUnfinished(call);
  const { createdAt, recordingStatus } = call;
  await tx.delete(callMessages).where(and(eq(callMessages.callId, id), eq(callMessages.createdAt, createdAt)));
  await tx.delete(callWords).where(eq(callWords.callId, id));
  await tx.delete(callPairs).where(eq(callPairs.callId, id));
  await maskLegs(tx, id, masked);
  await tx
    .update(calls)
    .set({
      to: masked(call.to),
      from: masked(call.from),
      toRaw: null,
      fromRaw: null,
      failureReason: withoutNumbers(call.failureReason, [call.to, call.from]),
      variables: {},
      metadata: {},
      overrides: null,
      summary: null,
      shortSummary: null,
      joinUrl: null,
      output: null,
      outputStatus: "none",
      outputProblems: null,
      finalState: null,
      transcriptStatus: "erased",
      recordingStatus: recordingStatus === "none" ? "none" : "erased",
      recordingKey: null,
      recordingBytes: null,
      transcriptUntil: null,
      recordingUntil: null,
      erasedAt: dbNow(),
      updatedAt: dbNow(),
    })
    .where(eq(calls.id, id));
  if (recordingStatus !== "none") await enqueue(tx, "files.remove", { keys: [recordingKey(call)] }, { key: id });
  await eraseCopies(tx, id);
  if (call.billingRevision > 0) await enqueue(tx, "calls.eraseUpstream", { callId: id }, { key: id });
}

function refuseUnfinished({ id, status, outcomeFinal }: CallRow) {
  if (status === "failed" || (status === "ended" && outcomeFinal)) return;
  const reason =
    status === "ended" ? "has ended, but its messages are still being read; try again in a moment" : `is ${status}`;
  throw new ApiError("call_not_ended", `Only a call that is over can be erased. ${id} ${reason}.`);
}

/** Keeps enough digits to distinguish numbers in a list, and too few to call one. */
export function masked(address: string | null): string | null {
  if (address === null) return null;
  if (!address.startsWith("+")) return address.includes(":") ? address.replace(/:.*/, ":***") : "***";
  return `${address.slice(0, 3)}${"*".repeat(Math.max(0, address.length - 5))}${address.slice(-2)}`;
}

/** A provider's error message may contain the number that it did not dial. */
function withoutNumbers(text: string | null, addresses: readonly (string | null)[]): string | null {
  const numbers = addresses.flatMap((address) => address?.match(/\d{5,}/g) ?? []);
  return numbers.reduce<string | null>((rest, number) => rest?.replaceAll(number, "***") ?? null, text);
}
