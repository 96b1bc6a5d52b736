import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { agentUses } from "../../db/schema/agents.ts";

/**
 * Queues a resync of every agent that uses this resource, in the transaction that changes it. For data that is sent with the
 * agent (a tool's secret or fixed values), and for a resource that is deleted although agents use it.
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
