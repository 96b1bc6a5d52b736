import { isDeepStrictEqual } from "node:util";
import type { Tx } from "../../db/client.ts";
import { languageName } from "../core/languages.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { AgentTemplate, ProviderAgent, SelectedTool } from "../ports/ultravox.ts";
import { Config } from "../tools/definition.ts";
import { describedTool, filledTool } from "../tools/templated.ts";
import { authTokensOf, toolDefinition } from "../tools/upstream.ts";
import { type AgentConfig, namesOurVoice } from "./config.ts";
import { checkReferences, credentialOf, ownTools, type References, referencesOf, voicemailTool } from "./references.ts";
import { filledConfig } from "./templated.ts";
import { declaredOf, type Values, variablesIn } from "./variables.ts";

/** A template to send to the provider's agent, and the provider's revision that was live before. */
export type Sent = { providerAgentId: string; template: SealedTemplate; liveRevisionId: string | null };

/**
 * Checks whether the provider stored this template. Each change there makes a new revision, so the old revision means no;
 * so does a copy that differs. Returns an empty array if it was not stored, null if the response does not show it.
 */
export async function lookForSent(
  { ultravox }: Providers,
  accountId: string,
  { providerAgentId, template, liveRevisionId }: Sent,
  deadline: Deadline,
): Promise<ProviderAgent[] | null> {
  const copy = await ultravox.getAgent(accountId, providerAgentId, deadline);
  if (!copy) return [];
  if (!copy.callTemplate || copy.revisionId === null || liveRevisionId === null) return null;
  const isStored = copy.revisionId !== liveRevisionId && ultravox.differences(copy, template.template).length === 0;
  return isStored ? [copy] : [];
}

/** What the provider needs for a version, as it leaves the transaction: the secrets are still sealed. */
export type SealedTemplate = {
  template: AgentTemplate;
  secrets: { tool: number; config: unknown; clientId: string; credentialId: string; sealed: Buffer }[];
};

/**
 * The template of a config with all variables filled in, for a call that is placed without the agent: the provider then
 * fills in nothing. Throws an ApiError if the config refers to something that cannot be used.
 */
export async function fillTemplate(tx: Tx, config: AgentConfig, values: Values): Promise<SealedTemplate> {
  const found = await referencesOf(tx, config);
  checkReferences(config, found, null);
  return templateOf(filledConfig(config, values), found, values);
}

/** The template of a version that is live or pending. It leaves out what has been deleted since. */
export async function templateWithoutDeleted(tx: Tx, config: AgentConfig): Promise<SealedTemplate> {
  return templateOf(config, withoutDeleted(await referencesOf(tx, config)));
}

export function withoutDeleted(found: References): References {
  const keep = <Row extends { status: string }>(row: Row | null) => (row?.status === "deleted" ? null : row);
  const { voice, knowledgeBases, tools } = found;
  return { ...found, voice: keep(voice), knowledgeBases: knowledgeBases.map(keep), tools: tools.map(keep) };
}

/** `filled`: the values that the config is already filled in with; they are then filled into the tools too. */
export function templateOf(config: AgentConfig, found: References, filled: Values | null = null): SealedTemplate {
  const secrets: SealedTemplate["secrets"] = [];
  const tools: SelectedTool[] = [];
  for (const [index, use] of config.tools.entries()) {
    const tool = found.tools[index];
    if (!tool) continue;
    const credential = found.credentials.get(credentialOf(tool) ?? "");
    if (credential) {
      const { clientId, id: credentialId, sealed } = credential;
      secrets.push({ tool: tools.length, config: tool.config, clientId, credentialId, sealed });
    }
    tools.push(filled ? selectFilledTool(tool, use, filled) : selectTool(tool, use));
  }
  const { greeting } = config;
  const isOpen: IsOpen = (text) => filled === null && variablesIn(text).length > 0;
  const template: AgentTemplate = {
    systemPrompt: promptOf(config, isOpen),
    model: config.model,
    // An old version may hold such a name, from before it was refused. It is sent without the name.
    voice: found.voice?.providerVoiceId ?? (namesOurVoice(config.voice) ? null : config.voice),
    languageHint: config.languageHint ?? config.languages[0] ?? null,
    temperature: config.temperature,
    firstSpeaker: config.firstSpeaker,
    greeting: greeting !== null && isOpen(greeting) ? null : greeting,
    recordingEnabled: config.recordingEnabled,
    maxDurationSeconds: config.maxDurationSeconds,
    joinTimeoutSeconds: config.joinTimeoutSeconds,
    inactivityMessages: config.inactivityMessages.map(({ afterSeconds, message, then }) => ({
      afterSeconds,
      message,
      then,
    })),
    timeExceededMessage: config.timeExceededMessage,
    variables: declaredOf(config, found.tools).map(({ name, required, default: fallback }) => ({
      name,
      required: required && fallback === null,
    })),
    tools: [...tools, ...ownToolsOf(config, found, isOpen)],
  };
  return { template, secrets };
}

type ToolRow = NonNullable<References["tools"][number]>;
/** True if the text has variables that are not filled in yet. */
type IsOpen = (text: string) => boolean;

function selectTool(tool: ToolRow, { description, parameterOverrides }: AgentConfig["tools"][number]): SelectedTool {
  const { definition } = Config.parse(tool.config);
  const own = definition.type === "builtin" ? definition : null;
  const overrides = { ...own?.parameterOverrides, ...parameterOverrides };
  const base = own
    ? { kind: "builtin" as const, name: own.name, ...(own.name === tool.name ? {} : { nameOverride: tool.name }) }
    : { kind: "tool" as const, providerToolId: tool.providerToolId ?? "" };
  const descriptionOverride = description ?? (own ? tool.description : null);
  return {
    ...base,
    ...(descriptionOverride ? { descriptionOverride } : {}),
    ...(Object.keys(overrides).length > 0 ? { parameterOverrides: overrides } : {}),
  };
}

