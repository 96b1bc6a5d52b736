import type { AgentConfig } from "../../agents/schema.ts";
import { holdMicros, type Price } from "../../billing/price.ts";
import { Config, isTransfer } from "../../tools/definition.ts";

type Limits = { medium: string; joinTimeoutSeconds: number; maxDurationSeconds: number };
type UsedTools = readonly ({ config: unknown } | null)[];

/** The highest possible cost of a call. A transfer may keep a second leg open. `tools`: those that the config uses. */
export function longestCost(price: Price, { medium, ...longest }: Limits, config: AgentConfig, tools: UsedTools) {
  const { joinTimeoutSeconds, maxDurationSeconds } = longest;
  const telephone = medium !== "web";
  const transfers = telephone && mayTransfer(config, tools);
  return holdMicros(price, { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers });
}

/** By its transfer targets, or by a tool that wraps a transfer tool of the provider. */
const mayTransfer = ({ transferTargets }: AgentConfig, tools: UsedTools) =>
  transferTargets.length > 0 || tools.some((tool) => tool !== null && transfersByItself(tool));

function transfersByItself({ config }: { config: unknown }): boolean {
  const { definition } = Config.parse(config);
  return definition.type === "builtin" && isTransfer(definition.name);
}
