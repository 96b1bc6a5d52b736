import type { AgentTemplate } from "../../../routers/ports/ultravox.ts";
import { duration } from "./values.ts";

/** How long the person may stay silent before the agent speaks. */
const fallbackDelay = duration(3);

/** Ultravox's default model (openapi: ultravox.v1.CallTemplate.model). */
const defaultModel = "ultravox-v0.7";

/**
 * The whole template. Updates are PATCH (openapi: agents_partial_update). We assume that it keeps omitted fields, so unset
 * fields are sent with their defaults. The defaults of voice and language have no known name: they are omitted for a new
 * agent, and sent empty, which is unset in protobuf, for an existing one.
 */
export function templateBody(template: AgentTemplate, purpose: "create" | "update") {
  const empty = purpose === "update" ? "" : undefined;
  return {
    systemPrompt: template.systemPrompt,
    model: template.model ?? defaultModel,
    temperature: template.temperature ?? 0,
    voice: template.voice ?? empty,
    languageHint: template.languageHint ?? empty,
    recordingEnabled: template.recordingEnabled,
    maxDuration: duration(template.maxDurationSeconds),
    joinTimeout: duration(template.joinTimeoutSeconds),
    firstSpeakerSettings: firstSpeakerSettings(template),
    timeExceededMessage: template.timeExceededMessage ?? empty,
    inactivityMessages: unlessEmpty(template.inactivityMessages.map(timedMessage), purpose),
    selectedTools: unlessEmpty(template.tools.map(selectedTool), purpose),
    contextSchema: template.variables && contextSchema(template.variables),
  };
}

/** A new agent has an empty list anyway; the list of an existing one is replaced. */
const unlessEmpty = <T>(list: T[], purpose: "create" | "update") =>
  list.length > 0 || purpose === "update" ? list : undefined;

const endBehaviors = {
  nothing: "END_BEHAVIOR_UNSPECIFIED",
  hang_up_soft: "END_BEHAVIOR_HANG_UP_SOFT",
  hang_up: "END_BEHAVIOR_HANG_UP_STRICT",
} as const;

/** Durations count from the previous message (openapi: ultravox.v1.CallTemplate.inactivityMessages). */
const timedMessage = ({ afterSeconds, message, then }: AgentTemplate["inactivityMessages"][number]) => ({
  duration: duration(afterSeconds),
  message,
  endBehavior: endBehaviors[then],
});

/** A tool of the account is selected by id: another client's tool may have the same name. */
export function selectedTool(tool: AgentTemplate["tools"][number]) {
  const { nameOverride, descriptionOverride, parameterOverrides, authTokens } = tool;
  const base = nameOfTool(tool);
  return { ...base, nameOverride, descriptionOverride, parameterOverrides, authTokens };
}

function nameOfTool(tool: AgentTemplate["tools"][number]) {
  if (tool.kind === "temporary") return { temporaryTool: tool.definition };
  return tool.kind === "tool" ? { toolId: tool.providerToolId } : { toolName: tool.name };
}

/**
 * Without a schema, the provider derives one from the variables in the texts, and requires all of them
 * (openapi: ultravox.v1.CallTemplate.contextSchema).
 */
function contextSchema(variables: NonNullable<AgentTemplate["variables"]>) {
  return {
    type: "object",
    properties: Object.fromEntries(variables.map(({ name }) => [name, {}])),
    required: variables.filter(({ required }) => required).map(({ name }) => name),
  };
}

/**
 * The fields in which the provider's copy differs from our template. An empty field there is unset. Tokens are ignored,
 * because it is not documented whether the provider returns them.
 */
export function templateDifferences(copy: Record<string, unknown>, template: AgentTemplate): string[] {
  const tools = template.tools.map(({ authTokens: _, ...tool }) => tool);
  const { contextSchema: __, ...ours } = templateBody({ ...template, tools }, "update");
  return Object.entries(ours)
    .filter(([name, value]) => comparable(copy[name]) !== comparable(value))
    .map(([name]) => name);
}

/** Equal text for equal meaning: keys sorted, unset fields omitted. */
function comparable(value: unknown): string {
  return JSON.stringify(tidy(value)) ?? "";
}

function tidy(value: unknown): unknown {
  if (Array.isArray(value)) return value.length > 0 ? value.map(tidy) : undefined;
  if (typeof value === "number") return Math.fround(value); // the provider stores 32-bit floats
  if (typeof value !== "object" || value === null) return value === "" || value === null ? undefined : value;
  const fields = Object.entries(value)
    .filter(([name]) => name !== "authTokens")
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([name, inner]) => [name, tidy(inner)]));
}

export function firstSpeakerSettings({ firstSpeaker, greeting }: Pick<AgentTemplate, "firstSpeaker" | "greeting">) {
  const text = greeting === null ? {} : { text: greeting };
  return firstSpeaker === "agent" ? { agent: text } : { user: { fallback: { delay: fallbackDelay, ...text } } };
}
