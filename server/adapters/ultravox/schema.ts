import { z } from "zod";
import { dialledUri } from "../../../routers/core/sip-address.ts";
import {
  type AgentTemplate,
  type CallMedium,
  callEvents,
  endReasons,
  type ProviderAgent,
  type ProviderCall,
  type ProviderEvent,
  type ProviderMessage,
} from "../../../routers/ports/ultravox.ts";
import { noteUnknownWord, translated } from "../shared/unknown-words.ts";

/**
 * The wall between Ultravox's words and ours, after its published OpenAPI document
 * (https://api.ultravox.ai/api/schema/). Objects are loose, since the provider may add fields; a field that we use
 * and that has another type is an error.
 */

const durationPattern = /^-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?s$/;

/** Durations are protobuf's: "42s", "5.5s". */
export const Seconds = z
  .string()
  .regex(durationPattern, "is not a duration")
  .transform((text) => Number(text.slice(0, -1)));

export function duration(seconds: number): string {
  return `${Number(seconds.toFixed(3))}s`;
}

/** Reads an ISO 8601 instant. One without an offset is UTC: JavaScript alone would take it for local time. */
export function instant(text: string): Date | null {
  const parts = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?) ?(Z|[+-]\d\d:?\d\d)?$/i.exec(text);
  if (!parts) return null;
  const date = new Date(`${parts[1]}T${parts[2]}${parts[3]?.toUpperCase() ?? "Z"}`);
  return Number.isNaN(date.getTime()) ? null : date;
}

export const Instant = z.string().transform((text, context) => {
  const date = instant(text);
  if (date) return date;
  context.addIssue("is not an instant");
  return z.NEVER;
});

const sipReasons = {
  SIP_TERMINATION_NORMAL: "normal",
  SIP_TERMINATION_INVALID_NUMBER: "invalid_number",
  SIP_TERMINATION_TIMEOUT: "timeout",
  SIP_TERMINATION_DESTINATION_UNAVAILABLE: "unavailable",
  SIP_TERMINATION_BUSY: "busy",
  SIP_TERMINATION_CANCELED: "cancelled",
  SIP_TERMINATION_REJECTED: "rejected",
  SIP_TERMINATION_UNKNOWN: "unknown",
} as const satisfies Record<string, ProviderCall["sipReason"]>;

const billings = {
  BILLING_STATUS_PENDING: "pending",
  BILLING_STATUS_UNSPECIFIED: "pending",
  BILLING_STATUS_FREE_CONSOLE: "final",
  BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION: "final",
  BILLING_STATUS_FREE_MINUTES: "final",
  BILLING_STATUS_FREE_SYSTEM_ERROR: "final",
  BILLING_STATUS_FREE_OTHER: "final",
  BILLING_STATUS_BILLED: "final",
  BILLING_STATUS_REFUNDED: "refunded",
} as const satisfies Record<string, ProviderCall["billing"]>;

/** An end reason is kept as received, whatever it is; one that is not in the list is noted. */
const EndReason = z.string().transform((word) => {
  if (word === "") return null;
  if (!(endReasons as readonly string[]).includes(word)) noteUnknownWord("ultravox", "call.endReason", word);
  return word;
});

const billsWithinMs = 3_600_000;
/** No call lasts a day. A longer bill is a mistake, and would take the balance beyond the numbers that can be told. */
const mostBilledSeconds = 86_400;

function isPlausibleBill(durations: readonly (number | null | undefined)[]): boolean {
  if (durations.every((seconds) => (seconds ?? 0) <= mostBilledSeconds)) return true;
  noteUnknownWord("ultravox", "call.billedDuration", "longer_than_a_day");
  return false;
}

/**
 * The provider says how much it bills only once it has billed: a status that we do not know is read by that. One that comes
 * with no amount is waited for an hour, and then it is the last word: credits are not held for it for ever.
 */
function billingOf(status: string, billedDuration: number | null, ended: Date | null): ProviderCall["billing"] {
  const isOver = ended !== null && Date.now() - ended.getTime() > billsWithinMs;
  const otherwise = billedDuration === null && !isOver ? "pending" : "final";
  return translated<ProviderCall["billing"]>(billings, status, otherwise, ["ultravox", "call.billingStatus"]);
}

