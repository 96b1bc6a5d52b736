import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { holds } from "../../db/schema/billing.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import { dbNow } from "../../db/time.ts";
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
 * The creation of a voice. The steps of its workflow, the sweep, and a service through the internal endpoint all call
 * these functions. Each is idempotent and safe to call concurrently: the row's lock lets the first one win.
 */

export const workflowOf = ({ kind }: Pick<VoiceRow, "kind">) =>
  kind === "clone" ? "voice-clone-native" : "voice-clone-external";

/** Marks that the provider may have the voice from now on. Returns null if the voice does not exist. */
export async function beginTraining(tx: Tx, id: string): Promise<VoiceRow | null> {
  const row = await lockAnyVoice(tx, id);
  if (row?.status !== "pending") return row;
  const training = await setVoice(tx, id, { status: "training" });
  await emitVoiceEvent(tx, "voice.training.started", training);
  return training;
}

/**
 * Makes the voice active under the provider's id and debits the held credits. A voice that is no longer wanted, or a second
 * one, is removed at the provider.
 */
export async function finishTraining(tx: Tx, id: string, providerVoiceId: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (!row || row.providerVoiceId === providerVoiceId) return;
  if (!canMove(row.status, "active")) return removeUpstream(tx, row, providerVoiceId);
  const checkedAt = dbNow();
  const active = await setVoice(tx, id, { status: "active", statusReason: null, providerVoiceId, checkedAt });
  await spendHold(tx, id);
  await emitVoiceEvent(tx, "voice.training.completed", active);
}

/** Fails a voice that cannot be created, or that the provider lost. Held credits are released; debited ones are not. */
export async function failVoice(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (!row || !canMove(row.status, "failed")) return;
  const failed = await setVoice(tx, id, { status: "failed", statusReason: reason.slice(0, 1000) });
  if (isBeingMade(row.status)) await releaseCredits(tx, row);
  await emitVoiceEvent(tx, isBeingMade(row.status) ? "voice.training.failed" : "voice.updated", failed);
}

/** Fails a voice after its workflow failed, unless another caller has finished it meanwhile. */
export async function failUnfinishedVoice(tx: Tx, id: string, reason: string): Promise<void> {
  const row = await lockAnyVoice(tx, id);
  if (row && isBeingMade(row.status)) await failVoice(tx, id, reason);
}

/** Closes the workflow of a voice that is settled otherwise. Call it before the voice is locked: runs are locked first. */
export async function endWorkflow(tx: Tx, id: string, status: "succeeded" | "failed") {
  const row = await readVoiceRow(tx, id);
  if (row && isBeingMade(row.status)) await closeWorkflow(tx, workflowOf(row), id, status);
}

/** Releases the held credits. After training began the provider may still create the voice; a job then removes it. */
export async function releaseCredits(tx: Tx, { id, status, providerAccountId }: VoiceRow) {
  await releaseHold(tx, id);
  if (status !== "training") return;
  const lookup = { voiceId: id, accountId: providerAccountId, looksLeft: 2 };
  await enqueue(tx, "voices.clear", lookup, { key: id, delaySeconds: 90 });
}

async function spendHold(tx: Tx, id: string) {
  const [hold] = await tx.select().from(holds).where(eq(holds.subjectId, id));
  if (hold) await settleBill(tx, id, 1, () => hold.amountMicros);
}

/** Applies the status that an internal service reports for a voice, and closes our own workflow. */
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
  else if (status === "active") await finishTraining(tx, id, requireProviderVoiceId(providerVoiceId));
  else await failVoice(tx, id, reason ?? "The voice could not be created.");
  return toVoice(await lockVoice(tx, id));
}

function requireProviderVoiceId(providerVoiceId: string | undefined): string {
  if (providerVoiceId !== undefined) return providerVoiceId;
  throw ApiError.invalid("providerVoiceId", "An active voice needs its id at the voice provider. Give it here.");
}

export async function hasRunningWorkflow(tx: Tx, voiceId: string): Promise<boolean> {
  const runs = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.subjectId, voiceId), eq(workflowRuns.status, "running")))
    .limit(1);
  return runs.length > 0;
}
