import { eq } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { enqueue } from "../../../db/queue.ts";
import { agents } from "../../../db/schema/agents.ts";
import { calls } from "../../../db/schema/calls.ts";
import { voices } from "../../../db/schema/voices.ts";
import { toolsOf } from "../../agents/references.ts";
import type { AgentConfig } from "../../agents/schema.ts";
import { agentForCall } from "../../agents/service.ts";
import { fillTemplate, openTemplate, type SealedTemplate } from "../../agents/template.ts";
import { usesOf } from "../../agents/templated.ts";
import {
  checkValues,
  declaredOf,
  fillVariables,
  oddMarksIn,
  render,
  type Values,
  variablesIn,
} from "../../agents/variables.ts";
import { fundsOf, holdCredits } from "../../billing/ledger.ts";
import { ApiError } from "../../core/errors.ts";
import type { ProviderCommand } from "../../core/provider-command.ts";
import { ProviderError } from "../../ports/provider-error.ts";
import type { CallRequest, ProviderCall } from "../../ports/ultravox.ts";
import type { Vault } from "../../ports/vault.ts";
import { acceptCall, type LockedCall, lockCallWithHold } from "../lifecycle/accept.ts";
import { toCall } from "../resource.ts";
import type { Call } from "../schema.ts";
import { type CallRow, failCall, getCall, lockCall, markCallUnknown } from "../service.ts";
import { insertCall, type NewCall } from "./insert-call.ts";
import { longestCost } from "./longest-cost.ts";
import { type ResolvedMedium, resolveMedium, type SealedTrunk, telephonyFor, toProviderMedium } from "./medium.ts";
import type { CreateCall } from "./schema.ts";

type VoiceRow = typeof voices.$inferSelect;

/** The provider request, with all secrets still sealed. */
type PlaceRequest = {
  request: Omit<CallRequest, "medium" | "pinned">;
  medium: ResolvedMedium;
  trunk: SealedTrunk | null;
  pinned: SealedTemplate | null;
};

type Overrides = NonNullable<CallRequest["overrides"]> & { voiceId?: string };

/** Reads that were sent together. Each is awaited where it is checked, so that the first problem is reported. */
type Found = {
  agent: ReturnType<typeof agentForCall>;
  funds: ReturnType<typeof fundsOf>;
  telephony: ReturnType<typeof telephonyFor>;
  voice: Promise<VoiceRow | null>;
};

/** Places a call. The credits are held and the row is written before the provider dials. */
export const placeCall: ProviderCommand<CreateCall, PlaceRequest, ProviderCall, Call, Found, LockedCall> = {
  kind: "calls.create",
  status: 201,
  busyCode: "agent_busy",
  waitWhileBusySeconds: 2,

  readFirst(tx, input) {
    const found = {
      agent: agentForCall(tx, input.agentId, { version: input.agentVersion }),
      funds: fundsOf(tx),
      telephony: telephonyFor(tx, input.medium),
      voice: input.voiceId === undefined ? Promise.resolve(null) : readVoice(tx, input.voiceId),
    };
    for (const read of Object.values(found)) read.catch(() => {}); // handled where it is awaited
    return found;
  },

  async prepare(tx, input, { clientId }, found) {
    const { agent, config, version } = await found.agent;
    const tools = await toolsOf(tx, config);
    const variables = fillVariables(declaredOf(config, tools), input.variables);
    checkValues(usesOf(config, tools), variables);
    const telephony = await found.telephony;
    const medium = resolveMedium(input.medium, telephony);
    const trunk = medium.medium === "sip" ? telephony.trunk : null;
    const voice = await found.voice;
    const overrides = overridesFor(input, { config, variables, voice, accountId: agent.providerAccountId });
    const pinned = version === agent.version ? null : await fillTemplate(tx, config, variables);
    const call: NewCall = {
      id: newId("call"),
      agentId: agent.id,
      agentVersion: version,
      direction: medium.medium === "web" ? "web" : "outbound",
      ...medium,
      variables,
      metadata: input.metadata,
      overrides: Object.keys(overrides).length > 0 ? overrides : null,
      maxDurationSeconds: input.maxDurationSeconds ?? config.maxDurationSeconds,
      joinTimeoutSeconds: input.joinTimeoutSeconds ?? config.joinTimeoutSeconds,
      recordingEnabled: input.recordingEnabled ?? config.recordingEnabled,
      providerAccountId: agent.providerAccountId,
    };
    const funds = await found.funds;
    const written = insertCall(tx, call);
    const held = holdCredits(tx, call.id, longestCost(funds.price, call, config, tools), funds);
    return {
      subjectId: call.id,
      providerAccountId: agent.providerAccountId,
      request: { request: requestOf(call, clientId, agent.providerAgentId ?? ""), medium, trunk, pinned },
      writing: Promise.all([written, held]),
    };
  },

  async execute({ ultravox, vault }, accountId, { request, medium, trunk, pinned }, deadline) {
    const callMedium = await toProviderMedium(vault, request.clientId, medium, trunk);
    const template = pinned ? { pinned: await openPinned(vault, pinned) } : {};
    return ultravox.createCall(accountId, { ...request, medium: callMedium, ...template }, deadline);
  },

  lockFirst: lockCallWithHold,

  async onAccepted(tx, _subjectId, reported, { call, hold }) {
    const accepted = await acceptCall(tx, call, reported);
    // It has not ended, so it has no costs yet, and the hold is as it was.
    return accepted.status === "ringing" ? toCall({ call: accepted, hold, price: null }) : undefined;
  },

  async onFailed(tx, subjectId, { message }) {
    await failCall(tx, await lockCall(tx, subjectId), message);
  },

  async onUnknown(tx, subjectId) {
    const call = await lockCall(tx, subjectId);
    if (call.status === "queued") await markCallUnknown(tx, call);
  },

  read: getCall,

  /** For the lookup only: a call that may have been dialled is never dialled again. */
  async rebuildRequest(tx, subjectId) {
    const [found] = await tx
      .select({ call: calls, providerAgentId: agents.providerAgentId })
      .from(calls)
      .innerJoin(agents, eq(agents.id, calls.agentId))
      .where(eq(calls.id, subjectId));
    const { call, providerAgentId } = found!;
    const { medium, to, from } = call;
    const request = requestOf(call, call.clientId, providerAgentId ?? "");
    return { request, medium: { medium, to, from }, trunk: null, pinned: null };
  },

  lookup: ({ ultravox }, accountId, { request }, since, deadline) =>
    ultravox.findCalls(accountId, request.callId, since, deadline),

  onOrphan: hangUpOrphan,
};

