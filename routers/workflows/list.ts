import { and, asc, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type Given, pages, type Wire } from "../../db/prepared.ts";
import { workflowRuns, workflowSteps } from "../../db/schema/workflows.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { createdValues, createdWithin } from "../core/list-filters.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import type { ListWorkflows, Workflow } from "./schema.ts";
import type { RunRow, StepRow } from "./service.ts";

/** Runs with their steps, newest first. In a system transaction: the runs of all clients. */
export async function listWorkflows(tx: Tx, { limit, cursor, ...filters }: ListWorkflows, key: ListKey) {
  const { status, name, clientId, subjectId } = filters;
  const given = { status, name, clientId, subjectId, ...createdValues(filters) };
  const runs = await runPages(tx, { ...given, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, await withSteps(tx, runs), limit, ({ id }) => id);
}

const runPages = pages((db, given: Given<keyof Omit<ListWorkflows, "cursor" | "limit">>) =>
  db
    .select()
    .from(workflowRuns)
    .where(
      and(
        given.before && lt(workflowRuns.id, given.before),
        given.status && eq(workflowRuns.status, given.status),
        given.name && eq(workflowRuns.name, given.name),
        given.clientId && eq(workflowRuns.clientId, given.clientId),
        given.subjectId && eq(workflowRuns.subjectId, given.subjectId),
        createdWithin(workflowRuns.createdAt, given),
      ),
    )
    .orderBy(desc(workflowRuns.id))
    .limit(sql.placeholder("limit")),
);

export async function getWorkflow(tx: Tx, id: string): Promise<Workflow> {
  const runs = await tx.select().from(workflowRuns).where(eq(workflowRuns.id, id));
  const [workflow] = await withSteps(tx, runs);
  if (!workflow) throw new ApiError("workflow_not_found", `There is no workflow run ${id}.`);
  return workflow;
}

async function withSteps(tx: Tx, runs: Wire<RunRow>[]): Promise<Workflow[]> {
  if (runs.length === 0) return [];
  const ids = runs.map(({ id }) => id);
  const steps = await tx
    .select()
    .from(workflowSteps)
    .where(inArray(workflowSteps.runId, ids))
    .orderBy(asc(workflowSteps.position));
  return runs.map((run) =>
    toWorkflow(
      run,
      steps.filter(({ runId }) => runId === run.id),
    ),
  );
}

function toWorkflow(
  { id, clientId, name, subjectId, status, createdAt, finishedAt }: Wire<RunRow>,
  steps: StepRow[],
): Workflow {
  return {
    id,
    clientId,
    name,
    subjectId,
    status,
    steps: steps.map((step) => ({
      name: step.name,
      status: step.status,
      attempts: step.attempts,
      error: step.error,
      nextAt: toIsoOrNull(step.nextAt),
      startedAt: toIsoOrNull(step.startedAt),
      finishedAt: toIsoOrNull(step.finishedAt),
    })),
    createdAt: toIso(createdAt),
    finishedAt: toIsoOrNull(finishedAt),
  };
}
