import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { calls } from "../../../db/schema/calls.ts";
import { ApiError } from "../../core/errors.ts";
import type { ProviderMessage } from "../../ports/ultravox.ts";
import { startWorkflow } from "../../workflows/service.ts";
import { type CallRow, change, emitCallEvent, finaliseCall, lockCall } from "../service.ts";
import { eraseUpstreamIfDone, recordingKey, settleArtifacts } from "./artifacts.ts";

/** Is there a recording at the provider that we do not have? */
export const wantsRecording = (call: CallRow) =>
  call.status === "ended" &&
  call.providerCallId !== null &&
  (call.recordingStatus === "pending" || call.recordingStatus === "missing");

/** May there be a conversation that we do not have? Where nobody answered there is none. */
export const wantsTranscript = (call: CallRow) =>
  call.status === "ended" &&
  call.providerCallId !== null &&
  call.joinedAt !== null &&
  (call.transcriptStatus === "pending" || call.transcriptStatus === "missing");

/** The recording lies in our storage: from now on it can be downloaded. Should it have been erased meanwhile, it goes again. */
export async function saveRecording(tx: Tx, id: string, bytes: number) {
  const call = await lockCall(tx, id);
  if (call.recordingStatus === "erased") return removeRecording(tx, call);
  if (!wantsRecording(call)) return;
  const kept = await change(tx, call, {
    recordingStatus: "ready",
    recordingKey: recordingKey(call),
    recordingBytes: bytes,
  });
  await eraseUpstreamIfDone(tx, kept);
  await emitCallEvent(tx, "call.recording.ready", kept);
}

/** It is waited for no longer. False when there was nothing to wait for. */
export async function markRecordingMissing(tx: Tx, id: string): Promise<boolean> {
  const call = await lockCall(tx, id);
  if (call.recordingStatus !== "pending") return false;
  await eraseUpstreamIfDone(tx, await change(tx, call, { recordingStatus: "missing" }));
  return true;
}

export const removeRecording = (tx: Tx, call: Pick<CallRow, "clientId" | "id">) =>
  enqueue(tx, "files.remove", { keys: [recordingKey(call)] });

/** Messages that came after the outcome was final: that stands, and the rest is made up for, once. */
export async function saveLateTranscript(tx: Tx, id: string, messages: ProviderMessage[]) {
  const call = await lockCall(tx, id);
  if (!wantsTranscript(call)) return;
  if (!call.outcomeFinal) return finaliseCall(tx, id, messages);
  const kept = await change(tx, call, await settleArtifacts(tx, call, messages));
  if (kept.transcriptStatus === "ready") await emitCallEvent(tx, "call.transcript.ready", kept);
}

/** Asks the provider once more for what an ended call left behind. Where nothing is missing, the run ends at once. */
export async function startBackfill(tx: Tx, id: string): Promise<string> {
  const call = await lockCall(tx, id);
  if (call.status !== "ended")
    throw new ApiError("call_not_ended", `The call is ${call.status}: it has left nothing yet.`);
  return startWorkflow(tx, "artifacts-backfill", id);
}

/** Long enough for a word: then an empty list of messages is one that is not filled yet. */
export const talked = ({ joinedAt, endedAt }: Pick<CallRow, "joinedAt" | "endedAt">) =>
  joinedAt !== null && endedAt !== null && endedAt.getTime() - joinedAt.getTime() > 5_000;

/** By the database's clock: did the call end within so many minutes? The provider may be at work still. */
export async function endedLately(tx: Tx, id: string, minutes: number): Promise<boolean> {
  const [row] = await tx
    .select({ lately: sql<boolean>`${calls.endedAt} > clock_timestamp() - make_interval(mins => ${minutes}::int)` })
    .from(calls)
    .where(eq(calls.id, id));
  return row?.lately === true;
}
