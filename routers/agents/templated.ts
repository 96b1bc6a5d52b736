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
 * Which fields of an agent are filled per call. Listing, checking and filling in read this one table, and a field of the
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
    // biome-ignore lint/suspicious/noThenProperty: the word on the wire; nobody awaits a message
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

/** A tool as an agent uses it: the row, or null where there is none. */
export type ToolOfAgent = { name: string; description: string; config: unknown; status: string } | null;
/** `tool`: whose text it is, where it is not the agent's own. */
export type AgentUse = Use & { tool?: string };

/** Every text that a call of this agent fills in: its own, and those of the tools that it uses. */
export function usesOf(config: AgentConfig, tools: readonly ToolOfAgent[]): AgentUse[] {
  return [
    ...usesIn(templatedConfig, config),
    ...config.tools.flatMap((used, index) => usesOfUsed(used, index, tools[index])),
  ];
}

/** What the agent says instead of the tool is the agent's own, and takes the place of the tool's text. */
function usesOfUsed({ description, parameterOverrides }: UsedTool, index: number, tool?: ToolOfAgent): AgentUse[] {
  if (!tool || tool.status === "deleted") return [];
  const described = describedTool(tool);
  const { definition } = described;
  const at = `tools.${index}.toolId`;
  const own = usesOfTool(described)
    .filter(({ path }) => !(path === "description" && description !== null))
    .filter(({ path }) => !isOverridden(path, parameterOverrides))
    .map((use) => ({ ...use, path: at, tool: tool.name }));
  if (definition.type !== "builtin") return own;
  const judged = usesIn(builtinOverrides(definition.name), parameterOverrides, `tools.${index}.parameterOverrides`);
  return [...own, ...judged.filter(({ judge }) => judge !== "text")];
}

const isOverridden = (path: string, overridden: Record<string, unknown>) => {
  const [name] = /(?<=^definition\.parameterOverrides\.)[^.]+/.exec(path) ?? [];
  return name !== undefined && Object.hasOwn(overridden, name);
};

/** The config with everything filled in, for a call that is placed without the agent. */
export const filledConfig = (config: AgentConfig, values: Readonly<Values>): AgentConfig =>
  filledIn(templatedConfig, config, values);
