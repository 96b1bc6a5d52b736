import type { Deadline } from "./provider-error.ts";
import type { ToolDefinition } from "./ultravox-tools.ts";

/** The definition of an agent for the provider. Durations are in seconds. */
export type AgentTemplate = {
  systemPrompt: string;
  model: string | null;
  /** A voice at the provider, by its name or by the provider's id. */
  voice: string | null;
  languageHint: string | null;
  temperature: number | null;
  firstSpeaker: "agent" | "user";
  greeting: string | null;
  recordingEnabled: boolean;
  maxDurationSeconds: number;
  joinTimeoutSeconds: number;
  inactivityMessages: { afterSeconds: number; message: string; then: "nothing" | "hang_up_soft" | "hang_up" }[];
  timeExceededMessage: string | null;
  /** The `{{variables}}` that a call must or can provide. Default: all variables in the texts. */
  variables?: { name: string; required: boolean }[];
  tools: SelectedTool[];
};

/**
 * One tool of an agent. `builtin`: one of the provider's own. `tool`: one that was created at the provider, by the provider's
 * id. `temporary`: a whole tool for one call.
 */
export type SelectedTool = (
  | { kind: "tool"; providerToolId: string }
  | { kind: "temporary"; definition: ToolDefinition }
  | {
      kind: "builtin";
      name: "queryCorpus" | "hangUp" | "leaveVoicemail" | "playDtmfSounds" | "coldTransfer" | "warmTransfer";
    }
) & {
  nameOverride?: string;
  descriptionOverride?: string;
  parameterOverrides?: Record<string, unknown>;
  /** Secrets, by the names of the tool's security requirements. */
  authTokens?: Record<string, string>;
};

export type ProviderAgent = {
  providerAgentId: string;
  revisionId: string | null;
  name: string;
  /** As the provider returns it, to compare with ours; undefined if it returns none. */
  callTemplate?: Record<string, unknown>;
};

export interface UltravoxAgents {
  createAgent(
    accountId: string,
    agent: { id: string; template: AgentTemplate },
    deadline: Deadline,
  ): Promise<ProviderAgent>;
  /** Sends the whole template, so it is safe to repeat. */
  updateAgent(
    accountId: string,
    providerAgentId: string,
    template: AgentTemplate,
    deadline: Deadline,
  ): Promise<ProviderAgent>;
  /** The names (the provider's) of the fields that differ between its copy and our template. Secrets cannot be compared. */
  differences(copy: ProviderAgent, template: AgentTemplate): string[];
  /** null if the provider has no such agent. */
  getAgent(accountId: string, providerAgentId: string, deadline: Deadline): Promise<ProviderAgent | null>;
  findAgents(accountId: string, agentId: string, deadline: Deadline): Promise<ProviderAgent[]>;
  deleteAgent(accountId: string, providerAgentId: string, deadline: Deadline): Promise<void>;
}
