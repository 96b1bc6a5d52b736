import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { holds } from "../../db/schema/billing.ts";
import { releaseHold, settleBill } from "../billing/ledger.ts";
import { ApiError } from "../core/errors.ts";
import { closeWorkflow } from "../workflows/service.ts";
import {
  emitVoiceEvent,
  lockAnyVoice,
  lockVoice,
  readVoiceRow,
  removeUpstream,
  setVoice,
  toVoice,
  type VoiceRow,
} from "./row.ts";
import type { UpdateVoiceStatus, Voice } from "./schema.ts";
import { canMove, isBeingMade } from "./transitions.ts";

/*
 * How a voice comes to be, whoever drives it: the steps of its workflow, the sweep, or a service at its own door. Each
 * verb may be said twice, and by several at once: the row's lock lets the first one win.
 */

export const workflowOf = ({ kind }: Pick<VoiceRow, "kind">) =>
  kind === "clone" ? "voice-clone-native" : "voice-clone-external";

/** From now on the provider may have something of it. null: it is not there any more. */
export async function beginTraining(tx: Tx, id: string): Promise<VoiceRow | null> {
  const row = await lockAnyVoice(tx, id);
  if (row?.status !== "pending") return row;
  const training = await setVoice(tx, id, { status: "training" });
  await emitVoiceEvent(tx, "voice.training.started", training);
  return training;
}

/**
 * The provider has it under this id: the credits that were held are spent. One that nobody waits for any more, or a
 * second one, goes away there again.
 */
export async function finishTraining(tx: Tx, id: string, providerVoiceId: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (!row || row.providerVoiceId === providerVoiceId) return;
  if (!canMove(row.status, "active")) return removeUpstream(tx, row, providerVoiceId);
  const checkedAt = sql`clock_timestamp()` as unknown as Date;
  const active = await setVoice(tx, id, { status: "active", statusReason: null, providerVoiceId, checkedAt });
  await spendHold(tx, id);
  await emitVoiceEvent(tx, "voice.training.completed", active);
}

/** It will not be made, or is gone at the provider. What was held for it is given back; what was spent stays spent. */
export async function failVoice(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (!row || !canMove(row.status, "failed")) return;
  const failed = await setVoice(tx, id, { status: "failed", statusReason: reason.slice(0, 1000) });
  if (isBeingMade(row.status)) await giveBack(tx, row);
  await emitVoiceEvent(tx, isBeingMade(row.status) ? "voice.training.failed" : "voice.updated", failed);
}

/** Its workflow has ended in vain; by now somebody else may have made it. */
export async function failUnfinishedVoice(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (row && isBeingMade(row.status)) await failVoice(tx, id, reason);
}

/** Somebody else settles it: its workflow is over. Before the voice is locked, since the engine locks a run first too. */
export async function endWorkflow(tx: Tx, id: string, status: "succeeded" | "failed") {
  const seen = await readVoiceRow(tx, id);
  if (seen && isBeingMade(seen.status)) await closeWorkflow(tx, workflowOf(seen), id, status);
}

/** Once training has begun the provider may yet come to have it: then it goes away there, and costs nobody anything. */
export async function giveBack(tx: Tx, { id, status, providerAccountId }: VoiceRow) {
  await releaseHold(tx, id);
  if (status !== "training") return;
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
  if (row.status === status && !isOther) return toVoice(row);
  if (!canMove(row.status, status)) {
    const message = isOther && row.status === "active" ? "is active with another providerVoiceId" : `is ${row.status}`;
    throw new ApiError("voice_transition_invalid", `Voice ${id} ${message}, so it cannot become ${status}.`);
  }
  if (status === "training") await beginTraining(tx, id);
  else if (status === "active") await finishTraining(tx, id, needed(providerVoiceId));
  else await failVoice(tx, id, reason ?? "The voice could not be made.");
  return toVoice(await lockVoice(tx, id));
}

function needed(providerVoiceId: string | undefined): string {
  if (providerVoiceId !== undefined) return providerVoiceId;
  const [path, message] = ["providerVoiceId", "An active voice has an id at the voice provider: say which."];
  throw new ApiError("input_invalid", `${path}: ${message}`, { details: [{ path, message }] });
}
