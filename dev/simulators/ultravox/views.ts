import { summarize } from "./conversation.ts";
import { seconds, type WebhookEvent } from "./requests.ts";
import { type Agent, type Call, elapsed, instant, type Line, type Webhook, type World } from "./state.ts";

/** The call as the provider returns it now, or as it was at an event: a repeated event has its first content. */
export function callView(call: Call, asOf: WebhookEvent | "now" = "now") {
  const { request, medium } = call;
  const joinedAt = asOf === "call.started" ? null : call.joinedAt;
  const endedAt = asOf === "call.started" || asOf === "call.joined" ? null : call.endedAt;
  const billed = call.billed && (asOf === "call.billed" || asOf === "now");
  const talked = endedAt !== null && joinedAt !== null ? endedAt - joinedAt : null;
  const told = talked === null ? null : summarize(spoken(call, talked), talked);
  const firstSpeakerSettings = request.firstSpeakerSettings ?? { agent: {} };
  return {
    callId: call.id,
    clientVersion: joinedAt === null ? null : "simulated",
    created: instant(call, 0),
    joined: joinedAt === null ? null : instant(call, joinedAt),
    ended: endedAt === null ? null : instant(call, endedAt),
    endReason: endedAt === null ? null : call.endReason,
    ...bill(call, billed, talked),
    billedSideInputTokens: null,
    billedSideOutputTokens: null,
    firstSpeaker: "user" in firstSpeakerSettings ? "FIRST_SPEAKER_USER" : "FIRST_SPEAKER_AGENT",
    firstSpeakerSettings,
    inactivityMessages: request.inactivityMessages ?? [],
    initialOutputMedium:
      request.initialOutputMedium === "MESSAGE_MEDIUM_TEXT" ? "MESSAGE_MEDIUM_TEXT" : "MESSAGE_MEDIUM_VOICE",
    joinTimeout: request.joinTimeout ?? "30s",
    joinUrl: joinUrl(call),
    languageHint: request.languageHint ?? null,
    maxDuration: request.maxDuration ?? "3600s",
    medium,
    model: request.model ?? "ultravox-v0.7",
    recordingEnabled: request.recordingEnabled ?? false,
    retentionPolicy: request.retentionPolicy === "CALL_RETENTION_POLICY_AUTO_DELETE" ? "auto_delete" : "retain",
    systemPrompt: request.systemPrompt ?? null,
    temperature: request.temperature ?? 0,
    timeExceededMessage: request.timeExceededMessage ?? null,
    voice: request.voice ?? null,
    ...(request.externalVoice && { externalVoice: request.externalVoice }),
    ...(request.voiceOverrides && { voiceOverrides: request.voiceOverrides }),
    transcriptOptional: request.transcriptOptional ?? true,
    vadSettings: request.vadSettings ?? null,
    shortSummary: told?.shortSummary ?? null,
    summary: told?.summary ?? null,
    agent: call.agent,
    agentId: call.agent?.agentId ?? null,
    experimentalSettings: request.experimentalSettings ?? {},
    metadata: request.metadata ?? {},
    initialState: request.initialState ?? {},
    requestContext: {},
    ...(request.dataConnection && { dataConnectionConfig: request.dataConnection }),
    ...(request.callbacks && { callbacks: request.callbacks }),
    sipDetails: medium.sip ? sipDetails(call, endedAt, billed) : null,
  };
}
export type CallView = ReturnType<typeof callView>;

function joinUrl({ id, medium, joinHost }: Call): string | null {
  const dialled = medium.sip ?? medium.twilio?.outgoing ?? medium.telnyx?.outgoing ?? medium.plivo?.outgoing;
  return dialled ? null : `ws://${joinHost}/join/${id}`;
}

function bill({ endReason }: Call, billed: boolean, talked: number | null) {
  if (!billed) return { billedDuration: null, billingStatus: "BILLING_STATUS_PENDING" };
  if (endReason === "system_error") return { billedDuration: "0s", billingStatus: "BILLING_STATUS_FREE_SYSTEM_ERROR" };
  if (!talked) return { billedDuration: "0s", billingStatus: "BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION" };
  return { billedDuration: sixths(talked), billingStatus: "BILLING_STATUS_BILLED" };
}

/** SIP time counts from dialling, so an unanswered call has a cost too. */
function sipDetails({ behaviour, endReason }: Call, endedAt: number | null, billed: boolean) {
  const unanswered = endReason === "unjoined" && behaviour.endReason !== "unjoined";
  const termination = unanswered ? "SIP_TERMINATION_TIMEOUT" : behaviour.termination;
  return {
    billedDuration: billed && endedAt !== null ? sixths(endedAt) : null,
    terminationReason: endedAt === null ? null : termination,
  };
}

function sixths(duration: number): string {
  return `${Math.ceil(duration / 6) * 6}s`;
}

/** The messages that had started by then. The last may be cut short. */
export function spoken(call: Call, talked: number): Line[] {
  return call.lines
    .filter((line) => line.start <= talked)
    .map((line) => ({ ...line, end: Math.min(line.end, talked) }));
}

export function messagesView(world: World, call: Call) {
  const { joinedAt, endedAt } = call;
  if (joinedAt === null) return [];
  const lines = spoken(call, (endedAt ?? elapsed(world, call)) - joinedAt);
  return lines.map((line, index) => ({
    role: `MESSAGE_ROLE_${line.role}`,
    text: line.text,
    ...(line.tool && { toolName: line.tool.name, invocationId: line.tool.invocationId }),
    ...(line.state && { callState: line.state }),
    medium: `MESSAGE_MEDIUM_${line.medium}`,
    callStageMessageIndex: index,
    callStageId: call.stageId,
    timespan: { start: duration(line.start), end: duration(line.end) },
    wallClockTimespan: { start: duration(joinedAt + line.start), end: duration(joinedAt + line.end) },
  }));
}

function duration(value: number): string {
  return `${Number(value.toFixed(3))}s`;
}

export function durationOf(call: Call): number {
  return call.joinedAt === null || call.endedAt === null ? 0 : call.endedAt - call.joinedAt;
}

export function agentView(agent: Agent) {
  const { sharedSecrets: _, ...callTemplate } = agent.callTemplate;
  return {
    agentId: agent.id,
    publishedRevisionId: agent.revision,
    name: agent.name,
    created: new Date(agent.created).toISOString(),
    callTemplate,
    statistics: { calls: agent.calls },
  };
}

export function webhookView(webhook: Webhook) {
  return {
    webhookId: webhook.id,
    agentId: webhook.agentId,
    created: new Date(webhook.created).toISOString(),
    url: webhook.url,
    secrets: webhook.secrets,
    events: webhook.events,
    status: webhook.status,
    lastStatusChange: webhook.lastStatusChange === null ? null : new Date(webhook.lastStatusChange).toISOString(),
    recentFailures: webhook.failures,
  };
}

export const limitSeconds = (call: Call) => ({
  join: seconds(call.request.joinTimeout ?? "30s"),
  talk: seconds(call.request.maxDuration ?? "3600s"),
});
