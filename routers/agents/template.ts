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

/** A template on its way to an agent of the provider, and the revision that was live there before. */
export type Sent = { providerAgentId: string; template: SealedTemplate; liveRevisionId: string | null };

/**
 * Did the provider take this template? Each change there is a new revision, so the revision that was live says no; a copy
 * that differs says no as well. null: the provider does not show enough to tell. Empty: it did not.
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
  const isTaken = copy.revisionId !== liveRevisionId && ultravox.differences(copy, template.template).length === 0;
  return isTaken ? [copy] : [];
}

/** What the provider needs of a version, as a transaction may give it out: its secrets are sealed still. */
export type SealedTemplate = {
  template: AgentTemplate;
  secrets: { tool: number; config: unknown; clientId: string; credentialId: string; sealed: Buffer }[];
};

/**
 * The template of a config with everything filled in, for a call that is placed without the agent: the provider fills in
 * nothing then. Throws the fault of whatever the config names that cannot be used.
 */
export async function fillTemplate(tx: Tx, config: AgentConfig, values: Values): Promise<SealedTemplate> {
  const found = await referencesOf(tx, config);
  checkReferences(config, found, null);
  return templateOf(filledConfig(config, values), found, values);
}

/** For what is live or under way already: it goes on without what was deleted since. */
export async function templateWithoutDeleted(tx: Tx, config: AgentConfig): Promise<SealedTemplate> {
  return templateOf(config, standing(await referencesOf(tx, config)));
}

/** What is left of it: what was deleted is not there. */
export function standing(found: References): References {
  const there = <Row extends { status: string }>(row: Row | null) => (row?.status === "deleted" ? null : row);
  const { voice, knowledgeBases, tools } = found;
  return { ...found, voice: there(voice), knowledgeBases: knowledgeBases.map(there), tools: tools.map(there) };
}

/** `filled`: the config is filled in with these values already, and the tools are to be. */
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
    tools.push(filled ? selectedFilled(tool, use, filled) : selected(tool, use));
  }
  const { greeting } = config;
  const isOpen: IsOpen = (text) => filled === null && variablesIn(text).length > 0;
  const template: AgentTemplate = {
    systemPrompt: promptOf(config, isOpen),
    model: config.model,
    // A version from before such a name was refused goes out without it.
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
    variables: declaredOf(config, found.tools).map(({ name, required, default: instead }) => ({
      name,
      required: required && instead === null,
    })),
    tools: [...tools, ...ownToolsOf(config, found, isOpen)],
  };
  return { template, secrets };
}

type ToolRow = NonNullable<References["tools"][number]>;
/** Does the text hold variables that are still to be filled in? */
type IsOpen = (text: string) => boolean;

function selected(tool: ToolRow, { description, parameterOverrides }: AgentConfig["tools"][number]): SelectedTool {
  const { definition } = Config.parse(tool.config);
  const own = definition.type === "builtin" ? definition : null;
  const overrides = { ...own?.parameterOverrides, ...parameterOverrides };
  const base = own
    ? { kind: "builtin" as const, name: own.name, ...(own.name === tool.name ? {} : { nameOverride: tool.name }) }
    : { kind: "tool" as const, providerToolId: tool.providerToolId ?? "" };
  const says = description ?? (own ? tool.description : null);
  return {
    ...base,
    ...(says ? { descriptionOverride: says } : {}),
    ...(Object.keys(overrides).length > 0 ? { parameterOverrides: overrides } : {}),
  };
}

/**
 * A tool that was made at the provider has its variables filled in there, and only for a call of the agent. For any other
 * call it goes along whole, filled in here.
 */
function selectedFilled(tool: ToolRow, use: AgentConfig["tools"][number], values: Values): SelectedTool {
  const described = describedTool(tool);
  const filled = filledTool(described, values);
  const own = selected({ ...tool, description: filled.description, config: { definition: filled.definition } }, use);
  const definition = toolDefinition({ name: tool.name, ...filled });
  if (own.kind !== "tool" || definition === null || isDeepStrictEqual(filled, described)) return own;
  const { providerToolId: _, ...rest } = own;
  return { ...rest, kind: "temporary", definition };
}

