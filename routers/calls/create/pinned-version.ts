import { and, inArray, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { tools } from "../../../db/schema/tools.ts";
import type { AgentConfig } from "../../agents/schema.ts";
import { holdMicros, type Price } from "../../billing/price.ts";
import { isTransfer } from "../../tools/definition.ts";

type Limits = { medium: string; joinTimeoutSeconds: number; maxDurationSeconds: number };

/** The highest possible cost of a call. A transfer may keep a second leg open. */
export async function longestCost(tx: Tx, price: Price, { medium, ...longest }: Limits, config: AgentConfig) {
  const { joinTimeoutSeconds, maxDurationSeconds } = longest;
  const telephone = medium !== "web";
  const transfers = telephone && (await mayTransfer(tx, config));
  return holdMicros(price, { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers });
}

/** By its transfer targets, or by a tool that wraps a transfer tool of the provider. */
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
