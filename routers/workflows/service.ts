import { and, asc, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { workflowRuns, workflowSteps } from "../../db/schema/workflows.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";

/** Every workflow with its steps in order. A step without a handler in `jobs/workflows.ts` does not compile. */
export const workflowNames = {
  "voice-clone-native": ["fetch-samples", "train"],
  "voice-clone-external": ["check-credential", "register"],
  "knowledge-ingest": ["upload", "create-source", "await-documents"],
  "artifacts-backfill": ["transcript", "recording"],
  "output-rerun": ["recompute"],
} as const satisfies Record<string, readonly [string, ...string[]]>;

export type WorkflowName = keyof typeof workflowNames;
export type StepName<N extends WorkflowName> = (typeof workflowNames)[N][number];
export type RunRow = typeof workflowRuns.$inferSelect;
export type StepRow = typeof workflowSteps.$inferSelect;

/** Starts a workflow for one subject, in the caller's transaction. If one is already running, returns its id instead. */
export async function startWorkflow<N extends WorkflowName>(
  tx: Tx,
  name: N,
  subjectId: string,
  input: Record<string, unknown> = {},
): Promise<string> {
  const id = newId("workflow");
  const [started] = await tx
    .insert(workflowRuns)
    .values({ id, name, subjectId, input })
    .onConflictDoNothing()
    .returning();
  if (!started) return findRunningRun(tx, name, subjectId);
  const steps = workflowNames[name].map((step, position) => ({ runId: id, position, name: step }));
  await tx.insert(workflowSteps).values(steps);
  await tx.update(workflowSteps).set({ status: "running", nextAt: dbNow() }).where(stepIs(id, 0));
  await enqueue(tx, "workflows.advance", { runId: id }, { key: id });
  return id;
}

async function findRunningRun(tx: Tx, name: WorkflowName, subjectId: string): Promise<string> {
  const [run] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.name, name), eq(workflowRuns.subjectId, subjectId), eq(workflowRuns.status, "running")));
  if (!run) throw new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1 }); // the run ended between the two statements
  return run.id;
}

// Lock order of these functions, without which they could deadlock: the run, its steps, then its subject.

async function lockRunning(tx: Tx, runId: string): Promise<RunRow | null> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("update");
  return run?.status === "running" ? run : null;
}

/** Locks a running run and its current step. Returns null when nothing is left to do. */
export async function lockCurrentStep(tx: Tx, runId: string): Promise<{ run: RunRow; step: StepRow } | null> {
  const run = await lockRunning(tx, runId);
  if (!run) return null;
  const [step] = await tx
    .select()
    .from(workflowSteps)
    .where(and(eq(workflowSteps.runId, runId), eq(workflowSteps.status, "running")))
    .orderBy(asc(workflowSteps.position))
    .limit(1);
  return step ? { run, step } : null;
}

/** Records and counts the start of an attempt. An attempt that crashes counts as used. */
export async function beginAttempt(tx: Tx, step: StepRow): Promise<StepRow> {
  const [started] = await tx
    .update(workflowSteps)
    .set({
      attempts: step.attempts + 1,
      startedAt: step.startedAt ?? dbNow(),
      nextAt: inSeconds(600),
    })
    .where(stepIs(step.runId, step.position))
    .returning();
  return started!;
}

/** Completes a step: the next one starts, or the run has succeeded. Returns false if another worker was first. */
export async function finishStep(tx: Tx, { runId, position, attempts }: StepRow): Promise<boolean> {
  if (!(await lockRunning(tx, runId))) return false;
  const [done] = await tx
    .update(workflowSteps)
    .set({ status: "done", finishedAt: dbNow(), error: null, nextAt: null })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running"), eq(workflowSteps.attempts, attempts)))
    .returning();
  if (!done) return false;
  const [next] = await tx
    .update(workflowSteps)
    .set({ status: "running", nextAt: dbNow() })
    .where(stepIs(runId, position + 1))
    .returning();
  if (next) await enqueue(tx, "workflows.advance", { runId }, { key: runId });
  else await endRun(tx, runId, "succeeded");
  return true;
}

