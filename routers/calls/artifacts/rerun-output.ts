import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { and, eq, inArray, ne, sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "../../../db/client.ts";
import { agents } from "../../../db/schema/agents.ts";
import { calls } from "../../../db/schema/calls.ts";
import { workflowRuns } from "../../../db/schema/workflows.ts";
import { ApiError } from "../../core/errors.ts";
import { examples, Id, Timestamp, TimestampInput, toIso, toIsoOrNull } from "../../core/fields.ts";
import { saveRunInput, startWorkflow } from "../../workflows/service.ts";
import { type CallRow, change } from "../service.ts";
import { artifactSettingsOf, messagesOf, outputAgain, outputOf } from "./artifacts.ts";
import type { OutputSources } from "./output.ts";

type Change = Partial<typeof calls.$inferInsert>;

export const RerunOutput = z.strictObject({
  id: Id("agent", examples.agent),
  createdAfter: TimestampInput.optional().meta({
    description: "Calls created at this time or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Calls created before this time.",
    examples: [examples.instant],
  }),
});
export type RerunOutput = z.output<typeof RerunOutput>;

export const RerunId = z.strictObject({ id: Id("workflow", examples.workflow) });

export const OutputRerun = z
  .object({
    id: Id("workflow", examples.workflow),
    agentId: Id("agent", examples.agent),
    agentVersion: z.int().meta({ description: "The version whose output schema is used.", examples: [3] }),
    status: z.enum(["running", "succeeded", "failed"]).meta({ examples: ["running"] }),
    done: z.int().meta({ description: "Calls done so far.", examples: [150] }),
    total: z
      .int()
      .nullable()
      .meta({ description: "All calls of the rerun. null until they have been counted.", examples: [420] }),
    createdAfter: Timestamp.nullable(),
    createdBefore: Timestamp.nullable(),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable(),
  })
  .meta({ id: "OutputRerun" });
export type OutputRerun = z.output<typeof OutputRerun>;

/** The progress of a rerun, stored as the input of its workflow run. */
const Progress = z.object({
  version: z.int(),
  createdAfter: z.string().nullable(),
  createdBefore: z.string().nullable(),
  /** The id of the last call that is done. */
  cursor: z.string(),
  done: z.int(),
  total: z.int().nullable(),
});
type Progress = z.output<typeof Progress>;

/** Starts a rerun of the output of an agent's past calls, with the live schema. One rerun per agent at a time. */
export async function rerunOutput(tx: Tx, { id: agentId, createdAfter, createdBefore }: RerunOutput) {
  // The lock makes the second of two concurrent requests see the first one's run. It does not block calls of the agent.
  const [agent] = await tx
    .select({ version: agents.version })
    .from(agents)
    .where(and(eq(agents.id, agentId), ne(agents.status, "deleted")))
    .for("no key update");
  if (!agent) throw new ApiError("agent_not_found", `There is no agent ${agentId}.`);
  const { outputSchema } = await artifactSettingsOf(tx, agentId, agent.version);
  if (!outputSchema) throw new ApiError("output_schema_missing");
  const [running] = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(runsOf(agentId), eq(workflowRuns.status, "running")));
  if (running)
    throw new ApiError(
      "output_rerun_running",
      `The rerun ${running.id} of this agent is still running. Wait for its end.`,
    );
  const progress: Progress = {
    version: agent.version,
    createdAfter: inUtc(createdAfter),
    createdBefore: inUtc(createdBefore),
    ...{ cursor: "", done: 0, total: null },
  };
  return getRerun(tx, await startWorkflow(tx, "output-rerun", agentId, progress));
}

export async function getRerun(tx: Tx, id: string): Promise<OutputRerun> {
  const [run] = await tx
    .select()
    .from(workflowRuns)
    .where(and(eq(workflowRuns.id, id), eq(workflowRuns.name, "output-rerun")));
  if (!run) throw new ApiError("workflow_not_found", `There is no output rerun ${id}.`);
  const { version, done, total, createdAfter, createdBefore } = Progress.parse(run.input);
  return {
    id,
    agentId: run.subjectId,
    agentVersion: version,
    status: run.status,
    ...{ done, total, createdAfter, createdBefore },
    createdAt: toIso(run.createdAt),
    finishedAt: toIsoOrNull(run.finishedAt),
  };
}

