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
    description: "Calls made at this moment or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Calls made before this moment.",
    examples: [examples.instant],
  }),
});
export type RerunOutput = z.output<typeof RerunOutput>;

export const RerunId = z.strictObject({ id: Id("workflow", examples.workflow) });

export const OutputRerun = z
  .object({
    id: Id("workflow", examples.workflow),
    agentId: Id("agent", examples.agent),
    agentVersion: z.int().meta({ description: "Whose output schema is used.", examples: [3] }),
    status: z.enum(["running", "succeeded", "failed"]).meta({ examples: ["running"] }),
    done: z.int().meta({ description: "Calls looked at so far.", examples: [150] }),
    total: z
      .int()
      .nullable()
      .meta({ description: "null until they have been counted.", examples: [420] }),
    createdAfter: Timestamp.nullable(),
    createdBefore: Timestamp.nullable(),
    createdAt: Timestamp,
    finishedAt: Timestamp.nullable(),
  })
  .meta({ id: "OutputRerun" });
export type OutputRerun = z.output<typeof OutputRerun>;

/** What a re-run knows of itself, kept with its run. */
const Progress = z.object({
  version: z.int(),
  createdAfter: z.string().nullable(),
  createdBefore: z.string().nullable(),
  /** The call that was looked at last. */
  cursor: z.string(),
  done: z.int(),
  total: z.int().nullable(),
});
type Progress = z.output<typeof Progress>;

/** Fills the output of an agent's past calls anew, by the schema that is live now; one re-run per agent at a time. */
export async function rerunOutput(tx: Tx, { id: agentId, createdAfter, createdBefore }: RerunOutput) {
  // The lock lets one of two askers find the other's run. It leaves calls of the agent alone.
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
    throw new ApiError("output_rerun_running", `Wait for ${running.id}, which is filling these outputs now.`);
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
  if (!run) throw new ApiError("workflow_not_found", `There is no re-run ${id}.`);
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

type Reading = {
  progress: Progress;
  schema: Record<string, unknown> | null | undefined;
  calls: { call: CallRow; messages: OutputSources["messages"] }[];
  isLast: boolean;
};

/** The next calls of a re-run, and all that their outputs are made of; null when it is over. Locks nothing. */
export async function readBatch(tx: Tx, runId: string, atOnce: number): Promise<Reading | null> {
  const [run] = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, runId));
  if (run?.status !== "running") return null;
  const progress = Progress.parse(run.input);
  const { outputSchema: schema } = await artifactSettingsOf(tx, run.subjectId, progress.version);
  const total = progress.total ?? (await countCalls(tx, run.subjectId, progress));
  const batch = await tx.select().from(calls).where(inScope(run.subjectId, progress)).orderBy(calls.id).limit(atOnce);
  const read: Reading["calls"] = [];
  for (const call of batch) read.push({ call, messages: schema ? await messagesOf(tx, call) : [] });
  return { progress: { ...progress, total }, schema, calls: read, isLast: batch.length < atOnce };
}

/** The outputs of what was read. A client's schema may take its time: no transaction waits for it, and others get a turn. */
export async function fillBatch({ schema, calls: read }: Reading): Promise<Change[]> {
  const outputs: Change[] = [];
  for (const { call, messages } of read) {
    outputs.push(outputOf(schema, call, messages));
    await setImmediate();
  }
  return outputs;
}

/**
 * Keeps the outputs, and remembers how far the re-run came in the same commit. The run is locked: should two workers be at
 * it, what the second one read is worth nothing, and it reads on where the first stopped.
 */
export async function saveBatch(tx: Tx, runId: string, { progress, schema, calls: read }: Reading, outputs: Change[]) {
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
    // What was told of the call since it was read counts.
    const isAsRead = isDeepStrictEqual(sourcesOf(row), sourcesOf(read[index]!.call));
    await change(tx, row, isAsRead ? outputs[index]! : await outputAgain(tx, row, schema));
  }
  const cursor = ids.at(-1) ?? progress.cursor;
  await saveRunInput(tx, runId, { ...progress, cursor, done: progress.done + ids.length });
}

/** What of a call's row its output is made of. */
function sourcesOf({ summary, shortSummary, outcome, endReason, durationSeconds, finalState, variables }: CallRow) {
  return { summary, shortSummary, outcome, endReason, durationSeconds, finalState, variables };
}

async function countCalls(tx: Tx, agentId: string, progress: Progress): Promise<number> {
  const [row] = await tx.select({ count: sql<string>`count(*)` }).from(calls).where(inScope(agentId, progress));
  return Number(row?.count ?? 0);
}

/** Calls whose conversation we have. An output that outlived its transcript cannot be made again, and stays as it is. */
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
