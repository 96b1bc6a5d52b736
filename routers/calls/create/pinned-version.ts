import { and, inArray, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { tools } from "../../../db/schema/tools.ts";
import type { AgentConfig } from "../../agents/schema.ts";
import { holdMicros, type Price } from "../../billing/price.ts";
import { isTransfer } from "../../tools/definition.ts";

type Longest = { medium: string; joinTimeoutSeconds: number; maxDurationSeconds: number };

/** What this call can cost at most. A transfer may keep a second leg of the line open. */
export async function longestCost(tx: Tx, price: Price, { medium, ...longest }: Longest, config: AgentConfig) {
  const { joinTimeoutSeconds, maxDurationSeconds } = longest;
  const telephone = medium !== "web";
  const transfers = telephone && (await mayTransfer(tx, config));
  return holdMicros(price, { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers });
}

/** By a field of its own, or by a tool that stands for one of the provider's. */
async function mayTransfer(tx: Tx, { transferTargets, tools: used }: AgentConfig): Promise<boolean> {
  if (transferTargets.length > 0) return true;
  if (used.length === 0) return false;
  const ids = used.map(({ toolId }) => toolId);
  const builtin = sql`${tools.config}->'definition'->>'type' = 'builtin'`;
  const rows = await tx
    .select({ name: sql<string>`${tools.config}->'definition'->>'name'` })
    .from(tools)
    .where(and(inArray(tools.id, ids), builtin));
  return rows.some(({ name }) => isTransfer(name));
}
