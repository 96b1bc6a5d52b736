import { and, asc, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { workflowRuns, workflowSteps } from "../../db/schema/workflows.ts";
import { ApiError } from "../core/errors.ts";

/** Every workflow there is, and its steps in order. `jobs/workflows.ts` must do each one, or the house does not compile. */
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

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value

/** Begins a workflow about one thing, in the caller's transaction. One that runs about it already goes on, and is answered. */
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
  if (!started) return runningOf(tx, name, subjectId);
  const steps = workflowNames[name].map((step, position) => ({ runId: id, position, name: step }));
  await tx.insert(workflowSteps).values(steps);
  await tx.update(workflowSteps).set({ status: "running", nextAt: now }).where(stepIs(id, 0));
  await enqueue(tx, "workflows.advance", { runId: id }, { key: id });
  return id;
}

async function runningOf(tx: Tx, name: WorkflowName, subjectId: string): Promise<string> {
  const [run] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.name, name), eq(workflowRuns.subjectId, subjectId), eq(workflowRuns.status, "running")));
  if (!run) throw new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1 }); // it ended in this very moment
  return run.id;
}

/*
 * Locks are taken in one order, or two of these verbs would wait for each other: the run, its steps, then its subject.
 */

async function lockRunning(tx: Tx, runId: string): Promise<RunRow | null> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("update");
  return run?.status === "running" ? run : null;
}

/** The run with its present step, both locked; null when nothing is left to be done. */
export async function presentStep(tx: Tx, runId: string): Promise<{ run: RunRow; step: StepRow } | null> {
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

/** Notes that an attempt begins, and counts it: what dies in it has used it up. */
export async function beginAttempt(tx: Tx, step: StepRow): Promise<StepRow> {
  const [begun] = await tx
    .update(workflowSteps)
    .set({
      attempts: step.attempts + 1,
      startedAt: step.startedAt ?? now,
      nextAt: sql`clock_timestamp() + interval '10 minutes'` as unknown as Date,
    })
    .where(stepIs(step.runId, step.position))
    .returning();
  return begun!;
}

/** The step is done: the next one begins, or the run has succeeded. False when somebody else has moved it on already. */
export async function finishStep(tx: Tx, { runId, position, attempts }: StepRow): Promise<boolean> {
  if (!(await lockRunning(tx, runId))) return false;
  const [done] = await tx
    .update(workflowSteps)
    .set({ status: "done", finishedAt: now, error: null, nextAt: null })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running"), eq(workflowSteps.attempts, attempts)))
    .returning();
  if (!done) return false;
  const [next] = await tx
    .update(workflowSteps)
    .set({ status: "running", nextAt: now })
    .where(stepIs(runId, position + 1))
    .returning();
  if (next) await enqueue(tx, "workflows.advance", { runId }, { key: runId });
  else await endRun(tx, runId, "succeeded");
  return true;
}

/** Nothing went wrong, it only is not so far yet: looked at again later, and not counted as an attempt. */
export async function postponeStep(tx: Tx, { runId, position, attempts }: StepRow, seconds: number) {
  await tx
    .update(workflowSteps)
    .set({ attempts: attempts - 1, error: null, nextAt: inSeconds(seconds) })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId, delaySeconds: seconds });
}

/** An attempt failed: the next one is due after so many seconds. */
export async function retryStep(tx: Tx, { runId, position }: StepRow, error: string, seconds: number) {
  await tx
    .update(workflowSteps)
    .set({ error: error.slice(0, 1000), nextAt: inSeconds(seconds) })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId, delaySeconds: seconds });
}

/** The last attempt failed, and the run with it. False when somebody else has ended the run, or moved it on, already. */
export async function failStep(tx: Tx, { runId, position, attempts }: StepRow, error: string): Promise<boolean> {
  if (!(await lockRunning(tx, runId))) return false;
  const [failed] = await tx
    .update(workflowSteps)
    .set({ status: "failed", error: error.slice(0, 1000), finishedAt: now, nextAt: null })
    .where(and(stepIs(runId, position), eq(workflowSteps.status, "running"), eq(workflowSteps.attempts, attempts)))
    .returning();
  if (!failed) return false;
  await endRun(tx, runId, "failed");
  return true;
}

/** What the next attempt must know: how far this one came. */
export async function rememberInRun(tx: Tx, runId: string, input: Record<string, unknown>) {
  await tx.update(workflowRuns).set({ input, updatedAt: now }).where(eq(workflowRuns.id, runId));
}

/** Ends the run about a thing that is settled otherwise, by a service or by a deletion. */
export async function closeWorkflow(tx: Tx, name: WorkflowName, subjectId: string, status: "succeeded" | "failed") {
  const closed = await tx
    .update(workflowRuns)
    .set({ status, updatedAt: now, finishedAt: now })
    .where(and(eq(workflowRuns.name, name), eq(workflowRuns.subjectId, subjectId), eq(workflowRuns.status, "running")))
    .returning({ id: workflowRuns.id });
  for (const { id } of closed) {
    await tx
      .update(workflowSteps)
      .set({ status: status === "succeeded" ? "done" : "failed", finishedAt: now, nextAt: null })
      .where(and(eq(workflowSteps.runId, id), eq(workflowSteps.status, "running")));
  }
}

/** Takes a failed run up again at the step that failed, with all its attempts before it. */
export async function retryWorkflow(tx: Tx, runId: string): Promise<RunRow> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("update");
  if (!run) throw new ApiError("workflow_not_found", `There is no workflow run ${runId}.`);
  if (run.status !== "failed") throw new ApiError("workflow_not_failed", `Run ${runId} is ${run.status}.`);
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
  if (other) throw new ApiError("workflow_not_failed", `Run ${other.id} is under way about the same thing.`);
  const [again] = await tx
    .update(workflowRuns)
    .set({ status: "running", finishedAt: null, updatedAt: now })
    .where(eq(workflowRuns.id, runId))
    .returning();
  await tx
    .update(workflowSteps)
    .set({ status: "running", attempts: 0, nextAt: now, finishedAt: null })
    .where(and(eq(workflowSteps.runId, runId), eq(workflowSteps.status, "failed")));
  await enqueue(tx, "workflows.advance", { runId }, { key: runId });
  return again!;
}

async function endRun(tx: Tx, runId: string, status: "succeeded" | "failed") {
  await tx.update(workflowRuns).set({ status, updatedAt: now, finishedAt: now }).where(eq(workflowRuns.id, runId));
}

const stepIs = (runId: string, position: number) =>
  and(eq(workflowSteps.runId, runId), eq(workflowSteps.position, position));
const inSeconds = (seconds: number) => sql`clock_timestamp() + make_interval(secs => ${seconds})` as unknown as Date;
