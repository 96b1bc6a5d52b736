import type { Deadline } from "./provider-error.ts";
import type { VendorUpstreamName } from "./voice-vendors.ts";

/** What an agent is made of, as the provider needs it. Durations in seconds. */
export type AgentTemplate = {
  systemPrompt: string;
  model: string | null;
  /** A voice of the provider, by its name or by the id that it has there. */
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
  /** What a call must, or may, bring for the `{{variables}}`; left out: all that the texts name. */
  variables?: { name: string; required: boolean }[];
  tools: SelectedTool[];
};

/**
 * One tool of an agent. `builtin` names one of the provider's own; `tool` one that was made there, by its id there;
 * `temporary` is a whole tool, for one call.
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
  /** By the names of the tool's security requirements. Secret. */
  authTokens?: Record<string, string>;
};

export type ProviderAgent = {
  providerAgentId: string;
  revisionId: string | null;
  name: string;
  /** As the provider says it, to be held against ours; left out where it does not show it. */
  callTemplate?: Record<string, unknown>;
};

/** How the call reaches a person. `web`: someone joins by a link. `sip`: the provider dials. Numbers are E.164. */
export type CallMedium =
  | { kind: "web" }
  | { kind: "sip"; to: string; from: string; username?: string; password?: string }
  | { kind: "twilio" | "telnyx" | "plivo"; to: string; from: string };

export type CallRequest = {
  /** Our id: travels as metadata.callId, and is how a call is found again. */
  callId: string;
  clientId: string;
  providerAgentId: string;
  /** Given where the call must not use the agent's live version: the call is placed without the agent, by this, filled in. */
  pinned?: AgentTemplate;
  medium: CallMedium;
  variables: Record<string, string | number | boolean>;
  joinTimeoutSeconds: number;
  maxDurationSeconds: number;
  recordingEnabled: boolean;
  /** Instead of the agent's own, for this call. */
  overrides?: { voice?: string; opening?: { firstSpeaker: "agent" | "user"; greeting: string | null } };
};

/** Why a call ended, as far as we know the provider's words. Another one is kept as received, and shown as `other`. */
export const endReasons = [
  "unjoined",
  "hangup",
  "agent_hangup",
  "timeout",
  "connection_error",
  "system_error",
] as const;

/** A call as the provider sees it, in our words. Seconds are whole seconds, instants are Dates. */
export type ProviderCall = {
  providerCallId: string;
  /** Our id, when the call carries one. */
  callId: string | null;
  createdAt: Date;
  joinedAt: Date | null;
  endedAt: Date | null;
  /** As received: `endReasons` has those that we know, and there may be others. */
  endReason: string | null;
  /** null until billing is final. */
  billedSeconds: number | null;
  billing: "pending" | "final" | "refunded";
  /** Why telephone time may still cost when `billedSeconds` is 0. */
  sipBilledSeconds: number | null;
  sipReason:
    | "normal"
    | "invalid_number"
    | "timeout"
    | "unavailable"
    | "busy"
    | "cancelled"
    | "rejected"
    | "unknown"
    | null;
  joinUrl: string | null;
  summary: string | null;
  shortSummary: string | null;
  /** The agent there that it belongs to; null for a call without one. */
  providerAgentId: string | null;
  recordingEnabled: boolean;
  /** `web` also for media that are no telephone. */
  medium: "web" | "sip" | "twilio" | "telnyx" | "plivo";
  /** Did it come in by telephone, rather than being placed by us? */
  isInbound: boolean;
  /** Of an inbound call, exactly as the line gave them; what can be made of them is decided elsewhere. */
  fromRaw: string | null;
  toRaw: string | null;
};

export type ProviderMessage = {
  /** `other`: a role that we do not know yet. */
  role: "user" | "agent" | "tool_call" | "tool_result" | "other";
  text: string;
  toolName: string | null;
  /** The status that the tools had built up by then; null where the provider gives none. */
  status?: Record<string, unknown> | null;
  startSeconds: number | null;
  endSeconds: number | null;
};

export const callEvents = ["call.started", "call.joined", "call.ended", "call.billed"] as const;

/** `other`: an event that we do not know yet, by the `name` that it came with. It says how its call stands, like the others. */
export type ProviderEvent =
  | { event: (typeof callEvents)[number]; call: ProviderCall }
  | { event: "other"; name: string; call: ProviderCall };

/**
 * The Ultravox Realtime API. `accountId` is ours (`pacc_…`): one provider account, with its own key and webhook secrets.
 * A create may not be repeated on an unknown outcome; `find…` tells what became of it: all of what there is, paged to the
 * end. The upstream name of all that we make is our id.
 */
export interface Ultravox
  extends UltravoxAgents,
    UltravoxCalls,
    UltravoxVoices,
    UltravoxTools,
    UltravoxKnowledge,
    UltravoxTelephony,
    UltravoxAccounts {}

