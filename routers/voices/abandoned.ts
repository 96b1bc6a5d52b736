import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";

/** Does a workflow still work on it? */
export async function runningWorkflow(tx: Tx, voiceId: string): Promise<boolean> {
  const runs = await tx
    .select({ id: workflowRuns.id })
    .from(workflowRuns)
    .where(and(eq(workflowRuns.subjectId, voiceId), eq(workflowRuns.status, "running")))
    .limit(1);
  return runs.length > 0;
}
