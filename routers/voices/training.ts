import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { holds } from "../../db/schema/billing.ts";
import { releaseHold, settleBill } from "../billing/ledger.ts";
import { Fault } from "../fault.ts";
import { closeWorkflow } from "../workflows/service.ts";
import { canMove, isBeingMade } from "./machine.ts";
import { lockVoice, lockWhatever, onTheWire, peekVoice, removeUpstream, say, setVoice, type VoiceRow } from "./row.ts";
import type { UpdateVoiceStatus, Voice } from "./schema.ts";

/*
 * How a voice comes to be, whoever drives it: the steps of its workflow, the sweep, or a service at its own door. Each
 * verb may be said twice, and by several at once: the row's lock lets the first one win.
 */

export const workflowOf = ({ kind }: Pick<VoiceRow, "kind">) =>
  kind === "clone" ? "voice-clone-native" : "voice-clone-external";

/** From now on the provider may have something of it. null: it is not there any more. */
export async function beginTraining(tx: Tx, id: string): Promise<VoiceRow | null> {
  const row = await lockWhatever(tx, id);
  if (row?.state !== "pending") return row;
  const training = await setVoice(tx, id, { state: "training" });
  await say(tx, "voice.training.started", training);
  return training;
}

/**
 * The provider has it under this id: the credits that were held are spent. One that nobody waits for any more, or a
 * second one, goes away there again.
 */
export async function finishTraining(tx: Tx, id: string, providerVoiceId: string): Promise<void> {
  const row = await lockWhatever(tx, id);
  if (!row || row.providerVoiceId === providerVoiceId) return;
  if (!canMove(row.state, "active")) return removeUpstream(tx, row, providerVoiceId);
  const checkedAt = sql`clock_timestamp()` as unknown as Date;
  const active = await setVoice(tx, id, { state: "active", stateReason: null, providerVoiceId, checkedAt });
  await spendHold(tx, id);
  await say(tx, "voice.training.completed", active);
}

/** It will not be made, or is gone at the provider. What was held for it is given back; what was spent stays spent. */
export async function failVoice(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockWhatever(tx, id);
  if (!row || !canMove(row.state, "failed")) return;
  const failed = await setVoice(tx, id, { state: "failed", stateReason: reason.slice(0, 1000) });
  if (isBeingMade(row.state)) await giveBack(tx, row);
  await say(tx, isBeingMade(row.state) ? "voice.training.failed" : "voice.updated", failed);
}

/** Its workflow has ended in vain; by now somebody else may have made it. */
export async function giveUpMaking(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockWhatever(tx, id);
  if (row && isBeingMade(row.state)) await failVoice(tx, id, reason);
}

/** Somebody else settles it: its workflow is over. Before the voice is locked, since the engine locks a run first too. */
export async function endWorkflow(tx: Tx, id: string, state: "succeeded" | "failed") {
  const seen = await peekVoice(tx, id);
  if (seen && isBeingMade(seen.state)) await closeWorkflow(tx, workflowOf(seen), id, state);
}

/** Once training has begun the provider may yet come to have it: then it goes away there, and costs nobody anything. */
export async function giveBack(tx: Tx, { id, state, providerAccountId }: VoiceRow) {
  await releaseHold(tx, id);
  if (state !== "training") return;
  const look = { voiceId: id, accountId: providerAccountId, looksLeft: 2 };
  await enqueue(tx, "voices.clear", look, { key: id, delaySeconds: 90 });
}

async function spendHold(tx: Tx, id: string) {
  const [hold] = await tx.select().from(holds).where(eq(holds.subjectId, id));
  if (hold) await settleBill(tx, id, 1, hold.amountMicros);
}

/** What a service says of a voice that it drives itself: the same verbs, and the workflow of ours is over. */
export async function reportStatus(tx: Tx, report: UpdateVoiceStatus): Promise<Voice> {
  const { id, status, providerVoiceId, reason } = report;
  if (status !== "training") await endWorkflow(tx, id, status === "active" ? "succeeded" : "failed");
  const row = await lockVoice(tx, id);
  const isOther = status === "active" && providerVoiceId !== undefined && providerVoiceId !== row.providerVoiceId;
  if (row.state === status && !isOther) return onTheWire(row);
  if (!canMove(row.state, status)) {
    const message = isOther && row.state === "active" ? "is active with another providerVoiceId" : `is ${row.state}`;
    throw new Fault("voice_move_refused", `Voice ${id} ${message}, so it cannot become ${status}.`);
  }
  if (status === "training") await beginTraining(tx, id);
  else if (status === "active") await finishTraining(tx, id, needed(providerVoiceId));
  else await failVoice(tx, id, reason ?? "The voice could not be made.");
  return onTheWire(await lockVoice(tx, id));
}

function needed(providerVoiceId: string | undefined): string {
  if (providerVoiceId !== undefined) return providerVoiceId;
  const [path, message] = ["providerVoiceId", "An active voice has an id at the voice provider: say which."];
  throw new Fault("invalid_input", `${path}: ${message}`, { details: [{ path, message }] });
}
