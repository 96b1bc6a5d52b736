import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { isPassing, ProviderError } from "../routers/ports/provider-error.ts";
import { KeysUnavailable } from "../routers/ports/vault.ts";
import {
  beginAttempt,
  failStep,
  finishStep,
  lockCurrentStep,
  postponeStep,
  type RunRow,
  retryStep,
  type StepName,
  type WorkflowName,
} from "../routers/workflows/service.ts";
import { artifactsBackfill, outputRerun } from "./artifacts.ts";
import { knowledgeIngest } from "./knowledge.ts";
import { StepRefused } from "./runtime/step-refused.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import { type JobContext, retryDelaySeconds, type Task } from "./runtime/task.ts";
import { voiceCloneExternal, voiceCloneNative } from "./voices.ts";

/** The result of a step: done, or tried again after some seconds. A failed step throws. */
export type StepResult = "done" | { againInSeconds: number };

export type Step = {
  /** Delays before each retry. After the last one the run has failed. */
  retryAfterSeconds: readonly number[];
  /**
   * May run twice, and after a crash at any point. It calls providers without an open transaction, and records results in
   * its own transactions.
   */
  run(ctx: JobContext, run: RunRow): Promise<StepResult>;
};

/** The steps of a workflow by name, and what happens to its subject when it fails, in the same commit. */
export type Workflow<N extends WorkflowName> = {
  steps: { [S in StepName<N>]: Step };
  failed(tx: Tx, run: RunRow, reason: string): Promise<void>;
};

const workflows: { [N in WorkflowName]: Workflow<N> } = {
  "voice-clone-native": voiceCloneNative,
  "voice-clone-external": voiceCloneExternal,
  "knowledge-ingest": knowledgeIngest,
  "artifacts-backfill": artifactsBackfill,
  "output-rerun": outputRerun,
};

/** How often a process may die in a step beyond its schedule: then the step itself kills it. */
const maxDeaths = 10;
const keylessSeconds = 30;

/** Runs the present step of a run: one attempt. */
export const advance: Task<"workflows.advance"> = {
  async run({ runId }, ctx) {
    const present = await ctx.asClient(async (tx) => {
      const found = await lockCurrentStep(tx, runId);
      return found && { run: found.run, step: await beginAttempt(tx, found.step) };
    });
    if (!present) return;
    const { run, step } = present;
    const workflow = workflows[run.name as WorkflowName];
    const definition = (workflow.steps as Record<string, Step>)[step.name];
    if (!definition) throw new Error(`The workflow ${run.name} has no step ${step.name}.`);
    try {
      if (step.attempts > definition.retryAfterSeconds.length + maxDeaths)
        throw new StepRefused("Every attempt ended without a result.");
      const result = await definition.run(ctx, run);
      await ctx.asClient(async (tx) => {
        if (result === "done") await finishStep(tx, step);
        else await postponeStep(tx, step, result.againInSeconds);
      });
    } catch (thrown) {
      ctx.fence.check();
      if (ctx.signal.aborted) throw thrown;
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      // The key service is unavailable: that is no failure of the step.
      if (error instanceof KeysUnavailable) return ctx.asClient((tx) => postponeStep(tx, step, keylessSeconds));
      const isFinal =
        error instanceof StepRefused ||
        (error instanceof ProviderError && error.kind === "refused" && !isPassing(error));
      const seconds = isFinal ? undefined : retryDelaySeconds(definition.retryAfterSeconds, step.attempts - 1);
      ctx.log.warn(
        { err: error, workflow: run.name, step: step.name, retry_after_seconds: seconds ?? null },
        "workflow step failed",
      );
      await ctx.asClient(async (tx) => {
        if (seconds !== undefined) return retryStep(tx, step, error.message, seconds);
        if (await failStep(tx, step, error.message)) await workflow.failed(tx, run, error.message);
      });
    }
  },
};

/** Recovers runs that lost their job. A step it takes is not taken again for five minutes. */
export const sweep: Task<"workflows.sweep"> = {
  async run(_payload, ctx) {
    const isLeft = sql`s.status = 'running' and s.next_at <= statement_timestamp() - interval '5 minutes'`;
    await sweepInto(ctx, "workflows.sweep", "workflows.advance", async (tx) => {
      const left = await tx.execute<{ clientId: string; runId: string }>(sql`
        update workflow_steps s set next_at = clock_timestamp()
        from (select s.client_id, s.run_id, s.position from ${roundRobin(
          sql`select s.client_id, s.run_id as id, s.next_at as due_at
            from workflow_steps s join clients c on c.id = s.client_id and c.status = 'active'
            where ${isLeft} order by s.next_at`,
          500,
        )} first join workflow_steps s on s.client_id = first.client_id and s.run_id = first.id
          where ${isLeft} for no key update of s skip locked) due
        where s.client_id = due.client_id and s.run_id = due.run_id and s.position = due.position
        returning s.client_id as "clientId", s.run_id as "runId"`);
      return left.map(({ clientId, runId }) => ({ clientId, payload: { runId }, key: runId }));
    });
  },
};