export interface UltravoxAgents {
  createAgent(
    accountId: string,
    agent: { id: string; template: AgentTemplate },
    deadline: Deadline,
  ): Promise<ProviderAgent>;
  /** Sends the whole template, so it may be repeated. */
  updateAgent(
    accountId: string,
    providerAgentId: string,
    template: AgentTemplate,
    deadline: Deadline,
  ): Promise<ProviderAgent>;
  /** The provider's own names of what differs in its copy from what we would send; a secret never shows. */
  differences(copy: ProviderAgent, template: AgentTemplate): string[];
  /** null when the provider has no such agent. */
  getAgent(accountId: string, providerAgentId: string, deadline: Deadline): Promise<ProviderAgent | null>;
  findAgents(accountId: string, agentId: string, deadline: Deadline): Promise<ProviderAgent[]>;
  deleteAgent(accountId: string, providerAgentId: string, deadline: Deadline): Promise<void>;
}

export interface UltravoxCalls {
  /** A repeated create dials twice. */
  createCall(accountId: string, call: CallRequest, deadline: Deadline): Promise<ProviderCall>;
  /** Every call upstream that carries our id, created since. */
  findCalls(accountId: string, callId: string, since: Date, deadline: Deadline): Promise<ProviderCall[]>;
  /** null when the provider has no such call. */
  getCall(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderCall | null>;
  /** The whole conversation, all stages, in order. */
  listMessages(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderMessage[]>;
  /** Ends a joined call. `not_joined`: it rings still, or is over; it ends by itself at its join timeout. */
  hangUp(accountId: string, providerCallId: string, deadline: Deadline): Promise<"done" | "not_joined">;
  /**
   * The recording as WAV, as it comes in; `bytes` is null where the provider does not say. `not_ready`: ask again
   * later. `none`: there is no recording. The deadline covers the reading too.
   */
  getRecording(
    accountId: string,
    providerCallId: string,
    deadline: Deadline,
  ): Promise<{ chunks: AsyncIterable<Buffer>; bytes: number | null; contentType: string } | "not_ready" | "none">;
  /** Erases the call with all that belongs to it. `ongoing`: it must end first. Gone is gone. */
  deleteCall(accountId: string, providerCallId: string, deadline: Deadline): Promise<"done" | "ongoing">;
  /** Reads the body of a webhook. Throws ZodError when it is not one. */
  readEvent(rawBody: Buffer): ProviderEvent;
}

export type ProviderVoice = { providerVoiceId: string; name: string; language: string | null; provider: string | null };

/** Another company's voice, as the provider takes it: exactly one field, whose value is the provider's own definition. */
export type VoiceDefinition = Partial<Record<VendorUpstreamName | "generic", Record<string, unknown>>>;

export interface UltravoxVoices {
  /** One upload of one file; answers when the voice can be used. */
  cloneVoice(
    accountId: string,
    voice: {
      id: string;
      sample: { bytes: Buffer; fileName: string; contentType: string };
      language: string;
      description: string | null;
    },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  /** `definition` may hold a secret: of `generic`, in its headers. */
  registerVoice(
    accountId: string,
    voice: { id: string; definition: VoiceDefinition; language: string; description: string | null },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  findVoices(accountId: string, voiceId: string, deadline: Deadline): Promise<ProviderVoice[]>;
  /** null when the provider has no such voice. */
  getVoice(accountId: string, providerVoiceId: string, deadline: Deadline): Promise<ProviderVoice | null>;
  updateVoice(
    accountId: string,
    providerVoiceId: string,
    change: { language: string; description: string | null; definition?: VoiceDefinition },
    deadline: Deadline,
  ): Promise<ProviderVoice>;
  deleteVoice(accountId: string, providerVoiceId: string, deadline: Deadline): Promise<void>;
  /** A spoken sample, as it comes in. */
  previewVoice(
    accountId: string,
    providerVoiceId: string,
    deadline: Deadline,
  ): Promise<{ chunks: AsyncIterable<Buffer>; contentType: string }>;
  /** Keys of other companies, for a whole account. null takes one away; what is left out stays. */
  setTtsKeys(
    accountId: string,
    keys: Partial<Record<VendorUpstreamName, string | null>>,
    deadline: Deadline,
  ): Promise<void>;
}

export type ProviderTool = { providerToolId: string; name: string; definition?: ToolDefinition };

/** The whole of a tool, in the provider's own words (openapi: ultravox.v1.BaseToolDefinition). Holds no secret. */
export type ToolDefinition = Record<string, unknown>;

export interface UltravoxTools {
  createTool(
    accountId: string,
    tool: { id: string; definition: ToolDefinition },
    deadline: Deadline,
  ): Promise<ProviderTool>;
  /** Replaces it whole: the provider has no partial update of tools. */
  replaceTool(
    accountId: string,
    providerToolId: string,
    tool: { id: string; definition: ToolDefinition },
    deadline: Deadline,
  ): Promise<ProviderTool>;
  /** null when the provider has no such tool. */
  getTool(accountId: string, providerToolId: string, deadline: Deadline): Promise<ProviderTool | null>;
  findTools(accountId: string, toolId: string, deadline: Deadline): Promise<ProviderTool[]>;
  deleteTool(accountId: string, providerToolId: string, deadline: Deadline): Promise<void>;
}

export type ProviderCorpus = {
  providerCorpusId: string;
  name: string;
  status: "empty" | "initializing" | "ready" | "updating" | "other";
  documents: number;
};
/** The provider knows no failed source: one that ends `ready` with no documents is one. */
export type ProviderSource = {
  providerSourceId: string;
  name: string;
  status: "initializing" | "ready" | "updating" | "other";
  documents: number;
};
export type ProviderHit = {
  content: string;
  score: number;
  providerSourceId: string | null;
  url: string | null;
  title: string | null;
};

export interface UltravoxKnowledge {
  createCorpus(
    accountId: string,
    corpus: { id: string; description: string | null },
    deadline: Deadline,
  ): Promise<ProviderCorpus>;
  findCorpora(accountId: string, knowledgeBaseId: string, deadline: Deadline): Promise<ProviderCorpus[]>;
  getCorpus(accountId: string, providerCorpusId: string, deadline: Deadline): Promise<ProviderCorpus | null>;
  deleteCorpus(accountId: string, providerCorpusId: string, deadline: Deadline): Promise<void>;
  queryCorpus(
    accountId: string,
    providerCorpusId: string,
    query: { text: string; maxResults: number },
    deadline: Deadline,
  ): Promise<ProviderHit[]>;
  /** Uploads one document; nothing comes of it until a source names it. */
  uploadDocument(
    accountId: string,
    providerCorpusId: string,
    document: { fileName: string; contentType: string; bytes: Buffer },
    deadline: Deadline,
  ): Promise<{ providerDocumentId: string }>;
  createSource(
    accountId: string,
    providerCorpusId: string,
    source: { id: string } & (
      | { documentIds: string[] }
      /** `maxDepth`: how many links are followed from a start; 0: none. */
      | { crawl: { startUrls: string[]; maxDepth: number; maxDocuments: number } }
    ),
    deadline: Deadline,
  ): Promise<ProviderSource>;
  findSources(accountId: string, providerCorpusId: string, name: string, deadline: Deadline): Promise<ProviderSource[]>;
  getSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<ProviderSource | null>;
  /** Reads the pages of a crawled source again. */
  refreshSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<ProviderSource>;
  deleteSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<void>;
}

export type ProviderSip = {
  domain: string | null;
  allowedCidrRanges: string[];
  allowAllAgents: boolean;
  allowedAgents: { providerAgentId: string; toUserPattern: string | null }[];
};
export type ProviderRegistration = {
  providerRegistrationId: string;
  createdAt: Date;
  username: string;
  proxy: string;
  /** null while the provider has not tried. */
  registered: boolean | null;
};
/** A telephone company as the account has it; its secrets stay there, of which only the beginning is shown. */
export type ProviderCarrier = {
  carrier: "twilio" | "telnyx" | "plivo";
  account: string | null;
  secretPrefix: string | null;
};

export interface UltravoxTelephony {
  getSip(accountId: string, deadline: Deadline): Promise<ProviderSip>;
  /** Lists are replaced whole; what is left out stays. */
  updateSip(
    accountId: string,
    change: Partial<Pick<ProviderSip, "allowedCidrRanges" | "allowAllAgents" | "allowedAgents">>,
    deadline: Deadline,
  ): Promise<ProviderSip>;
  listRegistrations(accountId: string, deadline: Deadline): Promise<ProviderRegistration[]>;
  createRegistration(
    accountId: string,
    registration: {
      username: string;
      password: string;
      proxy: string;
      outboundProxy: string | null;
      authUser: string | null;
    },
    deadline: Deadline,
  ): Promise<ProviderRegistration>;
  deleteRegistration(accountId: string, providerRegistrationId: string, deadline: Deadline): Promise<void>;
  /** Those that are configured. */
  listCarriers(accountId: string, deadline: Deadline): Promise<ProviderCarrier[]>;
  /** Makes it or changes it. `fields` are the provider's own, secrets among them. */
  setCarrier(
    accountId: string,
    carrier: ProviderCarrier["carrier"],
    fields: Record<string, string>,
    deadline: Deadline,
  ): Promise<ProviderCarrier>;
  removeCarrier(accountId: string, carrier: ProviderCarrier["carrier"], deadline: Deadline): Promise<void>;
}

export interface UltravoxAccounts {
  /** Where an account is to tell us of its calls; null when nobody outside can reach this installation. */
  webhookUrl(accountId: string): string | null;
  /**
   * Whose key this is, and whether that account is one of the installation's: asked before it is kept. Throws ProviderError
   * `refused` for a key that does not open.
   */
  describeAccount(apiKey: string, deadline: Deadline): Promise<{ providerName: string; isInstallations: boolean }>;
  /** Has the account tell us of its calls. One that is there already, for this address, is given the secret. */
  ensureWebhook(
    accountId: string,
    webhook: { url: string; secret: string },
    deadline: Deadline,
  ): Promise<{ providerWebhookId: string }>;
  removeWebhook(accountId: string, providerWebhookId: string, deadline: Deadline): Promise<void>;
}