/** The provider's own tools that stand for fields of ours (docs.ultravox.ai/tools/built-in-tools). */
function ownToolsOf(config: AgentConfig, { knowledgeBases }: References, isOpen: IsOpen): SelectedTool[] {
  const { voicemail, transferTargets, hangUpEnabled } = config;
  const tools: SelectedTool[] = knowledgeBases.flatMap((base, index): SelectedTool[] => {
    if (!base?.providerCorpusId) return [];
    const corpus = { corpus_id: base.providerCorpusId };
    if (knowledgeBases.length === 1) return [{ kind: "builtin", name: "queryCorpus", parameterOverrides: corpus }];
    const about = base.description ? `${base.name}: ${base.description}` : base.name;
    const nameOverride = ownTools.knowledgeBase(index, knowledgeBases.length);
    const descriptionOverride = plain(`Looks up what is known in the knowledge base "${about}".`);
    return [{ kind: "builtin", name: "queryCorpus", nameOverride, descriptionOverride, parameterOverrides: corpus }];
  });
  if (hangUpEnabled) tools.push({ kind: "builtin", name: "hangUp" });
  if (voicemail.behaviour === "hang_up") {
    const nameOverride = hangUpEnabled ? { nameOverride: ownTools.hangUpOnVoicemail } : {};
    const descriptionOverride = "Ends the call. Use it for nothing but a voicemail or an answering machine.";
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

/** The provider takes a tool's description for a template: what people wrote elsewhere must not become variables. */
const plain = (text: string) => text.replaceAll("{{", "{ {");

/**
 * The prompt, and below it what the provider has no field for. It fills in the prompt's variables, but not those of a
 * greeting or of a fixed parameter (openapi: ultravox.v1.CallTemplate.contextSchema): such texts are said to the model.
 */
function promptOf(config: AgentConfig, isOpen: IsOpen): string {
  const { systemPrompt, greeting, firstSpeaker, voicemail, languages } = config;
  const notes: string[] = [];
  if (languages.length > 0) {
    const known = languages.map(languageName).join(", ");
    const others = languages.length > 1 ? "Speak the one that the person speaks. " : "";
    notes.push(`Languages that you speak: ${known}. ${others}If the person speaks another, say so in one of yours.`);
  }
  if (greeting !== null && isOpen(greeting)) {
    const when = firstSpeaker === "agent" ? "Open the call" : "If the person says nothing at first, open the call";
    notes.push(`${when} with exactly these words: "${greeting}"`);
  }
  const machine = "If a voicemail or an answering machine has picked up";
  if (voicemail.behaviour === "hang_up") {
    notes.push(`${machine}, say nothing and use the tool ${voicemailTool(config)} at once.`);
  }
  if (voicemail.behaviour === "leave_message") {
    const { message } = voicemail;
    const words = message !== null && isOpen(message) ? ` with this message, word for word: "${message}"` : ".";
    notes.push(`${machine}, use the tool leaveVoicemail${words}`);
  }
  return notes.length === 0 ? systemPrompt : `${systemPrompt}\n\n${notes.join("\n")}`;
}

/** Opens what is sealed in a template. May speak to a key service: never while a transaction is open. */
export async function openTemplate(vault: Providers["vault"], sealed: SealedTemplate): Promise<AgentTemplate> {
  const { template, secrets } = sealed;
  const tools = [...template.tools];
  for (const { tool, config, clientId, credentialId, sealed: bytes } of secrets) {
    const ring = await vault.keys(clientId, "provider_credential");
    const fields = JSON.parse(ring.open(bytes, credentialId).toString("utf8")) as Record<string, string>;
    const found = tools[tool];
    const authTokens = authTokensOf(config, () => fields.value ?? "");
    if (found && authTokens) tools[tool] = { ...found, authTokens };
  }
  return { ...template, tools };
}