/**
 * The provider fills in the variables of its stored tools only for a call of the agent. For any other call we fill in
 * the tool here and send it as a temporary one.
 */
function selectFilledTool(tool: ToolRow, use: AgentConfig["tools"][number], values: Values): SelectedTool {
  const described = describedTool(tool);
  const filled = filledTool(described, values);
  const own = selectTool({ ...tool, description: filled.description, config: { definition: filled.definition } }, use);
  const definition = toolDefinition({ name: tool.name, ...filled });
  if (own.kind !== "tool" || definition === null || isDeepStrictEqual(filled, described)) return own;
  const { providerToolId: _, ...rest } = own;
  return { ...rest, kind: "temporary", definition };
}

/** The provider's built-in tools that implement fields of the config (docs.ultravox.ai/tools/built-in-tools). */
function ownToolsOf(config: AgentConfig, { knowledgeBases }: References, isOpen: IsOpen): SelectedTool[] {
  const { voicemail, transferTargets, hangUpEnabled } = config;
  const tools: SelectedTool[] = knowledgeBases.flatMap((base, index): SelectedTool[] => {
    if (!base?.providerCorpusId) return [];
    const corpus = { corpus_id: base.providerCorpusId };
    if (knowledgeBases.length === 1) return [{ kind: "builtin", name: "queryCorpus", parameterOverrides: corpus }];
    const label = base.description ? `${base.name}: ${base.description}` : base.name;
    const nameOverride = ownTools.knowledgeBase(index, knowledgeBases.length);
    const descriptionOverride = escapeBraces(`Looks up what is known in the knowledge base "${label}".`);
    return [{ kind: "builtin", name: "queryCorpus", nameOverride, descriptionOverride, parameterOverrides: corpus }];
  });
  if (hangUpEnabled) tools.push({ kind: "builtin", name: "hangUp" });
  if (voicemail.behaviour === "hang_up") {
    const nameOverride = hangUpEnabled ? { nameOverride: ownTools.hangUpOnVoicemail } : {};
    const descriptionOverride = "Ends the call. Use it only for a voicemail or an answering machine.";
    tools.push({ kind: "builtin", name: "hangUp", ...nameOverride, descriptionOverride });
  }
  if (voicemail.behaviour === "leave_message") {
    const { message } = voicemail;
    const isFixed = message !== null && !isOpen(message);
    tools.push({
      kind: "builtin",
      name: "leaveVoicemail",
      ...(isFixed ? { parameterOverrides: { message } } : {}),
    });
  }
  for (const { name, description, to, warm } of transferTargets) {
    tools.push({
      kind: "builtin",
      name: warm ? "warmTransfer" : "coldTransfer",
      nameOverride: ownTools.transfer(name),
      descriptionOverride: `Transfers the call to ${name}. ${description}`,
      parameterOverrides: { target: to },
    });
  }
  return tools;
}

/** The provider reads a tool's description as a template. Braces in a knowledge base's name must not become variables. */
const escapeBraces = (text: string) => text.replaceAll("{{", "{ {");

/**
 * The prompt, followed by what the provider has no field for. The provider fills in the variables of the prompt, but not
 * those of a greeting or a fixed parameter (openapi: ultravox.v1.CallTemplate.contextSchema). Those texts go here.
 */
function promptOf(config: AgentConfig, isOpen: IsOpen): string {
  const { systemPrompt, greeting, firstSpeaker, voicemail, languages } = config;
  const notes: string[] = [];
  if (languages.length > 0) {
    const known = languages.map(languageName).join(", ");
    const others = languages.length > 1 ? "Speak the one that the person speaks. " : "";
    notes.push(
      `Languages that you speak: ${known}. ${others}If the person speaks another, explain that in one of yours.`,
    );
  }
  if (greeting !== null && isOpen(greeting)) {
    const when = firstSpeaker === "agent" ? "Open the call" : "If the person is silent at first, open the call";
    notes.push(`${when} with exactly these words: "${greeting}"`);
  }
  const machine = "If a voicemail or an answering machine has picked up";
  if (voicemail.behaviour === "hang_up") {
    notes.push(`${machine}, stay silent and use the tool ${voicemailTool(config)} immediately.`);
  }
  if (voicemail.behaviour === "leave_message") {
    const { message } = voicemail;
    const wording = message !== null && isOpen(message) ? ` with this message, word for word: "${message}"` : ".";
    notes.push(`${machine}, use the tool leaveVoicemail${wording}`);
  }
  return notes.length === 0 ? systemPrompt : `${systemPrompt}\n\n${notes.join("\n")}`;
}

/** Opens the sealed secrets of a template. It may call a key service: never use it while a transaction is open. */
export async function openTemplate(vault: Providers["vault"], sealed: SealedTemplate): Promise<AgentTemplate> {
  const { template, secrets } = sealed;
  const tools = [...template.tools];
  for (const { tool, config, clientId, credentialId, sealed: bytes } of secrets) {
    const cipher = await vault.keys(clientId, "provider_credential");
    const fields = JSON.parse(cipher.open(bytes, credentialId).toString("utf8")) as Record<string, string>;
    const found = tools[tool];
    const authTokens = authTokensOf(config, () => fields.value ?? "");
    if (found && authTokens) tools[tool] = { ...found, authTokens };
  }
  return { ...template, tools };
}
