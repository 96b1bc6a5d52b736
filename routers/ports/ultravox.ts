import type { UltravoxAccounts } from "./ultravox-accounts.ts";
import type { UltravoxAgents } from "./ultravox-agents.ts";
import type { UltravoxCalls } from "./ultravox-calls.ts";
import type { UltravoxKnowledge } from "./ultravox-knowledge.ts";
import type { UltravoxTelephony } from "./ultravox-telephony.ts";
import type { UltravoxTools } from "./ultravox-tools.ts";
import type { UltravoxVoices } from "./ultravox-voices.ts";

export type { UltravoxAccounts } from "./ultravox-accounts.ts";
export type { AgentTemplate, ProviderAgent, SelectedTool, UltravoxAgents } from "./ultravox-agents.ts";
export {
  type CallMedium,
  type CallRequest,
  callEvents,
  endReasons,
  type ProviderCall,
  type ProviderEvent,
  type ProviderMessage,
  type UltravoxCalls,
} from "./ultravox-calls.ts";
export type { ProviderCorpus, ProviderHit, ProviderSource, UltravoxKnowledge } from "./ultravox-knowledge.ts";
export type { ProviderCarrier, ProviderRegistration, ProviderSip, UltravoxTelephony } from "./ultravox-telephony.ts";
export type { ProviderTool, ToolDefinition, UltravoxTools } from "./ultravox-tools.ts";
export type { ProviderVoice, UltravoxVoices, VoiceDefinition } from "./ultravox-voices.ts";

/**
 * The Ultravox Realtime API. `accountId` is ours (`pacc_…`): one provider account, with its own API key and webhook secrets.
 * A create must not be repeated after an unknown outcome. `find…` looks it up and returns all copies, from all pages. The
 * name of every resource at the provider is our id.
 */
export interface Ultravox
  extends UltravoxAgents,
    UltravoxCalls,
    UltravoxVoices,
    UltravoxTools,
    UltravoxKnowledge,
    UltravoxTelephony,
    UltravoxAccounts {}