/** Checks a step again later, because its condition is not met yet. This does not count as an attempt. */
export async function postponeStep(tx: Tx, { runId, position, attempts }: StepRow, seconds: number) {
  await tx
    .update(workflowSteps)
    .set({ attempts: attempts - 1, error: null, nextAt: inSeconds(seconds) })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId, delaySeconds: seconds });
}

/** Records a failed attempt. The next one is due after that many seconds. */
export async function retryStep(tx: Tx, { runId, position }: StepRow, error: string, seconds: number) {
  await tx
    .update(workflowSteps)
    .set({ error: error.slice(0, 1000), nextAt: inSeconds(seconds) })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId, delaySeconds: seconds });
}

/** Fails the step and its run after the last attempt. Returns false if another worker was first. */
export async function failStep(tx: Tx, { runId, position, attempts }: StepRow, error: string): Promise<boolean> {
  if (!(await lockRunning(tx, runId))) return false;
  const [failed] = await tx
    .update(workflowSteps)
    .set({ status: "failed", error: error.slice(0, 1000), finishedAt: dbNow(), nextAt: null })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running"), eq(workflowSteps.attempts, attempts)))
    .returning();
  if (!failed) return false;
  await endRun(tx, runId, "failed");
  return true;
}

/** Saves progress in the run's input, for the next attempt. */
export async function saveRunInput(tx: Tx, runId: string, input: Record<string, unknown>) {
  await tx.update(workflowRuns).set({ input, updatedAt: dbNow() }).where(eq(workflowRuns.id, runId));
}

/** Ends the running run of a subject that a service or a deletion has settled. */
export async function closeWorkflow(tx: Tx, name: WorkflowName, subjectId: string, status: "succeeded" | "failed") {
  const closed = await tx
    .update(workflowRuns)
    .set({ status, updatedAt: dbNow(), finishedAt: dbNow() })
    .where(and(eq(workflowRuns.name, name), eq(workflowRuns.subjectId, subjectId), eq(workflowRuns.status, "running")))
    .returning({ id: workflowRuns.id });
  for (const { id } of closed) {
    await tx
      .update(workflowSteps)
      .set({ status: status === "succeeded" ? "done" : "failed", finishedAt: dbNow(), nextAt: null })
      .where(and(eq(workflowSteps.runId, id), eq(workflowSteps.status, "running")));
  }
}

/** Restarts a failed run at the step that failed, with a full set of attempts. */
export async function retryWorkflow(tx: Tx, runId: string): Promise<RunRow> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("update");
  if (!run) throw new ApiError("workflow_not_found", `There is no workflow run ${runId}.`);
  if (run.status !== "failed")
    throw new ApiError("workflow_not_failed", `Run ${runId} is ${run.status}. Only a failed run can be retried.`);
  const [other] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(
      and(
        eq(workflowRuns.name, run.name),
        eq(workflowRuns.subjectId, run.subjectId),
        eq(workflowRuns.status, "running"),
      ),
    );
  if (other)
    throw new ApiError(
      "workflow_not_failed",
      `Run ${other.id} is already running for the same subject. Wait until it ends.`,
    );
  const [restarted] = await tx
    .update(workflowRuns)
    .set({ status: "running", finishedAt: null, updatedAt: dbNow() })
    .where(eq(workflowRuns.id, runId))
    .returning();
  await tx
    .update(workflowSteps)
    .set({ status: "running", attempts: 0, nextAt: dbNow(), finishedAt: null })
    .where(and(eq(workflowSteps.runId, runId), eq(workflowSteps.status, "failed")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId });
  return restarted!;
}

async function endRun(tx: Tx, runId: string, status: "succeeded" | "failed") {
  await tx
    .update(workflowRuns)
    .set({ status, updatedAt: dbNow(), finishedAt: dbNow() })
    .where(eq(workflowRuns.id, runId));
}

const stepIs = (runId: string, position: number) =>
  and(eq(workflowSteps.runId, runId), eq(workflowSteps.position, position));
