import { and, asc, eq, lt, sql } from "drizzle-orm";
import { enqueueEach } from "../db/queue.ts";
import { agents } from "../db/schema/agents.ts";
import { agentToCompare, type Compared, noteComparison, realignAgent, recreateAgent } from "../routers/agents/drift.ts";
import { removeStray } from "../routers/agents/publish.ts";
import { openTemplate } from "../routers/agents/template.ts";
import { Fault } from "../routers/fault.ts";
import type { AnyOutbound } from "../routers/intents/kinds.ts";
import type { Outbound } from "../routers/intents/outbound.ts";
import { openIntent, type Settlement, settle } from "../routers/intents/service.ts";
import { ProviderError } from "../routers/providers/provider.ts";
import type { JobContext, Task } from "./task.ts";

const deadline = () => ({ signal: AbortSignal.timeout(20_000) });
const atOnce = 300;

/** Finds agents whose copy at the provider nobody has looked at for a day. */
export const sweep: Task<"agents.sweep"> = {
  async run(_payload, ctx) {
    await ctx.asHouse(async (tx) => {
      const due = await tx
        .select({ clientId: agents.clientId, agentId: agents.id })
        .from(agents)
        .where(and(eq(agents.state, "active"), lt(agents.comparedAt, sql`clock_timestamp() - interval '24 hours'`)))
        .orderBy(asc(agents.comparedAt))
        .limit(atOnce);
      const compared = (agentId: string) => ({ payload: { agentId, resend: false }, key: agentId });
      const each = due.map(({ clientId, agentId }) => ({ clientId, ...compared(agentId) }));
      await enqueueEach(tx, "agents.compare", each);
    });
  },
};

/**
 * Holds the provider's copy of an agent against what is live here, and puts it right. What is being changed is left alone:
 * the change sends the whole of it anyway. A provider that is away is asked again in an hour.
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
      const asked = await ask(ctx, realignAgent, { ...compared, providerAgentId: copy.providerAgentId });
      if (!asked && resend) throw new Error("The agent is being changed at this moment.");
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      ctx.log.warn({ agent_id: agentId, err: error }, "an agent could not be compared with the provider's copy");
      await ctx.asClient((tx) => noteComparison(tx, agentId, { again: true }));
      if (resend) throw error; // somebody waits for this one: it is tried again sooner
    }
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
    for (const other of others) await removeStray(tx, agentId, accountId, other);
  });
}

/** The three steps of an outbound that nobody waits for; false when it could not begin. Its safety job finishes what dies here. */
async function ask<I, A, G, O>(ctx: JobContext, what: Outbound<I, A, G, O>, input: I): Promise<boolean> {
  const { clientId } = ctx;
  if (clientId === null) return false;
  const requestId = ctx.requestId ?? ctx.jobId;
  const opening = { principal: "system", claim: null, requestId, auditInput: input };
  const opened = await ctx.asClient((tx) => openIntent(tx, what, input, clientId, opening)).catch(leaveAlone);
  if (!opened) return false;
  ctx.fence.check();
  const settlement = await what
    .ask(ctx.providers, opened.providerAccountId, opened.asked, deadline())
    .then((got): Settlement<G> => ({ outcome: "accepted", got }))
    .catch((error: unknown): Settlement<G> | null => {
      if (!(error instanceof ProviderError)) throw error;
      ctx.log.warn({ err: error, kind: what.kind }, "an agent could not be put right at the provider");
      return error.kind === "unknown" ? null : { outcome: error.kind, message: error.message };
    });
  if (!settlement) return true;
  await ctx.asClient((tx) =>
    settle(tx, what as unknown as AnyOutbound, opened.intentId, settlement as Settlement<never>, null),
  );
  return true;
}

/** It was deleted, has failed, or is being changed at this moment: whoever did that wins. */
function leaveAlone(error: unknown): null {
  if (error instanceof Fault && /^agent_(busy|not_active|not_found)$/.test(error.fault)) return null;
  throw error;
}
