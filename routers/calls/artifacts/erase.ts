import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { callMessages, callPairs, calls, callWords } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import { maskLegs } from "../lifecycle/legs.ts";
import { type CallRow, lockCall } from "../service.ts";
import { recordingKey } from "./artifacts.ts";
import { eraseCopies } from "./erase-copies.ts";

/**
 * Removes what was said and who it was: messages, words, recording, summary, output, variables, metadata; of a number
 * the ends stay. What was paid stays whole, and so does the row, as a tombstone. At the provider the call is erased once
 * its bill is known. Doing so again changes nothing.
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
      erasedAt: sql`clock_timestamp()` as unknown as Date,
      updatedAt: sql`clock_timestamp()` as unknown as Date,
    })
    .where(eq(calls.id, id));
  if (recordingStatus !== "none") await enqueue(tx, "files.remove", { keys: [recordingKey(call)] }, { key: id });
  await eraseCopies(tx, id);
  if (call.billingRevision > 0) await enqueue(tx, "calls.eraseUpstream", { callId: id }, { key: id });
}

function refuseUnfinished({ id, status, outcomeFinal }: CallRow) {
  if (status === "failed" || (status === "ended" && outcomeFinal)) return;
  const why = status === "ended" ? "has ended, and its messages are being read: try again in a moment" : `is ${status}`;
  throw new ApiError("call_not_ended", `Only a call that is over can be erased; ${id} ${why}.`);
}

/** Enough to tell numbers apart in a list, and not enough to ring one. */
export function masked(address: string | null): string | null {
  if (address === null) return null;
  if (!address.startsWith("+")) return address.includes(":") ? address.replace(/:.*/, ":***") : "***";
  return `${address.slice(0, 3)}${"*".repeat(Math.max(0, address.length - 5))}${address.slice(-2)}`;
}

/** A provider's sentence may quote the number that it would not dial. */
function withoutNumbers(text: string | null, addresses: readonly (string | null)[]): string | null {
  const numbers = addresses.flatMap((address) => address?.match(/\d{5,}/g) ?? []);
  return numbers.reduce<string | null>((left, number) => left?.replaceAll(number, "***") ?? null, text);
}