export const Call = z
  .looseObject({
    callId: z.string().min(1),
    created: Instant,
    joined: Instant.nullable(),
    ended: Instant.nullable(),
    endReason: EndReason.nullable(),
    billingStatus: z.string(),
    billedDuration: Seconds.nullable(),
    sipDetails: z.looseObject({ billedDuration: Seconds.nullish(), terminationReason: z.string().nullish() }).nullish(),
    metadata: z.looseObject({ callId: z.string().optional() }).nullish(),
    agent: z.looseObject({ agentId: z.string() }).nullish(),
    medium: z.looseObject({}).nullish(),
    requestContext: z.unknown().optional(),
    recordingEnabled: z.boolean().nullish(),
    joinUrl: z.string().nullish(),
    summary: z.string().nullish(),
    shortSummary: z.string().nullish(),
  })
  .transform((call): ProviderCall => {
    const isPlausible = isPlausibleBill([call.billedDuration, call.sipDetails?.billedDuration]);
    const billing = isPlausible ? billingOf(call.billingStatus, call.billedDuration, call.ended) : "pending";
    const sipReason = call.sipDetails?.terminationReason ?? null;
    return {
      providerCallId: call.callId,
      callId: call.metadata?.callId ?? null,
      createdAt: call.created,
      joinedAt: call.joined,
      endedAt: call.ended,
      endReason: call.endReason,
      billedSeconds: billing === "pending" ? null : wholeSeconds(call.billedDuration ?? 0),
      billing,
      sipBilledSeconds: isPlausible ? wholeSeconds(call.sipDetails?.billedDuration ?? null) : null,
      sipReason:
        sipReason === null
          ? null
          : translated<ProviderCall["sipReason"]>(sipReasons, sipReason, "unknown", ["ultravox", "call.sipReason"]),
      joinUrl: call.joinUrl ?? null,
      summary: call.summary ?? null,
      shortSummary: call.shortSummary ?? null,
      providerAgentId: call.agent?.agentId ?? null,
      recordingEnabled: call.recordingEnabled ?? false,
      ...lineOf(call.medium ?? {}),
      ...partiesOf(call.metadata ?? {}, call.requestContext),
    };
  });

const carriers = ["sip", "twilio", "telnyx", "plivo"] as const;
/** Media that are no telephone, or none of ours (openapi: ultravox.v1.CallMedium). */
const otherMedia: readonly string[] = ["webRtc", "serverWebSocket", "webSocket", "exotel"];

/** A telephone call that we did not have dialled came in (openapi: `outgoing` is set where the provider dials). */
function lineOf(medium: Record<string, unknown>): Pick<ProviderCall, "medium" | "isInbound"> {
  const carrier = carriers.find((name) => medium[name] !== undefined && medium[name] !== null);
  if (!carrier) {
    const unknown = Object.keys(medium).find((name) => medium[name] != null && !otherMedia.includes(name));
    if (unknown) noteUnknownWord("ultravox", "call.medium", unknown);
    return { medium: "web", isInbound: false };
  }
  const line = medium[carrier];
  const dialled = typeof line === "object" && line !== null && "outgoing" in line && line.outgoing != null;
  return { medium: carrier, isInbound: !dialled };
}

/**
 * Who called, and whom, as the line gave it. Of SIP the provider says the caller, and what the invite had of headers of its
 * own (docs.ultravox.ai, telephony/sip); of a carrier it says what `setCarrier` asks to have mapped.
 */
function partiesOf(metadata: Record<string, unknown>, context: unknown): Pick<ProviderCall, "fromRaw" | "toRaw"> {
  const inContext = (...path: string[]) => path.reduce<unknown>((from, name) => fieldOf(from, name), context);
  const of = (name: string) => [metadata[`ultravox.sip.${name}`], inContext("ultravox", "sip", ...name.split("."))];
  return {
    fromRaw: firstText(
      ...of("caller_id"),
      inContext("patchbay", "from"),
      ...of("from_uri"),
      ...of("from_display_name"),
    ),
    toRaw: firstText(inContext("patchbay", "to"), ...of("header.did")),
  };
}

