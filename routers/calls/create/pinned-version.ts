import { and, inArray, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { tools } from "../../../db/schema/tools.ts";
import type { AgentConfig } from "../../agents/schema.ts";
import { resolveTemplate, type SealedTemplate } from "../../agents/template.ts";
import { render, type Values } from "../../agents/variables.ts";
import { holdMicros, type Price } from "../../billing/price.ts";
import type { AgentTemplate, SelectedTool } from "../../ports/ultravox.ts";
import { isTransfer } from "../../tools/definition.ts";

/**
 * The template of a call that does not use its agent's live version. Such a call is placed without the agent, so the
 * provider fills in nothing: what it would is filled in here. Throws the fault of whatever the version names that is
 * gone by now.
 */
export async function pinnedTemplate(tx: Tx, config: AgentConfig, values: Values): Promise<SealedTemplate> {
  const { template, secrets } = await resolveTemplate(tx, config);
  return { template: rendered(template, values), secrets };
}

/** The fields that the provider takes for templates (openapi: ultravox.v1.CallTemplate), with their variables. */
function rendered(template: AgentTemplate, values: Values): AgentTemplate {
  const fill = (text: string) => render(text, values);
  const orNull = (text: string | null) => (text === null ? null : fill(text));
  return {
    ...template,
    systemPrompt: fill(template.systemPrompt),
    languageHint: orNull(template.languageHint),
    timeExceededMessage: orNull(template.timeExceededMessage),
    inactivityMessages: template.inactivityMessages.map((each) => ({ ...each, message: fill(each.message) })),
    tools: template.tools.map((tool) => renderedTool(tool, fill)),
  };
}

function renderedTool(tool: SelectedTool, fill: (text: string) => string): SelectedTool {
  const { descriptionOverride, parameterOverrides } = tool;
  const inside = (value: unknown): unknown => {
    if (typeof value === "string") return fill(value);
    if (Array.isArray(value)) return value.map(inside);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, inside(inner)]));
  };
  return {
    ...tool,
    ...(descriptionOverride === undefined ? {} : { descriptionOverride: fill(descriptionOverride) }),
    ...(parameterOverrides === undefined
      ? {}
      : { parameterOverrides: inside(parameterOverrides) as Record<string, unknown> }),
  };
}

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
