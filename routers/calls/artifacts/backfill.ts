import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { calls } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import type { ProviderMessage } from "../../ports/ultravox.ts";
import { startWorkflow } from "../../workflows/service.ts";
import { type CallRow, change, emitCallEvent, finaliseCall, lockCall } from "../service.ts";
import { eraseUpstreamIfDone, recordingKey, settleArtifacts } from "./artifacts.ts";

/** Whether the provider may have a recording that is not stored here. */
export const wantsRecording = (call: CallRow) =>
  call.status === "ended" &&
  call.providerCallId !== null &&
  (call.recordingStatus === "pending" || call.recordingStatus === "missing");

/** Whether the provider may have a transcript that is not stored here. An unanswered call has none. */
export const wantsTranscript = (call: CallRow) =>
  call.status === "ended" &&
  call.providerCallId !== null &&
  call.joinedAt !== null &&
  (call.transcriptStatus === "pending" || call.transcriptStatus === "missing");

/** Marks the recording as stored and ready. If the call was erased meanwhile, enqueues the removal of the file instead. */
export async function saveRecording(tx: Tx, id: string, bytes: number) {
  const call = await lockCall(tx, id);
  if (call.recordingStatus === "erased") return removeRecording(tx, call);
  if (!wantsRecording(call)) return;
  const changed = await change(tx, call, {
    recordingStatus: "ready",
    recordingKey: recordingKey(call),
    recordingBytes: bytes,
  });
  await eraseUpstreamIfDone(tx, changed);
  await emitCallEvent(tx, "call.recording.ready", changed);
}

/** Stops waiting for the recording. Returns false if it was not pending. */
export async function markRecordingMissing(tx: Tx, id: string): Promise<boolean> {
  const call = await lockCall(tx, id);
  if (call.recordingStatus !== "pending") return false;
  await eraseUpstreamIfDone(tx, await change(tx, call, { recordingStatus: "missing" }));
  return true;
}

export const removeRecording = (tx: Tx, call: Pick<CallRow, "clientId" | "id">) =>
  enqueue(tx, "files.remove", { keys: [recordingKey(call)] });

/** Stores messages that arrived after the outcome was final. The outcome stays; the rest is completed once. */
export async function saveLateTranscript(tx: Tx, id: string, messages: ProviderMessage[]) {
  const call = await lockCall(tx, id);
  if (!wantsTranscript(call)) return;
  if (!call.outcomeFinal) return finaliseCall(tx, id, messages);
  const changed = await change(tx, call, await settleArtifacts(tx, call, messages));
  if (changed.transcriptStatus === "ready") await emitCallEvent(tx, "call.transcript.ready", changed);
}

/** Starts a workflow that fetches missing artifacts of an ended call. It finishes immediately if nothing is missing. */
export async function startBackfill(tx: Tx, id: string): Promise<string> {
  const call = await lockCall(tx, id);
  if (call.status !== "ended")
    throw new ApiError("call_not_ended", `The call is ${call.status}. Start a backfill after its end.`);
  return startWorkflow(tx, "artifacts-backfill", id);
}

/** Whether the call was long enough (over 5 s) for a spoken word: then an empty list of messages is not complete yet. */
export const isLongEnoughToSpeak = ({ joinedAt, endedAt }: Pick<CallRow, "joinedAt" | "endedAt">) =>
  joinedAt !== null && endedAt !== null && endedAt.getTime() - joinedAt.getTime() > 5_000;

/** Whether the call ended within the last `minutes`, by the database's clock. The provider may still be working on it. */
export async function endedLately(tx: Tx, id: string, minutes: number): Promise<boolean> {
  const [row] = await tx
    .select({ isRecent: sql<boolean>`${calls.endedAt} > clock_timestamp() - make_interval(mins => ${minutes}::int)` })
    .from(calls)
    .where(eq(calls.id, id));
  return row?.isRecent === true;
}
