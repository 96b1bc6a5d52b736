import { and, eq, ne, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { agents, agentVersions } from "../../../db/schema/agents.ts";
import { calls } from "../../../db/schema/calls.ts";
import { clients } from "../../../db/schema/clients.ts";
import { inboundRoutes } from "../../../db/schema/telephony.ts";
import { toolsOf } from "../../agents/references.ts";
import { AgentConfig } from "../../agents/schema.ts";
import { fundsOf, holdIfCovered } from "../../billing/ledger.ts";
import type { ProviderCall } from "../../ports/ultravox.ts";
import { onlyCallee } from "../../telephony/pattern.ts";
import { longestCost } from "../create/longest-cost.ts";
import type { CallRow } from "../service.ts";
import { acceptCall } from "./accept.ts";
import { readParty } from "./party.ts";

const uncovered = "The balance does not cover this call. It is hung up as soon as it is answered.";
const suspended = "The client is suspended. The call is hung up as soon as it is answered.";
const notActive = "The agent is not active. The call is hung up as soon as it is answered.";

/**
 * Creates the row of a call that this API did not place, for the agent that has it. The provider has started the call
 * already, so it is charged whatever the balance. A call that is not allowed is ended as soon as possible. Concurrent events
 * of the same provider call create exactly one row. Returns its id.
 */
export async function adoptCall(tx: Tx, agentId: string, accountId: string, reported: ProviderCall): Promise<string> {
  const { agent, clientStatus, config } = await agentOf(tx, agentId);
  const parties = reported.isInbound ? await partiesOf(tx, { agentId, accountId }, reported) : noParties;
  const [call] = await tx
    .insert(calls)
    .values({
      id: newId("call"),
      agentId,
      agentVersion: agent.version,
      direction: reported.medium === "web" ? "web" : reported.isInbound ? "inbound" : "outbound",
      medium: reported.medium,
      ...parties,
      status: "queued",
      variables: {},
      metadata: {},
      maxDurationSeconds: config.maxDurationSeconds,
      joinTimeoutSeconds: config.joinTimeoutSeconds,
      recordingEnabled: reported.recordingEnabled,
      providerAccountId: accountId,
      providerCallId: reported.providerCallId,
    })
    .onConflictDoNothing({ target: [calls.providerAccountId, calls.providerCallId] })
    .returning();
  if (!call) return existingCall(tx, accountId, reported);
  const [funds, tools] = await Promise.all([fundsOf(tx), toolsOf(tx, config)]);
  const covered = await holdIfCovered(tx, call.id, longestCost(funds.price, call, config, tools), funds);
  const refusal = refusalOf({ covered, agentStatus: agent.status, clientStatus });
  await acceptCall(tx, await refuseIf(tx, call, refusal), reported);
  return call.id;
}

const noParties = { to: null, toRaw: null, from: null, fromRaw: null, fromStatus: null };

/** Caller and called number. The provider does not always report the called number; if exactly one number leads to the agent, it is that one. */
async function partiesOf(tx: Tx, of: { agentId: string; accountId: string }, { fromRaw, toRaw }: ProviderCall) {
  const called = readParty(toRaw);
  const to = (await onlyNumberOf(tx, of)) ?? called.number;
  const caller = readParty(fromRaw, to);
  return { to, toRaw, from: caller.number, fromRaw, fromStatus: caller.status };
}

async function onlyNumberOf(tx: Tx, { agentId, accountId }: { agentId: string; accountId: string }) {
  const routes = await tx
    .select({ pattern: inboundRoutes.pattern })
    .from(inboundRoutes)
    .where(
      and(
        eq(inboundRoutes.agentId, agentId),
        eq(inboundRoutes.providerAccountId, accountId),
        eq(inboundRoutes.enabled, true),
        ne(inboundRoutes.status, "waiting"),
      ),
    )
    .limit(2);
  return routes.length === 1 ? onlyCallee(routes[0]!.pattern) : null;
}

function refusalOf(at: { covered: boolean; agentStatus: string; clientStatus: string }): string | null {
  if (at.clientStatus === "suspended") return suspended;
  if (!at.covered) return uncovered;
  return at.agentStatus === "active" ? null : notActive;
}

async function agentOf(tx: Tx, agentId: string) {
  const [found] = await tx
    .select({ agent: agents, clientStatus: clients.status, config: agentVersions.config })
    .from(agents)
    .innerJoin(clients, eq(clients.id, agents.clientId))
    .innerJoin(
      agentVersions,
      and(
        eq(agentVersions.clientId, agents.clientId),
        eq(agentVersions.agentId, agents.id),
        sql`${agentVersions.version} = greatest(${agents.version}, 1)`,
      ),
    )
    .where(eq(agents.id, agentId));
  if (!found) throw new Error(`No agent ${agentId}.`);
  return { agent: found.agent, clientStatus: found.clientStatus, config: AgentConfig.parse(found.config) };
}

async function existingCall(tx: Tx, accountId: string, { providerCallId }: ProviderCall): Promise<string> {
  const [known] = await tx
    .select({ id: calls.id })
    .from(calls)
    .where(and(eq(calls.providerAccountId, accountId), eq(calls.providerCallId, providerCallId)));
  if (!known) throw new Error(`The provider's call ${providerCallId} belongs to another client.`);
  return known.id;
}

async function refuseIf(tx: Tx, call: CallRow, refusal: string | null): Promise<CallRow> {
  if (refusal === null) return call;
  const [refused] = await tx
    .update(calls)
    .set({ hangUpWhenJoined: true, failureReason: refusal })
    .where(eq(calls.id, call.id))
    .returning();
  return refused!;
}
