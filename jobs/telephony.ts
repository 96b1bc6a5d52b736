import { and, asc, eq, isNotNull, sql } from "drizzle-orm";
import { enqueueEach } from "../db/queue.ts";
import { agents } from "../db/schema/agents.ts";
import { inboundRoutes } from "../db/schema/telephony.ts";
import { platformAccount } from "../routers/credentials/accounts.ts";
import { toUserPattern } from "../routers/telephony/pattern.ts";
import { mostRules, numbersOfAccount, rulesOfAccount, whoAnswers } from "../routers/telephony/rules.ts";
import type { JobContext, Task } from "./task.ts";

type Plan = Awaited<ReturnType<typeof readPlan>>;
type Answers = ReturnType<typeof whoAnswers>;

/**
 * Tells the provider who answers which number, all of an account at once. Rules there that name agents of nobody here
 * are an operator's own, and stay. Two that run at once could tell an older plan last: whoever finds it changed when he has
 * told it, or has tried to, does it again; so what was told last is what stands here, and only that is recorded.
 */
export const sync: Task<"telephony.sync"> = {
  async run({ accountId }, ctx) {
    for (let plan = await readPlan(ctx, accountId); ; ) {
      const told = await tell(ctx, accountId, plan).catch((error: unknown) => ({ error }));
      const after = await readPlan(ctx, accountId);
      const isSame = essence(plan) === essence(after);
      plan = after;
      if (!isSame) continue;
      if ("error" in told) throw told.error;
      return record(ctx, plan, told);
    }
  },
};

/** What the provider is told depends on this, and so does the reason that a rule is given which answers nobody. */
const essence = ({ rules, ours, numbers }: Plan) =>
  JSON.stringify([
    numbers,
    rules.map(({ state: _, stateReason: __, updatedAt: ___, description: ____, ...rest }) => rest),
    ours,
  ]);

async function tell(ctx: JobContext, accountId: string, { rules, ours, numbers }: Plan): Promise<Answers> {
  const { ultravox } = ctx.providers;
  const deadline = { signal: AbortSignal.timeout(20_000) };
  const { allowedAgents: there } = await ultravox.getSip(accountId, deadline);
  const foreign = there.filter(({ providerAgentId }) => !ours.includes(providerAgentId));
  const answers = whoAnswers(rules, numbers, Math.max(0, mostRules - foreign.length));
  const wanted = [
    ...foreign,
    ...answers.answering.map(({ providerAgentId, pattern }) => ({
      providerAgentId,
      toUserPattern: toUserPattern(pattern),
    })),
  ];
  if (JSON.stringify(wanted) !== JSON.stringify(there)) {
    ctx.fence.check();
    await ultravox.updateSip(accountId, { allowedAgents: wanted }, deadline);
  }
  return answers;
}

const readPlan = (ctx: JobContext, accountId: string) =>
  ctx.asHouse(
    async (tx) => {
      const rules = await rulesOfAccount(tx, accountId);
      const known = await tx
        .select({ id: agents.providerAgentId })
        .from(agents)
        .where(and(eq(agents.providerAccountId, accountId), isNotNull(agents.providerAgentId)))
        .orderBy(asc(agents.providerAgentId));
      // An account of a client's own is the client's whole.
      const numbers = accountId === platformAccount ? await numbersOfAccount(tx, accountId) : null;
      return { rules, numbers, ours: known.map(({ id }) => id ?? "") };
    },
    { mode: "read" },
  );

/** Only where it differs: a rule that was changed meanwhile is `pending` again, and its own job will say. */
async function record(ctx: JobContext, { rules }: Plan, { silent }: Answers) {
  await ctx.asHouse(async (tx) => {
    for (const row of rules) {
      const { state, reason: stateReason } = silent.get(row.id) ?? { state: "live", reason: null };
      const said = { state, stateReason } as const;
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
