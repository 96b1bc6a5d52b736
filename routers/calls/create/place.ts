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
import type { Call, CreateCall } from "../schema.ts";
import { acceptCall, type CallRow, failCall, getCall, lockCall, markCallUnknown } from "../service.ts";
import { type Line, resolveMedium, type SealedTrunk, toProviderMedium, trunkFor } from "./medium.ts";
import { longestCost } from "./pinned-version.ts";

/** What the provider is to be asked, with all that is secret still sealed. */
type Asked = {
  request: Omit<CallRequest, "medium" | "pinned">;
  line: Line;
  trunk: SealedTrunk | null;
  pinned: SealedTemplate | null;
};

type Overrides = NonNullable<CallRequest["overrides"]> & { voiceId?: string };

/** Places a call: the credits are held and the row is written before the provider is asked to dial. */
export const placeCall: ProviderCommand<CreateCall, Asked, ProviderCall, Call> = {
  kind: "calls.create",
  status: 201,
  busyCode: "agent_busy",
  waitWhileBusySeconds: 2,

  async prepare(tx, input, { clientId }) {
    const { agent, config, version } = await agentForCall(tx, input.agentId, { version: input.agentVersion });
    const tools = await toolsOf(tx, config);
    const variables = fillVariables(declaredOf(config, tools), input.variables);
    checkValues(usesOf(config, tools), variables);
    const line = await resolveMedium(tx, input.medium);
    const trunk = await trunkFor(tx, line);
    const overrides = await overridesFor(tx, input, { config, variables, accountId: agent.providerAccountId });
    const row = {
      id: newId("call"),
      agentId: agent.id,
      agentVersion: version,
      direction: line.medium === "web" ? "web" : "outbound",
      ...line,
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
    await holdLongest(tx, call!, config);
    const request = requestOf(call!, clientId, agent.providerAgentId ?? "");
    return {
      subjectId: row.id,
      providerAccountId: agent.providerAccountId,
      request: { request, line, trunk, pinned },
    };
  },

  async execute({ ultravox, vault }, accountId, { request, line, trunk, pinned }, deadline) {
    const medium = await toProviderMedium(vault, request.clientId, line, trunk);
    const template = pinned ? { pinned: await unsealed(vault, pinned) } : {};
    return ultravox.createCall(accountId, { ...request, medium, ...template }, deadline);
  },

  async onAccepted(tx, subjectId, got) {
    await acceptCall(tx, await lockCall(tx, subjectId), got);
  },

  async onFailed(tx, subjectId, { message }) {
    await failCall(tx, await lockCall(tx, subjectId), message);
  },

  async onUnknown(tx, subjectId) {
    const call = await lockCall(tx, subjectId);
    if (call.status === "queued") await markCallUnknown(tx, call);
  },

  read: getCall,

  /** For looking it up alone: a call that may have been dialled is never dialled again. */
  async rebuildRequest(tx, subjectId) {
    const [found] = await tx
      .select({ call: calls, providerAgentId: agents.providerAgentId })
      .from(calls)
      .innerJoin(agents, eq(agents.id, calls.agentId))
      .where(eq(calls.id, subjectId));
    const { call, providerAgentId } = found!;
    const { medium, to, from } = call;
    const request = requestOf(call, call.clientId, providerAgentId ?? "");
    return { request, line: { medium, to, from }, trunk: null, pinned: null };
  },

  lookup: ({ ultravox }, accountId, { request }, since, deadline) =>
    ultravox.findCalls(accountId, request.callId, since, deadline),

  onOrphan: hangUpOrphan,
};

/** A call at the provider that nobody here knows as his: it is ended as soon as it can be, and the client does not pay for it. The one that was taken is none. */
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

/** Nothing has been sent yet: should the vault not open, nothing has happened. */
async function unsealed(vault: Vault, pinned: SealedTemplate) {
  try {
    return await openTemplate(vault, pinned);
  } catch (cause) {
    throw new ProviderError("unavailable", "The secrets of the agent's tools could not be opened", { cause });
  }
}

/** Holds what the call can cost at most. */
async function holdLongest(tx: Tx, call: CallRow, config: AgentConfig) {
  const price = await currentPrice(tx);
  await holdCredits(tx, call.id, await longestCost(tx, price, call, config), price);
}

/** The voice must stand in the account in which the agent does. */
async function overridesFor(
  tx: Tx,
  { voiceId, firstSpeaker, greeting }: CreateCall,
  { config, variables, accountId }: { config: AgentConfig; variables: Values; accountId: string },
): Promise<Overrides> {
  const opens = firstSpeaker !== undefined || greeting !== undefined;
  // The provider fills in no variables here.
  const own = config.greeting === null ? null : render(config.greeting, variables);
  const given = greeting === undefined ? own : filledGreeting(greeting, variables);
  const opening = { firstSpeaker: firstSpeaker ?? config.firstSpeaker, greeting: given };
  return {
    ...(opens ? { opening } : {}),
    ...(voiceId === undefined ? {} : { voiceId, voice: await voiceFor(tx, voiceId, accountId) }),
  };
}

/** A call's own greeting may use the variables of its agent. */
function filledGreeting(greeting: string, variables: Values): string {
  const details = [...oddMarksIn(greeting), ...variablesIn(greeting)]
    .filter((name) => !Object.hasOwn(variables, name))
    .map((name) => ({ path: "greeting", message: `uses {{${name}}}, which is no variable of the agent.` }));
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
  return render(greeting, variables);
}

async function voiceFor(tx: Tx, id: string, providerAccountId: string): Promise<string> {
  const [voice] = await tx.select().from(voices).where(eq(voices.id, id));
  if (!voice || voice.status === "deleted") throw new ApiError("voice_not_found", `There is no voice ${id}.`);
  const refused = (message: string) =>
    new ApiError("voice_not_active", message, { details: [{ path: "voiceId", message }] });
  if (voice.status !== "active" || !voice.providerVoiceId) throw refused(`Voice ${id} is ${voice.status}.`);
  if (voice.providerAccountId !== providerAccountId) {
    throw refused(`Voice ${id} stands in another account of the voice provider than the agent.`);
  }
  return voice.providerVoiceId;
}

function requestOf(call: CallRow, clientId: string, providerAgentId: string): Asked["request"] {
  const { voice, opening } = (call.overrides ?? {}) as Overrides;
  return {
    callId: call.id,
    clientId,
    providerAgentId,
    variables: call.variables,
    joinTimeoutSeconds: call.joinTimeoutSeconds,
    maxDurationSeconds: call.maxDurationSeconds,
    recordingEnabled: call.recordingEnabled,
    overrides: { ...(voice === undefined ? {} : { voice }), ...(opening === undefined ? {} : { opening }) },
  };
}
