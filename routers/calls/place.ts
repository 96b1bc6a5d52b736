import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { agents } from "../../db/schema/agents.ts";
import { calls } from "../../db/schema/calls.ts";
import { agentForCall } from "../agents/service.ts";
import { currentPrice, holdCredits } from "../billing/ledger.ts";
import { holdMicros } from "../billing/price.ts";
import type { Outbound } from "../intents/outbound.ts";
import type { CallMedium, CallRequest, ProviderCall } from "../providers.ts";
import type { Call, CreateCall } from "./schema.ts";
import { acceptCall, type CallRow, failCall, getCall, lockCall, loseCall } from "./service.ts";

/** Places a call: the credits are held and the row is written before the provider is asked to dial. */
export const placeCall: Outbound<CreateCall, CallRequest, ProviderCall, Call> = {
  kind: "calls.create",
  status: 201,

  async intend(tx, input, { clientId }) {
    const { agent, config } = await agentForCall(tx, input.agentId);
    const price = await currentPrice(tx);
    const { medium } = input;
    const telephone = medium.type === "phone";
    const maxDurationSeconds = input.maxDurationSeconds ?? config.maxDurationSeconds;
    const row = {
      id: newId("call"),
      agentId: agent.id,
      agentVersion: agent.version,
      direction: telephone ? "outbound" : "web",
      medium: telephone ? medium.carrier : "web",
      to: telephone ? medium.to : null,
      from: telephone ? medium.from : null,
      status: "queued",
      variables: input.variables,
      metadata: input.metadata,
      maxDurationSeconds,
      joinTimeoutSeconds: config.joinTimeoutSeconds,
      recordingEnabled: config.recordingEnabled,
      providerAccountId: agent.providerAccountId,
    } as const;
    const [call] = await tx.insert(calls).values(row).returning();
    const { joinTimeoutSeconds } = config;
    await holdCredits(
      tx,
      row.id,
      holdMicros(price, { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers: false }),
      price,
    );
    const asked = requestOf(call!, clientId, agent.providerAgentId ?? "");
    return { subjectId: row.id, providerAccountId: agent.providerAccountId, asked };
  },

  ask: ({ ultravox }, accountId, asked, deadline) => ultravox.createCall(accountId, asked, deadline),

  async accepted(tx, subjectId, got) {
    await acceptCall(tx, await lockCall(tx, subjectId), got);
  },

  async failed(tx, subjectId, { message }) {
    await failCall(tx, await lockCall(tx, subjectId), message);
  },

  async lost(tx, subjectId) {
    await loseCall(tx, await lockCall(tx, subjectId));
  },

  read: getCall,

  async recall(tx, subjectId) {
    const [found] = await tx
      .select({ call: calls, providerAgentId: agents.providerAgentId })
      .from(calls)
      .innerJoin(agents, eq(agents.id, calls.agentId))
      .where(eq(calls.id, subjectId));
    return requestOf(found!.call, found!.call.clientId, found!.providerAgentId ?? "");
  },

  find: ({ ultravox }, accountId, asked, since, deadline) =>
    ultravox.findCalls(accountId, asked.callId, since, deadline),

  stray: hangUpStray,
};

/** A call at the provider that nobody here knows as his: it is ended as soon as it can be, and the client does not pay for it. The one that was taken is none. */
export async function hangUpStray(
  tx: Tx,
  callId: string,
  providerAccountId: string,
  { providerCallId, endedAt }: ProviderCall,
) {
  if (endedAt) return;
  const [call] = await tx.select({ ours: calls.providerCallId }).from(calls).where(eq(calls.id, callId));
  if (call?.ours === providerCallId) return;
  await enqueue(tx, "calls.hangUpStray", { callId, providerAccountId, providerCallId }, { key: providerCallId });
}

function requestOf(call: CallRow, clientId: string, providerAgentId: string): CallRequest {
  return {
    callId: call.id,
    clientId,
    providerAgentId,
    medium: mediumOf(call),
    variables: call.variables,
    joinTimeoutSeconds: call.joinTimeoutSeconds,
    maxDurationSeconds: call.maxDurationSeconds,
    recordingEnabled: call.recordingEnabled,
  };
}

function mediumOf({ medium, to, from }: CallRow): CallMedium {
  if (medium === "web" || to === null || from === null) return { kind: "web" };
  return { kind: medium, to, from };
}
