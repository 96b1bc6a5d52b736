import {
  anyJson,
  type Field,
  type Fields,
  filledIn,
  listOf,
  objectOf,
  orNull,
  plain,
  text,
  type Use,
  usesIn,
  type Values,
} from "../core/template-text.ts";
import { builtinOverrides, describedTool, usesOfTool } from "../tools/templated.ts";
import type { AgentConfig } from "./config.ts";

/**
 * The fields of an agent that are filled in per call. To list, check and fill in read this one table. A field of the
 * config that is missing here does not compile.
 */

type UsedTool = AgentConfig["tools"][number];
type Item<K extends "inactivityMessages" | "transferTargets"> = AgentConfig[K][number];

const overrides: Field<Record<string, unknown>> = (value, path, visit) =>
  Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, anyJson(inner, `${path}.${name}`, visit)]));

const templatedFields = {
  systemPrompt: text(),
  greeting: orNull(text()),
  languageHint: orNull(text("language")),
  timeExceededMessage: orNull(text()),
  voicemail: objectOf<AgentConfig["voicemail"]>({ behaviour: plain, message: orNull(text()) }),
  inactivityMessages: listOf(
    // biome-ignore lint/suspicious/noThenProperty: the field's name in the API; no code awaits a message
    objectOf<Item<"inactivityMessages">>({ afterSeconds: plain, message: text(), then: plain }),
  ),
  transferTargets: listOf(
    objectOf<Item<"transferTargets">>({ name: plain, description: text(), to: plain, warm: plain }),
  ),
  tools: listOf(objectOf<UsedTool>({ toolId: plain, description: orNull(text()), parameterOverrides: overrides })),
  model: plain,
  voice: plain,
  voiceId: plain,
  languages: plain,
  temperature: plain,
  firstSpeaker: plain,
  recordingEnabled: plain,
  maxDurationSeconds: plain,
  joinTimeoutSeconds: plain,
  knowledgeBaseIds: plain,
  variables: plain,
  hangUpEnabled: plain,
  retention: plain,
  outputSchema: plain,
} satisfies Record<keyof AgentConfig, unknown> & Fields<AgentConfig>;

const templatedConfig = objectOf<AgentConfig>(templatedFields);

/** A tool of an agent: its row, or null if there is none. */
export type ToolOfAgent = { name: string; description: string; config: unknown; status: string } | null;
/** `tool`: the name of the tool that has the text; undefined if the text is the agent's. */
export type AgentUse = Use & { tool?: string };

/** Every text that a call of this agent fills in: the agent's own, and those of its tools. */
export function usesOf(config: AgentConfig, tools: readonly ToolOfAgent[]): AgentUse[] {
  return [
    ...usesIn(templatedConfig, config),
    ...config.tools.flatMap((used, index) => usesOfTemplatedTool(used, index, tools[index])),
  ];
}

/** A description or override of the agent replaces the tool's text, and counts as the agent's own. */
function usesOfTemplatedTool(
  { description, parameterOverrides }: UsedTool,
  index: number,
  tool?: ToolOfAgent,
): AgentUse[] {
  if (!tool || tool.status === "deleted") return [];
  const described = describedTool(tool);
  const { definition } = described;
  const at = `tools.${index}.toolId`;
  const own = usesOfTool(described)
    .filter(({ path }) => !(path === "description" && description !== null))
    .filter(({ path }) => !isOverridden(path, parameterOverrides))
    .map((use) => ({ ...use, path: at, tool: tool.name }));
  if (definition.type !== "builtin") return own;
  const overrideUses = usesIn(
    builtinOverrides(definition.name),
    parameterOverrides,
    `tools.${index}.parameterOverrides`,
  );
  return [...own, ...overrideUses.filter(({ judge }) => judge !== "text")];
}

const isOverridden = (path: string, overridden: Record<string, unknown>) => {
  const [name] = /(?<=^definition\.parameterOverrides\.)[^.]+/.exec(path) ?? [];
  return name !== undefined && Object.hasOwn(overridden, name);
};

/** The config with all variables filled in, for a call that is placed without the agent. */
export const filledConfig = (config: AgentConfig, values: Readonly<Values>): AgentConfig =>
  filledIn(templatedConfig, config, values);
