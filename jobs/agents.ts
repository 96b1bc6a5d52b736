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
const batchSize = 300;

/** Finds agents whose copy at the provider was not compared for a day. An agent it takes is not taken again for an hour. */
export const sweep: Task<"agents.sweep"> = {
  async run(_payload, ctx) {
    const isDue = sql`a.status = 'active' and a.compared_at < statement_timestamp() - interval '24 hours'`;
    await sweepInto(ctx, "agents.sweep", "agents.compare", async (tx) => {
      const due = await tx.execute<{ clientId: string; agentId: string }>(sql`
        update agents a set compared_at = clock_timestamp() - interval '23 hours'
        from (select a.client_id, a.id from ${roundRobin(
          sql`select a.client_id, a.id, a.compared_at as due_at
            from agents a join clients c on c.id = a.client_id and c.status = 'active' where ${isDue} order by a.compared_at`,
          batchSize,
        )} first join agents a on a.client_id = first.client_id and a.id = first.id
          where ${isDue} for no key update of a skip locked) due
        where a.client_id = due.client_id and a.id = due.id
        returning a.client_id as "clientId", a.id as "agentId"`);
      return due.map(({ clientId, agentId }) => ({ clientId, payload: { agentId, resend: false }, key: agentId }));
    });
  },
};

/**
 * Compares the provider's copy of an agent with the live version, and corrects it. An agent that is being changed is
 * skipped: the change sends all fields in any case. If the provider is unavailable, the next comparison is in an hour.
 * With `resend`, it sends the agent until the provider accepts it: no later comparison would notice that it did not.
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
      // The voice was sent before and would not be sent today: that is a difference, although the copy was not edited.
      const isTaken = live.withholdsVoice && fields.includes("voice");
      const isSame =
        !isTaken && live.providerRevisionId && copy.revisionId
          ? live.providerRevisionId === copy.revisionId
          : fields.length === 0;
      if (isSame && !resend) return await ctx.asClient((tx) => noteComparison(tx, agentId));
      if (!isSame) ctx.log.warn({ agent_id: agentId, fields }, "agent changed at the provider; will be corrected");
      const outcome = await runProviderCommand(ctx, realignAgent, {
        ...compared,
        providerAgentId: copy.providerAgentId,
      });
      if (resend && outcome !== "accepted")
        throw new Error(`The agent could not be sent to the provider again: ${outcome}.`);
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      ctx.log.warn({ agent_id: agentId, err: error }, "agent not compared with the provider's copy");
      await ctx.asClient((tx) => noteComparison(tx, agentId, { again: true }));
      if (resend) throw error; // retried on the job's own schedule, which is sooner
    }
  },

  /** A separate key: a change that has queued another job meanwhile does not wait for this one's hour. */
  async onExhausted({ agentId, resend }, ctx) {
    if (!resend) return;
    const later = { key: `${agentId}:resend:later`, delaySeconds: 3600 };
    await ctx.asClient((tx) => enqueue(tx, "agents.compare", { agentId, resend }, later));
  },
};

/** The provider no longer has the agent under its stored id. It is found by name, or created again. */
async function bringBack(ctx: JobContext, compared: Compared, accountId: string) {
  const agentId = compared.id;
  const [copy, ...others] = await ctx.providers.ultravox.findAgents(accountId, agentId, deadline());
  ctx.log.error({ agent_id: agentId, alert: true }, "agent missing at the provider; will be recreated");
  if (!copy) {
    await runProviderCommand(ctx, recreateAgent, compared);
    return;
  }
  await runProviderCommand(ctx, realignAgent, { ...compared, providerAgentId: copy.providerAgentId });
  await ctx.asClient(async (tx) => {
    for (const other of others) await removeOrphan(tx, agentId, accountId, other);
  });
}

/**
 * Runs a provider command without a request. Returns its outcome, or `busy` when it could not begin. If this process dies,
 * the command's recovery job finishes it.
 */
async function runProviderCommand<I, A, G, O, F, L>(
  ctx: JobContext,
  command: ProviderCommand<I, A, G, O, F, L>,
  input: I,
): Promise<Settlement<G>["outcome"] | "busy" | "unknown"> {
  const { clientId } = ctx;
  if (clientId === null) throw new Error("An agent belongs to a client.");
  const requestId = ctx.requestId ?? ctx.jobId;
  const opening = { principal: "system", claim: null, requestId, auditInput: input };
  const opened = await ctx.asClient((tx) => openIntent(tx, command, input, clientId, opening)).catch(leaveAlone);
  if (!opened) return "busy";
  ctx.fence.check();
  const { providerAccountId: accountId, request } = opened;
  const call = { providers: ctx.providers, accountId, request, deadline: deadline(), log: ctx.log };
  const settlement = await callProvider(command, call);
  if (settlement?.outcome !== "accepted") {
    const reason = settlement?.message ?? "no clear response";
    ctx.log.warn({ reason, kind: command.kind }, "agent not corrected at the provider");
  }
  if (!settlement) return "unknown";
  await ctx.asClient((tx) =>
    settleIntent(tx, command as unknown as AnyProviderCommand, opened, settlement as Settlement<never>, null),
  );
  return settlement.outcome;
}

/** The agent was deleted, has failed, or is being changed: that operation wins. */
function leaveAlone(error: unknown): null {
  if (error instanceof ApiError && /^agent_(busy|not_active|not_found)$/.test(error.errorCode)) return null;
  throw error;
}
