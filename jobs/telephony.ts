import { and, eq, inArray, isNotNull, sql } from "drizzle-orm";
import { enqueueEach } from "../db/queue.ts";
import { agents } from "../db/schema/agents.ts";
import { clients } from "../db/schema/clients.ts";
import { inboundRoutes } from "../db/schema/telephony.ts";
import { toUserPattern } from "../routers/telephony/pattern.ts";
import { rulesOfAccount } from "../routers/telephony/service.ts";
import type { JobContext, Task } from "./task.ts";

/** openapi: SipConfig.allowedAgents. */
const mostRules = 20;
const tooMany = `The provider account takes ${mostRules} rules at most. Use a pattern for several numbers, or an account of your own.`;

type Plan = Awaited<ReturnType<typeof readPlan>>;

/**
 * Tells the provider who answers which number, all of an account at once. Rules there that name agents of nobody here
 * are an operator's own, and stay. Two that run at once each tell what stands at the time; the later one is asked for again
 * by whatever changed in between.
 */
export const sync: Task<"telephony.sync"> = {
  async run({ accountId }, ctx) {
    const plan = await readPlan(ctx, accountId);
    const { ultravox } = ctx.providers;
    const deadline = { signal: AbortSignal.timeout(20_000) };
    const { allowedAgents: there } = await ultravox.getSip(accountId, deadline);
    const foreign = there.filter(({ providerAgentId }) => !plan.ours.has(providerAgentId));
    const taken = plan.rules.slice(0, Math.max(0, mostRules - foreign.length));
    const wanted = [
      ...foreign,
      ...taken.map((rule) => ({ providerAgentId: rule.providerAgentId, toUserPattern: toUserPattern(rule.pattern) })),
    ];
    if (JSON.stringify(wanted) !== JSON.stringify(there)) {
      ctx.fence.check();
      await ultravox.updateSip(accountId, { allowedAgents: wanted }, deadline);
    }
    await record(ctx, plan, new Set(taken.map(({ id }) => id)));
  },
};

async function readPlan(ctx: JobContext, accountId: string) {
  return ctx.asHouse(
    async (tx) => {
      const all = await rulesOfAccount(tx, accountId);
      const suspended = await tx
        .select({ id: clients.id })
        .from(clients)
        .where(
          and(
            eq(clients.status, "suspended"),
            inArray(
              clients.id,
              all.map(({ clientId }) => clientId),
            ),
          ),
        );
      const isOff = (clientId: string) => suspended.some(({ id }) => id === clientId);
      const known = await tx
        .select({ id: agents.providerAgentId })
        .from(agents)
        .where(and(eq(agents.providerAccountId, accountId), isNotNull(agents.providerAgentId)));
      const rules = all.flatMap(({ id, clientId, pattern, enabled, agentState, providerAgentId }) =>
        enabled && agentState === "active" && providerAgentId && !isOff(clientId)
          ? [{ id, pattern, providerAgentId }]
          : [],
      );
      return { all, rules, ours: new Set(known.map(({ id }) => id ?? "")) };
    },
    { mode: "read" },
  );
}

/** Only where it differs: a rule that was changed meanwhile is `pending` again, and its own job will say. */
async function record(ctx: JobContext, { all, rules }: Plan, live: ReadonlySet<string>) {
  const may = new Set(rules.map(({ id }) => id));
  await ctx.asHouse(async (tx) => {
    for (const row of all) {
      const said = live.has(row.id)
        ? ({ state: "live", stateReason: null } as const)
        : ({ state: "failed", stateReason: may.has(row.id) ? tooMany : reasonOf(row) } as const);
      if (said.state === row.state && said.stateReason === row.stateReason) continue;
      await tx
        .update(inboundRoutes)
        .set(said)
        .where(
          and(
            eq(inboundRoutes.clientId, row.clientId),
            eq(inboundRoutes.id, row.id),
            // A Date has lost the microseconds.
            sql`date_trunc('milliseconds', ${inboundRoutes.updatedAt}) = ${row.updatedAt.toISOString()}::timestamptz`,
          ),
        );
    }
  });
}

function reasonOf({ enabled, agentState }: { enabled: boolean; agentState: string }): string {
  if (!enabled) return "The rule is switched off.";
  return agentState === "active" ? "The client is suspended." : `The agent is ${agentState}.`;
}

export const sweep: Task<"telephony.sweep"> = {
  async run(_payload, ctx) {
    await ctx.asHouse(async (tx) => {
      const accounts = await tx
        .selectDistinctOn([inboundRoutes.providerAccountId], {
          accountId: inboundRoutes.providerAccountId,
          clientId: inboundRoutes.clientId,
        })
        .from(inboundRoutes)
        .orderBy(inboundRoutes.providerAccountId);
      const each = accounts.map(({ accountId, clientId }) => ({ clientId, payload: { accountId }, key: accountId }));
      await enqueueEach(tx, "telephony.sync", each);
    });
  },
};
