import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { agentUses } from "../../db/schema/agents.ts";

/**
 * Has every agent that uses this thing sent to the provider once more, in the transaction that changes it: for what
 * travels along with an agent (a tool's secret, what is fixed of it), and for what is deleted though agents use it.
 */
export async function resyncAgentsUsing(tx: Tx, kind: (typeof agentUses.$inferSelect)["kind"], targetId: string) {
  const using = await tx
    .select({ agentId: agentUses.agentId })
    .from(agentUses)
    .where(and(eq(agentUses.kind, kind), eq(agentUses.targetId, targetId)));
  for (const { agentId } of using) {
    await enqueue(tx, "agents.compare", { agentId, resend: true }, { key: `${agentId}:resend` });
  }
}
