import type { Deadline } from "./provider-error.ts";
import type { AgentTemplate } from "./ultravox-agents.ts";

/** How the call reaches a person. `web`: they join by a link. `sip`: the provider dials. Numbers are E.164. */
export type CallMedium =
  | { kind: "web" }
  | { kind: "sip"; to: string; from: string; username?: string; password?: string }
  | { kind: "twilio" | "telnyx" | "plivo"; to: string; from: string };

export type CallRequest = {
  /** Our id, sent as `metadata.callId`. Calls are looked up by it. */
  callId: string;
  clientId: string;
  providerAgentId: string;
  /** Set if the call must not use the agent's live version: the call is created from this template instead, filled in. */
  pinned?: AgentTemplate;
  medium: CallMedium;
  variables: Record<string, string | number | boolean>;
  joinTimeoutSeconds: number;
  maxDurationSeconds: number;
  recordingEnabled: boolean;
  /** Replaces the agent's settings for this call. */
  overrides?: { voice?: string; opening?: { firstSpeaker: "agent" | "user"; greeting: string | null } };
};

/** The provider's end reasons that we know. Any other is stored as received, and shown as `other`. */
export const endReasons = [
  "unjoined",
  "hangup",
  "agent_hangup",
  "timeout",
  "connection_error",
  "system_error",
] as const;

/** A call at the provider, in our terms. Seconds are whole seconds. */
export type ProviderCall = {
  providerCallId: string;
  /** Our id, if the call has one in its metadata. */
  callId: string | null;
  createdAt: Date;
  joinedAt: Date | null;
  endedAt: Date | null;
  /** As received: one of `endReasons`, or another. */
  endReason: string | null;
  /** null until billing is final. */
  billedSeconds: number | null;
  billing: "pending" | "final" | "refunded";
  /** Telephone time, which can cost even when `billedSeconds` is 0. */
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
  /** The agent of the call at the provider; null for a call without one. */
  providerAgentId: string | null;
  recordingEnabled: boolean;
  /** `web` also covers all other media that are not telephone. */
  medium: "web" | "sip" | "twilio" | "telnyx" | "plivo";
  /** Whether it is an inbound telephone call. */
  isInbound: boolean;
  /** For an inbound call: exactly as received, not yet parsed. */
  fromRaw: string | null;
  toRaw: string | null;
};

export type ProviderMessage = {
  /** `other`: an unknown role. */
  role: "user" | "agent" | "tool_call" | "tool_result" | "other";
  text: string;
  toolName: string | null;
  /** The state that the tools had built up by then; null without one. */
  status?: Record<string, unknown> | null;
  startSeconds: number | null;
  endSeconds: number | null;
};

export const callEvents = ["call.started", "call.joined", "call.ended", "call.billed"] as const;

/** `other`: an unknown event, with its `name`. Like all events, it contains the present call. */
export type ProviderEvent =
  | { event: (typeof callEvents)[number]; call: ProviderCall }
  | { event: "other"; name: string; call: ProviderCall };

export interface UltravoxCalls {
  /** Not safe to repeat: a repeated create dials twice. */
  createCall(accountId: string, call: CallRequest, deadline: Deadline): Promise<ProviderCall>;
  /** All calls at the provider with our id that were created since then. */
  findCalls(accountId: string, callId: string, since: Date, deadline: Deadline): Promise<ProviderCall[]>;
  /** null if the provider has no such call. */
  getCall(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderCall | null>;
  /** The whole conversation, all stages, in order. */
  listMessages(accountId: string, providerCallId: string, deadline: Deadline): Promise<ProviderMessage[]>;
  /** Ends a joined call. `not_joined`: it is still ringing, or over. A ringing call ends by itself at its join timeout. */
  hangUp(accountId: string, providerCallId: string, deadline: Deadline): Promise<"done" | "not_joined">;
  /**
   * Streams the recording as WAV. `bytes` is null if the provider does not send the length. `not_ready`: retry later.
   * `none`: there is no recording. The deadline also covers reading the stream.
   */
  getRecording(
    accountId: string,
    providerCallId: string,
    deadline: Deadline,
  ): Promise<{ chunks: AsyncIterable<Buffer>; bytes: number | null; contentType: string } | "not_ready" | "none">;
  /** Erases the call with all its data. `ongoing`: it must end first. A call that is already gone counts as erased. */
  deleteCall(accountId: string, providerCallId: string, deadline: Deadline): Promise<"done" | "ongoing">;
  /** Parses the body of a webhook. Throws ZodError. */
  readEvent(rawBody: Buffer): ProviderEvent;
}
