import { sql } from "drizzle-orm";
import { enqueue } from "../db/queue.ts";
import { removeOrphan } from "../routers/agents/create.ts";
import { agentToCompare, type Compared, noteComparison, realignAgent, recreateAgent } from "../routers/agents/drift.ts";
import { openTemplate } from "../routers/agents/template.ts";
import { callProvider, type Settlement } from "../routers/core/attempt-provider-command.ts";
import { ApiError } from "../routers/core/errors.ts";
import { openIntent, settleIntent } from "../routers/core/intents.ts";
import type { AnyProviderCommand, ProviderCommand } from "../routers/core/provider-command.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import { roundRobin, sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";

const deadline = () => ({ signal: AbortSignal.timeout(20_000) });
const atOnce = 300;

/** Finds agents whose copy at the provider nobody has looked at for a day. What it takes is not taken again for an hour. */
export const sweep: Task<"agents.sweep"> = {
  async run(_payload, ctx) {
    const isDue = sql`a.status = 'active' and a.compared_at < statement_timestamp() - interval '24 hours'`;
    await sweepInto(ctx, "agents.sweep", "agents.compare", async (tx) => {
      const due = await tx.execute<{ clientId: string; agentId: string }>(sql`
        update agents a set compared_at = clock_timestamp() - interval '23 hours'
        from (select a.client_id, a.id from ${roundRobin(
          sql`select a.client_id, a.id, a.compared_at as due_at
            from agents a join clients c on c.id = a.client_id and c.status = 'active' where ${isDue} order by a.compared_at`,
          atOnce,
        )} first join agents a on a.client_id = first.client_id and a.id = first.id
          where ${isDue} for no key update of a skip locked) due
        where a.client_id = due.client_id and a.id = due.id
        returning a.client_id as "clientId", a.id as "agentId"`);
      return due.map(({ clientId, agentId }) => ({ clientId, payload: { agentId, resend: false }, key: agentId }));
    });
  },
};

/**
 * Holds the provider's copy of an agent against what is live here, and puts it right. What is being changed is left alone:
 * the change sends the whole of it anyway. A provider that is away is asked again in an hour. What is to be sent whatever is
 * found there is tried until the provider has taken it: no later comparison would see that it has not.
 */
export const compare: Task<"agents.compare"> = {
  async run({ agentId, resend }, ctx) {
    const live = await ctx.asClient((tx) => agentToCompare(tx, agentId)).catch(leaveAlone);
    if (!live) return;
    const { ultravox, vault } = ctx.providers;
    try {
      const copy = await ultravox.getAgent(live.accountId, live.providerAgentId, deadline());
      const compared = { id: agentId, version: live.version, providerRevisionId: live.providerRevisionId };
      if (!copy) return await bringBack(ctx, compared, live.accountId);
      const template = await openTemplate(vault, live);
      const fields = ultravox.differences(copy, template);
      // What was sent once and would not be sent today is a difference, though nobody touched it there.
      const isTaken = live.withholdsVoice && fields.includes("voice");
      const isSame =
        !isTaken && live.providerRevisionId && copy.revisionId
          ? live.providerRevisionId === copy.revisionId
          : fields.length === 0;
      if (isSame && !resend) return await ctx.asClient((tx) => noteComparison(tx, agentId));
      if (!isSame)
        ctx.log.warn({ agent_id: agentId, fields }, "an agent was changed at the provider, and is put right");
      const came = await ask(ctx, realignAgent, { ...compared, providerAgentId: copy.providerAgentId });
      if (resend && came !== "accepted") throw new Error(`The agent was to be sent to the provider again: ${came}.`);
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      ctx.log.warn({ agent_id: agentId, err: error }, "an agent could not be compared with the provider's copy");
      await ctx.asClient((tx) => noteComparison(tx, agentId, { again: true }));
      if (resend) throw error; // somebody waits for this one: it is tried again sooner
    }
  },

  /** By a key of its own: a change that has queued another meanwhile does not wait for this one's hour. */
  async onExhausted({ agentId, resend }, ctx) {
    if (!resend) return;
    const later = { key: `${agentId}:resend:later`, delaySeconds: 3600 };
    await ctx.asClient((tx) => enqueue(tx, "agents.compare", { agentId, resend }, later));
  },
};

/** The provider has it no more under the id that we know: perhaps under another, else it is made anew. */
async function bringBack(ctx: JobContext, compared: Compared, accountId: string) {
  const agentId = compared.id;
  const [copy, ...others] = await ctx.providers.ultravox.findAgents(accountId, agentId, deadline());
  ctx.log.error({ agent_id: agentId, alert: true }, "an agent is gone at the provider, and is made anew");
  if (!copy) {
    await ask(ctx, recreateAgent, compared);
    return;
  }
  await ask(ctx, realignAgent, { ...compared, providerAgentId: copy.providerAgentId });
  await ctx.asClient(async (tx) => {
    for (const other of others) await removeOrphan(tx, agentId, accountId, other);
  });
}

/**
 * The three steps of an outbound that nobody waits for, and what came of it; `busy` when it could not begin. Its safety job
 * finishes what dies here.
 */
async function ask<I, A, G, O>(
  ctx: JobContext,
  what: ProviderCommand<I, A, G, O>,
  input: I,
): Promise<Settlement<G>["outcome"] | "busy" | "unknown"> {
  const { clientId } = ctx;
  if (clientId === null) throw new Error("An agent belongs to a client.");
  const requestId = ctx.requestId ?? ctx.jobId;
  const opening = { principal: "system", claim: null, requestId, auditInput: input };
  const opened = await ctx.asClient((tx) => openIntent(tx, what, input, clientId, opening)).catch(leaveAlone);
  if (!opened) return "busy";
  ctx.fence.check();
  const { providerAccountId: accountId, request } = opened;
  const call = { providers: ctx.providers, accountId, request, deadline: deadline(), log: ctx.log };
  const settlement = await callProvider(what, call);
  if (settlement?.outcome !== "accepted") {
    const reason = settlement?.message ?? "no clear answer";
    ctx.log.warn({ reason, kind: what.kind }, "an agent could not be put right at the provider");
  }
  if (!settlement) return "unknown";
  await ctx.asClient((tx) =>
    settleIntent(tx, what as unknown as AnyProviderCommand, opened.intentId, settlement as Settlement<never>, null),
  );
  return settlement.outcome;
}

/** It was deleted, has failed, or is being changed at this moment: whoever did that wins. */
function leaveAlone(error: unknown): null {
  if (error instanceof ApiError && /^agent_(busy|not_active|not_found)$/.test(error.errorCode)) return null;
  throw error;
}
