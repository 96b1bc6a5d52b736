import type { WebhookSender } from "./webhooks/sender.ts";

/** What the domain needs of other companies' machines, in our words. `server/providers/` implements it. */

/**
 * Why a provider did not do what it was asked.
 * `refused`: it said no, nothing happened, and the same request will be refused again.
 * `unavailable`: nothing happened; trying later may help (429, 503, no connection, breaker open).
 * `unknown`: it may or may not have happened (timeout, reset, 500, 502, 504): look before doing it again.
 */
export class ProviderError extends Error {
  readonly kind: "refused" | "unavailable" | "unknown";
  readonly status: number | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    kind: "refused" | "unavailable" | "unknown",
    message: string,
    extra: { status?: number; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: extra.cause });
    this.name = "ProviderError";
    this.kind = kind;
    this.status = extra.status;
    this.retryAfterSeconds = extra.retryAfterSeconds;
  }
}

/** The absolute instant after which nobody waits any more; repeats included. */
export type Deadline = { signal: AbortSignal };

/** What an agent is made of, as the provider needs it. Durations in seconds. */
export type AgentTemplate = {
  systemPrompt: string;
  model: string | null;
  voice: string | null;
  languageHint: string | null;
  temperature: number | null;
  firstSpeaker: "agent" | "user";
  greeting: string | null;
  recordingEnabled: boolean;
  maxDurationSeconds: number;
  joinTimeoutSeconds: number;
};

export type ProviderAgent = { providerAgentId: string; revisionId: string | null; name: string };

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
  medium: CallMedium;
  variables: Record<string, string>;
  joinTimeoutSeconds: number;
  maxDurationSeconds: number;
  recordingEnabled: boolean;
};

/** A call as the provider sees it, in our words. Seconds are whole seconds, instants are Dates. */
export type ProviderCall = {
  providerCallId: string;
  /** Our id, when the call carries one. */
  callId: string | null;
  createdAt: Date;
  joinedAt: Date | null;
  endedAt: Date | null;
  endReason: "unjoined" | "hangup" | "agent_hangup" | "timeout" | "connection_error" | "system_error" | null;
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
};

export type ProviderMessage = {
  role: "user" | "agent" | "tool_call" | "tool_result";
  text: string;
  toolName: string | null;
  startSeconds: number | null;
  endSeconds: number | null;
};

export type ProviderEvent = {
  event: "call.started" | "call.joined" | "call.ended" | "call.billed";
  call: ProviderCall;
};

/** The Ultravox Realtime API. `accountId` is ours (`pacc_…`): one provider account, with its own key and webhook secrets. */
export interface Ultravox {
  /** Not repeatable on an unknown outcome. The upstream name is our id. */
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
  /** Every agent upstream whose name is our id; paged to the end. */
  findAgents(accountId: string, agentId: string, deadline: Deadline): Promise<ProviderAgent[]>;
  deleteAgent(accountId: string, providerAgentId: string, deadline: Deadline): Promise<void>;
  /** Not repeatable on an unknown outcome: a repeated create dials twice. */
  createCall(accountId: string, call: CallRequest, deadline: Deadline): Promise<ProviderCall>;
  /** Every call upstream that carries our id, created since; paged to the end. */
  findCalls(accountId: string, callId: string, since: Date, deadline: Deadline): Promise<ProviderCall[]>;
  /** null when the provider has no such call. */
  getCall(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderCall | null>;
  /** The whole conversation, all stages, in order; paged to the end. */
  listMessages(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderMessage[]>;
  /** Ends a joined call. `not_joined`: it rings still, or is over; it ends by itself at its join timeout. */
  hangUp(accountId: string, providerCallId: string, deadline: Deadline): Promise<"done" | "not_joined">;
  /** Reads the body of a webhook. Throws ZodError when it is not one. */
  readEvent(rawBody: Buffer): ProviderEvent;
}

/** The keys of one client and purpose, open in memory. Sealing and opening are local and synchronous. */
export interface KeyRing {
  /** `rowId` ties the sealed bytes to their row: copied into another row they do not open. */
  seal(plain: Buffer | string, rowId: string): Buffer;
  open(sealed: Buffer, rowId: string): Buffer;
}

export type VaultPurpose = "idempotency" | "webhook_secret" | "provider_credential";

/** Keeps secrets sealed. `keys` may speak to a key service: never while a transaction is open. */
export interface Vault {
  keys(clientId: string, purpose: VaultPurpose): Promise<KeyRing>;
}

export type Providers = { ultravox: Ultravox; vault: Vault; webhooks: WebhookSender };
