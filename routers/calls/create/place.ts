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
import { currentPrice, holdCredits } from "../../billing/ledger.ts";
import { ApiError } from "../../core/errors.ts";
import type { ProviderCommand } from "../../core/provider-command.ts";
import { ProviderError } from "../../ports/provider-error.ts";
import type { CallRequest, ProviderCall } from "../../ports/ultravox.ts";
import type { Vault } from "../../ports/vault.ts";
import { indexMetadata } from "../list/metadata-index.ts";
import type { Call } from "../schema.ts";
import { acceptCall, type CallRow, failCall, getCall, lockCall, markCallUnknown } from "../service.ts";
import { type ResolvedMedium, resolveMedium, type SealedTrunk, toProviderMedium, trunkFor } from "./medium.ts";
import { longestCost } from "./pinned-version.ts";
import type { CreateCall } from "./schema.ts";

/** The provider request, with all secrets still sealed. */
type PlaceRequest = {
  request: Omit<CallRequest, "medium" | "pinned">;
  medium: ResolvedMedium;
  trunk: SealedTrunk | null;
  pinned: SealedTemplate | null;
};

type Overrides = NonNullable<CallRequest["overrides"]> & { voiceId?: string };

/** Places a call. The credits are held and the row is written before the provider dials. */
export const placeCall: ProviderCommand<CreateCall, PlaceRequest, ProviderCall, Call> = {
  kind: "calls.create",
  status: 201,
  busyCode: "agent_busy",
  waitWhileBusySeconds: 2,

  async prepare(tx, input, { clientId }) {
    const { agent, config, version } = await agentForCall(tx, input.agentId, { version: input.agentVersion });
    const tools = await toolsOf(tx, config);
    const variables = fillVariables(declaredOf(config, tools), input.variables);
    checkValues(usesOf(config, tools), variables);
    const medium = await resolveMedium(tx, input.medium);
    const trunk = await trunkFor(tx, medium);
    const overrides = await overridesFor(tx, input, { config, variables, accountId: agent.providerAccountId });
    const row = {
      id: newId("call"),
      agentId: agent.id,
      agentVersion: version,
      direction: medium.medium === "web" ? "web" : "outbound",
      ...medium,
      status: "queued",
      variables,
      metadata: input.metadata,
      overrides: Object.keys(overrides).length > 0 ? overrides : null,
      maxDurationSeconds: input.maxDurationSeconds ?? config.maxDurationSeconds,
      joinTimeoutSeconds: input.joinTimeoutSeconds ?? config.joinTimeoutSeconds,
      recordingEnabled: input.recordingEnabled ?? config.recordingEnabled,
      providerAccountId: agent.providerAccountId,
    } as const;
    const [call] = await tx.insert(calls).values(row).returning();
    await indexMetadata(tx, row.id, row.metadata);
    const pinned = version === agent.version ? null : await fillTemplate(tx, config, variables);
    await holdMaximumCost(tx, call!, config);
    const request = requestOf(call!, clientId, agent.providerAgentId ?? "");
    return {
      subjectId: row.id,
      providerAccountId: agent.providerAccountId,
      request: { request, medium, trunk, pinned },
    };
  },

  async execute({ ultravox, vault }, accountId, { request, medium, trunk, pinned }, deadline) {
    const callMedium = await toProviderMedium(vault, request.clientId, medium, trunk);
    const template = pinned ? { pinned: await openPinned(vault, pinned) } : {};
    return ultravox.createCall(accountId, { ...request, medium: callMedium, ...template }, deadline);
  },

  async onAccepted(tx, subjectId, accepted) {
    await acceptCall(tx, await lockCall(tx, subjectId), accepted);
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

/** Holds the highest possible cost of the call. */
async function holdMaximumCost(tx: Tx, call: CallRow, config: AgentConfig) {
  const price = await currentPrice(tx);
  await holdCredits(tx, call.id, await longestCost(tx, price, call, config), price);
}

/** The voice must be in the same provider account as the agent. */
async function overridesFor(
  tx: Tx,
  { voiceId, firstSpeaker, greeting }: CreateCall,
  { config, variables, accountId }: { config: AgentConfig; variables: Values; accountId: string },
): Promise<Overrides> {
  const hasOpening = firstSpeaker !== undefined || greeting !== undefined;
  // The provider does not fill in variables of an override.
  const own = config.greeting === null ? null : render(config.greeting, variables);
  const given = greeting === undefined ? own : filledGreeting(greeting, variables);
  const opening = { firstSpeaker: firstSpeaker ?? config.firstSpeaker, greeting: given };
  const voice = voiceId === undefined ? {} : { voiceId, voice: await voiceFor(tx, voiceId, accountId) };
  return { ...(hasOpening ? { opening } : {}), ...voice };
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

async function voiceFor(tx: Tx, id: string, providerAccountId: string): Promise<string> {
  const [voice] = await tx.select().from(voices).where(eq(voices.id, id));
  if (!voice || voice.status === "deleted") throw new ApiError("voice_not_found", `There is no voice ${id}.`);
  const notActive = (message: string) =>
    new ApiError("voice_not_active", message, { details: [{ path: "voiceId", message }] });
  if (voice.status !== "active" || !voice.providerVoiceId) throw notActive(`Voice ${id} is ${voice.status}.`);
  if (voice.providerAccountId !== providerAccountId) {
    throw notActive(`Voice ${id} belongs to another provider account than the agent. Use a voice of the same account.`);
  }
  return voice.providerVoiceId;
}

function requestOf(call: CallRow, clientId: string, providerAgentId: string): PlaceRequest["request"] {
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