const fieldOf = (from: unknown, name: string): unknown =>
  typeof from === "object" && from !== null && Object.hasOwn(from, name) ? Reflect.get(from, name) : undefined;

const longestParty = 320;

/** The first that is a text and says anything. */
function firstText(...values: unknown[]): string | null {
  const found = values.find((value): value is string => typeof value === "string" && value.trim() !== "");
  return found === undefined ? null : found.slice(0, longestParty);
}

/**
 * A started second counts; Ultravox itself bills in steps of six (docs.ultravox.ai, pricing), so nothing is rounded
 * today.
 */
function wholeSeconds<S extends number | null>(seconds: S): S | number {
  return seconds === null ? seconds : Math.max(0, Math.ceil(seconds));
}

export const UltravoxAgent = z
  .looseObject({
    agentId: z.string().min(1),
    publishedRevisionId: z.string().nullish(),
    name: z.string(),
    callTemplate: z.record(z.string(), z.unknown()).nullish(),
  })
  .transform(
    (agent): ProviderAgent => ({
      providerAgentId: agent.agentId,
      revisionId: agent.publishedRevisionId ?? null,
      name: agent.name,
      ...(agent.callTemplate ? { callTemplate: agent.callTemplate } : {}),
    }),
  );

const roles = {
  MESSAGE_ROLE_USER: "user",
  MESSAGE_ROLE_AGENT: "agent",
  MESSAGE_ROLE_TOOL_CALL: "tool_call",
  MESSAGE_ROLE_TOOL_RESULT: "tool_result",
} as const satisfies Record<string, ProviderMessage["role"]>;

/** What has a role was said by somebody, also where we do not know the role yet. */
function roleOf(word: string): ProviderMessage["role"] | null {
  if (word === "" || word === "MESSAGE_ROLE_UNSPECIFIED") return null;
  return translated<ProviderMessage["role"]>(roles, word, "other", ["ultravox", "message.role"]);
}

const Timespan = z.looseObject({ start: Seconds.nullish(), end: Seconds.nullish() }).nullish();

/** null for a message without a role: nobody said it. */
export const Message = z
  .looseObject({
    role: z.string().nullish(),
    text: z.string().nullish(),
    toolName: z.string().nullish(),
    // A state that cannot be read must not cost the conversation.
    callState: z.record(z.string(), z.unknown()).nullish().catch(null),
    timespan: Timespan,
    wallClockTimespan: Timespan,
  })
  .transform((message): ProviderMessage | null => {
    const role = roleOf(message.role ?? "");
    const span = message.timespan ?? message.wallClockTimespan;
    if (role === null) return null;
    return {
      role,
      text: message.text ?? "",
      toolName: message.toolName || null,
      ...(message.callState ? { status: message.callState } : {}),
      startSeconds: span?.start ?? null,
      endSeconds: span?.end ?? null,
    };
  });

const Told = z.looseObject({ event: z.string().regex(/^[\w.-]{1,100}$/), call: Call });

/**
 * Reads a webhook's body; throws ZodError for what is none. An event that we do not know yet says how its call stands, like
 * the others. A bill that is told counts as one, whatever its status is called.
 */
export function readEvent(body: unknown): ProviderEvent {
  const { event: name, call } = Told.parse(body);
  const event = callEvents.find((known) => known === name);
  if (!event) {
    noteUnknownWord("ultravox", "event", name);
    return { event: "other", name, call };
  }
  const isSettled = event !== "call.billed" || call.billing !== "pending" || isKnownStatus(body);
  if (isSettled || !hasPlausibleBill(body)) return { event, call };
  return { event, call: { ...call, billing: "final", billedSeconds: call.billedSeconds ?? 0 } };
}

/** The body has been read already. */
const isKnownStatus = (body: unknown) =>
  Object.hasOwn(billings, (body as { call: { billingStatus: string } }).call.billingStatus);

function hasPlausibleBill(body: unknown): boolean {
  const { billedDuration, sipDetails } = (body as { call: z.input<typeof Call> }).call;
  const seconds = [billedDuration, sipDetails?.billedDuration].map((text) => Seconds.nullish().parse(text));
  return isPlausibleBill(seconds);
}