/** Ends a provider call that has our call id but is not the accepted one. The client does not pay for it. */
export async function hangUpOrphan(
  tx: Tx,
  callId: string,
  providerAccountId: string,
  { providerCallId, endedAt }: ProviderCall,
) {
  if (endedAt) return;
  const [call] = await tx.select({ ours: calls.providerCallId }).from(calls).where(eq(calls.id, callId));
  if (call?.ours === providerCallId) return;
  await enqueue(tx, "calls.hangUpOrphan", { callId, providerAccountId, providerCallId }, { key: providerCallId });
}

/** Nothing has been sent yet, so a vault failure means that nothing happened. */
async function openPinned(vault: Vault, pinned: SealedTemplate) {
  try {
    return await openTemplate(vault, pinned);
  } catch (cause) {
    throw new ProviderError("unavailable", "The secrets of the agent's tools could not be decrypted.", { cause });
  }
}

type Known = { config: AgentConfig; variables: Values; voice: VoiceRow | null; accountId: string };

/** The voice must be in the same provider account as the agent. */
function overridesFor(
  { voiceId, firstSpeaker, greeting }: CreateCall,
  { config, variables, voice, accountId }: Known,
): Overrides {
  const hasOpening = firstSpeaker !== undefined || greeting !== undefined;
  // The provider does not fill in variables of an override.
  const own = config.greeting === null ? null : render(config.greeting, variables);
  const given = greeting === undefined ? own : filledGreeting(greeting, variables);
  const opening = { firstSpeaker: firstSpeaker ?? config.firstSpeaker, greeting: given };
  const chosen = voiceId === undefined ? {} : { voiceId, voice: usableVoice(voiceId, voice, accountId) };
  return { ...(hasOpening ? { opening } : {}), ...chosen };
}

/** A call's own greeting may use the variables of its agent. */
function filledGreeting(greeting: string, variables: Values): string {
  const details = [...oddMarksIn(greeting), ...variablesIn(greeting)]
    .filter((name) => !Object.hasOwn(variables, name))
    .map((name) => ({ path: "greeting", message: `The agent has no variable {{${name}}}.` }));
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
  return render(greeting, variables);
}

async function readVoice(tx: Tx, id: string): Promise<VoiceRow | null> {
  const [voice] = await tx.select().from(voices).where(eq(voices.id, id));
  return voice ?? null;
}

function usableVoice(id: string, voice: VoiceRow | null, providerAccountId: string): string {
  if (!voice || voice.status === "deleted") throw new ApiError("voice_not_found", `There is no voice ${id}.`);
  const notActive = (message: string) =>
    new ApiError("voice_not_active", message, { details: [{ path: "voiceId", message }] });
  if (voice.status !== "active" || !voice.providerVoiceId) throw notActive(`Voice ${id} is ${voice.status}.`);
  if (voice.providerAccountId !== providerAccountId) {
    throw notActive(`Voice ${id} belongs to another provider account than the agent. Use a voice of the same account.`);
  }
  return voice.providerVoiceId;
}

type RequestedCall = Pick<
  CallRow,
  "id" | "variables" | "joinTimeoutSeconds" | "maxDurationSeconds" | "recordingEnabled" | "overrides"
>;

function requestOf(call: RequestedCall, clientId: string, providerAgentId: string): PlaceRequest["request"] {
  const { voice, opening } = (call.overrides ?? {}) as Overrides;
  return {
    callId: call.id,
    clientId,
    providerAgentId,
    variables: call.variables,
    joinTimeoutSeconds: call.joinTimeoutSeconds,
    maxDurationSeconds: call.maxDurationSeconds,
    recordingEnabled: call.recordingEnabled,
    overrides: { voice, opening },
  };
}