type Batch = {
  progress: Progress;
  schema: Record<string, unknown> | null | undefined;
  calls: { call: CallRow; messages: OutputSources["messages"] }[];
  isLast: boolean;
};

/** The next calls of a rerun, with the sources of their outputs. null when the rerun has finished. Takes no locks. */
export async function readBatch(tx: Tx, runId: string, size: number): Promise<Batch | null> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId));
  if (run?.status !== "running") return null;
  const progress = Progress.parse(run.input);
  const { outputSchema: schema } = await artifactSettingsOf(tx, run.subjectId, progress.version);
  const total = progress.total ?? (await countCalls(tx, run.subjectId, progress));
  const batch = await tx.select().from(calls).where(inScope(run.subjectId, progress)).orderBy(calls.id).limit(size);
  const read: Batch["calls"] = [];
  for (const call of batch) read.push({ call, messages: schema ? await messagesOf(tx, call) : [] });
  return { progress: { ...progress, total }, schema, calls: read, isLast: batch.length < size };
}

/** Extracts the outputs. A client's schema may be slow, so no transaction is open, and other work runs between two calls. */
export async function fillBatch({ schema, calls: read }: Batch): Promise<Change[]> {
  const outputs: Change[] = [];
  for (const { call, messages } of read) {
    outputs.push(outputOf(schema, call, messages));
    await setImmediate();
  }
  return outputs;
}

/**
 * Stores the outputs and the progress in one commit. The run is locked: of two concurrent workers, the second discards its
 * batch and continues where the first stopped.
 */
export async function saveBatch(tx: Tx, runId: string, { progress, schema, calls: read }: Batch, outputs: Change[]) {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId)).for("update");
  if (run?.status !== "running" || Progress.parse(run.input).cursor !== progress.cursor) return;
  const ids = read.map(({ call }) => call.id);
  const rows = await tx
    .select()
    .from(calls)
    .where(and(inArray(calls.id, ids), eq(calls.transcriptStatus, "ready")))
    .orderBy(calls.id)
    .for("update");
  for (const row of rows) {
    const index = ids.indexOf(row.id);
    // If the call changed since it was read, extract again.
    const isUnchanged = isDeepStrictEqual(sourcesOf(row), sourcesOf(read[index]!.call));
    await change(tx, row, isUnchanged ? outputs[index]! : await outputAgain(tx, row, schema));
  }
  const cursor = ids.at(-1) ?? progress.cursor;
  await saveRunInput(tx, runId, { ...progress, cursor, done: progress.done + ids.length });
}

/** The columns of a call that its output uses. */
function sourcesOf({ summary, shortSummary, outcome, endReason, durationSeconds, finalState, variables }: CallRow) {
  return { summary, shortSummary, outcome, endReason, durationSeconds, finalState, variables };
}

async function countCalls(tx: Tx, agentId: string, progress: Progress): Promise<number> {
  const [row] = await tx.select({ count: sql<string>`count(*)` }).from(calls).where(inScope(agentId, progress));
  return Number(row?.count ?? 0);
}

/** Calls with a stored transcript. Without it an output cannot be extracted again, and stays as it is. */
const inScope = (agentId: string, { cursor, createdAfter, createdBefore }: Progress) =>
  and(
    eq(calls.agentId, agentId),
    sql`${calls.id} > ${cursor}`,
    eq(calls.transcriptStatus, "ready"),
    createdAfter === null ? undefined : sql`${calls.createdAt} >= ${createdAfter}::text::timestamptz`,
    createdBefore === null ? undefined : sql`${calls.createdAt} < ${createdBefore}::text::timestamptz`,
  );

const runsOf = (agentId: string) => and(eq(workflowRuns.name, "output-rerun"), eq(workflowRuns.subjectId, agentId));

const inUtc = (instant: string | undefined) => (instant === undefined ? null : new Date(instant).toISOString());