export function Page<T extends z.ZodType>(item: T) {
  return z.looseObject({ results: z.array(item), next: z.string().nullish() });
}

/** How long the person may stay silent before the agent speaks after all. */
const fallbackDelay = duration(3);

/** The model that Ultravox takes when none is named (openapi: ultravox.v1.CallTemplate.model). */
const defaultModel = "ultravox-v0.7";

/**
 * The whole template. Updates are PATCH (openapi: agents_partial_update). We take it to keep what is left out,
 * so what we do not set is stated by its default. Of a voice and a language nobody knows the default's name: they are
 * left out of a new agent, and emptied, which is unset in protobuf, in an existing one.
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

/** A new agent has none anyway; of an old one the list is replaced whole. */
const unlessEmpty = <T>(list: T[], purpose: "create" | "update") =>
  list.length > 0 || purpose === "update" ? list : undefined;

const endBehaviors = {
  nothing: "END_BEHAVIOR_UNSPECIFIED",
  hang_up_soft: "END_BEHAVIOR_HANG_UP_SOFT",
  hang_up: "END_BEHAVIOR_HANG_UP_STRICT",
} as const;

/** Durations are counted from the message before (openapi: ultravox.v1.CallTemplate.inactivityMessages). */
const timedMessage = ({ afterSeconds, message, then }: AgentTemplate["inactivityMessages"][number]) => ({
  duration: duration(afterSeconds),
  message,
  endBehavior: endBehaviors[then],
});

/** A tool of an account is named by its id: a name of ours could be somebody else's there. */
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
 * Left out, the provider makes one of the variables that it finds, and needs them all
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
 * The fields of our template that a copy at the provider has otherwise. What is empty there is unset; tokens are not
 * looked at, since nobody says whether the provider shows them.
 */
export function templateDifferences(copy: Record<string, unknown>, template: AgentTemplate): string[] {
  const tools = template.tools.map(({ authTokens: _, ...tool }) => tool);
  const { contextSchema: __, ...ours } = templateBody({ ...template, tools }, "update");
  return Object.entries(ours)
    .filter(([name, value]) => comparable(copy[name]) !== comparable(value))
    .map(([name]) => name);
}

/** One text for what means the same: keys in order, and nothing where nothing is set. */
function comparable(value: unknown): string {
  return JSON.stringify(tidy(value)) ?? "";
}

function tidy(value: unknown): unknown {
  if (Array.isArray(value)) return value.length > 0 ? value.map(tidy) : undefined;
  if (typeof value === "number") return Math.fround(value); // theirs is a float of 32 bits
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

/**
 * `sip.outgoing` takes SIP URIs and refuses bare numbers (openapi: ultravox.v1.SipMedium_SipOutgoing), so a number is
 * dialled at the trunk's host. Returns null when there is no trunk to dial it at.
 */
type MediumOptions = {
  sipTrunk: string | undefined;
  /** Where Telnyx is to say what becomes of the call; null where the world cannot reach us. */
  legsUrl: string | null;
};

export function mediumBody(medium: CallMedium, { sipTrunk, legsUrl }: MediumOptions): Record<string, object> | null {
  if (medium.kind === "web") return { webRtc: {} };
  if (medium.kind === "telnyx" && legsUrl) {
    const { to, from } = medium;
    return { telnyx: { outgoing: { to, from, additionalParams: legParams(legsUrl) } } };
  }
  if (medium.kind !== "sip") return { [medium.kind]: { outgoing: { to: medium.to, from: medium.from } } };
  const to = dialledUri(medium.to, sipTrunk ?? "");
  const from = dialledUri(medium.from, sipTrunk ?? "");
  if (to === null || from === null) return null;
  return { sip: { outgoing: { to, from, username: medium.username, password: medium.password } } };
}

/** Handed on to Telnyx as they are (TeXML, initiate a call), whose names are case-sensitive. */
const legParams = (url: string) => ({
  StatusCallback: url,
  StatusCallbackMethod: "POST",
  StatusCallbackEvent: "initiated answered completed",
});
