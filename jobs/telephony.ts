import { and, asc, eq, isNotNull, sql } from "drizzle-orm";
import { agents } from "../db/schema/agents.ts";
import { inboundRoutes } from "../db/schema/telephony.ts";
import { platformAccount } from "../routers/credentials/accounts.ts";
import { ProviderError } from "../routers/ports/provider-error.ts";
import { toUserPattern } from "../routers/telephony/pattern.ts";
import {
  maxRoutesPerAccount,
  numbersOfAccount,
  routesOfAccount,
  selectAnsweringRoutes,
} from "../routers/telephony/rules.ts";
import { sweepInto } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";

type Plan = Awaited<ReturnType<typeof readPlan>>;
type Answers = ReturnType<typeof selectAnsweringRoutes>;

/**
 * Sends the provider the routing rules of an account, all of them in one request. Rules there that name agents of no
 * client belong to an operator, and stay. Two concurrent runs could send an older plan last. So each run compares the plan
 * after sending, successful or not, and repeats if it changed. Only the last plan is recorded.
 */
export const sync: Task<"telephony.sync"> = {
  async run({ accountId }, ctx) {
    for (let plan = await readPlan(ctx, accountId); ; ) {
      const sent = await sendRules(ctx, accountId, plan).catch((error: unknown) => ({ error }));
      const after = await readPlan(ctx, accountId);
      const isSame = essence(plan) === essence(after);
      plan = after;
      if (!isSame) continue;
      if ("error" in sent) throw sent.error;
      return record(ctx, plan, sent);
    }
  },
};

/** The part of a plan that decides which rules are sent, and the reason given for a rule that is not. */
const essence = ({ rules, ours, numbers }: Plan) =>
  JSON.stringify([
    numbers,
    rules.map(({ status: _, statusReason: __, updatedAt: ___, description: ____, ...rest }) => rest),
    ours,
  ]);

async function sendRules(ctx: JobContext, accountId: string, { rules, ours, numbers }: Plan): Promise<Answers> {
  const { ultravox } = ctx.providers;
  const deadline = { signal: AbortSignal.timeout(20_000) };
  const { allowedAgents: there } = await ultravox.getSip(accountId, deadline);
  const foreign = there.filter(({ providerAgentId }) => !ours.includes(providerAgentId));
  const answers = selectAnsweringRoutes(rules, numbers, Math.max(0, maxRoutesPerAccount - foreign.length));
  const listOf = (rules: Answers["answering"]) => [
    ...foreign,
    ...rules.map(({ providerAgentId, pattern }) => ({ providerAgentId, toUserPattern: toUserPattern(pattern) })),
  ];
  const texts = there.map((rule) => JSON.stringify(rule));
  if (JSON.stringify(listOf(answers.answering)) === JSON.stringify(there)) return answers;
  const update = (rules: Answers["answering"]) => {
    ctx.fence.check();
    return ultravox.updateSip(accountId, { allowedAgents: listOf(rules) }, deadline);
  };
  const isThere = (rule: Answers["answering"][number]) => texts.includes(JSON.stringify(listOf([rule]).at(-1)));
  const refused = await updateInParts(answers.answering, isThere, update);
  for (const [id, reason] of refused) answers.inactive.set(id, { status: "failed", reason });
  return answers;
}

/**
 * Sends all rules. If the provider refuses the list, the rules that it already has stay, and the new ones are added in
 * halves, so that one refused rule does not stop the others. Returns the refused rules with the reasons.
 */
async function updateInParts<R extends { id: string }>(
  rules: readonly R[],
  isThere: (rule: R) => boolean,
  update: (rules: R[]) => Promise<unknown>,
): Promise<Map<string, string>> {
  const refused = new Map<string, string>();
  const taken = new Set(rules.filter(isThere));
  const tryAlso = async (some: readonly R[]): Promise<void> => {
    try {
      await update(rules.filter((rule) => taken.has(rule) || some.includes(rule)));
      for (const rule of some) taken.add(rule);
    } catch (error) {
      const isRefused = error instanceof ProviderError && error.kind === "refused" && mayBeOneRule(error);
      const [first, ...others] = some;
      if (!isRefused || !first) throw error;
      if (others.length === 0) {
        refused.set(first.id, `The voice provider refused this rule: ${error.message}`.slice(0, 500));
        return;
      }
      const middle = Math.ceil(some.length / 2);
      await tryAlso(some.slice(0, middle));
      await tryAlso(some.slice(middle));
    }
  };
  const fresh = rules.filter((rule) => !taken.has(rule));
  await tryAlso(fresh);
  // No new rule was accepted: the removals are sent alone.
  if (refused.size > 0 && refused.size === fresh.length) await update([...taken]);
  return refused;
}

/** The refusal is about the list, not about the key or the account. */
const mayBeOneRule = ({ status }: ProviderError) => status === 400 || status === 409 || status === 422;

const readPlan = (ctx: JobContext, accountId: string) =>
  ctx.asSystem(
    async (tx) => {
      const rules = await routesOfAccount(tx, accountId);
      const known = await tx
        .select({ id: agents.providerAgentId })
        .from(agents)
        .where(and(eq(agents.providerAccountId, accountId), isNotNull(agents.providerAgentId)))
        .orderBy(asc(agents.providerAgentId));
      // A client's own account belongs to that client alone, so its numbers are not limited.
      const numbers = accountId === platformAccount ? await numbersOfAccount(tx, accountId) : null;
      return { rules, numbers, ours: known.map(({ id }) => id ?? "") };
    },
    { mode: "read" },
  );

/** Updates only rows that differ. A rule that was changed meanwhile is `pending` again, and its own job records it. */
async function record(ctx: JobContext, { rules }: Plan, { inactive }: Answers) {
  await ctx.asSystem(async (tx) => {
    for (const row of rules) {
      const { status, reason: statusReason } = inactive.get(row.id) ?? { status: "live", reason: null };
      const result = { status, statusReason } as const;
      if (result.status === row.status && result.statusReason === row.statusReason) continue;
      await tx
        .update(inboundRoutes)
        .set(result)
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
    await sweepInto(ctx, "telephony.sweep", "telephony.sync", async (tx) => {
      const accounts = await tx
        .selectDistinctOn([inboundRoutes.providerAccountId], {
          accountId: inboundRoutes.providerAccountId,
          clientId: inboundRoutes.clientId,
        })
        .from(inboundRoutes)
        .orderBy(inboundRoutes.providerAccountId);
      return accounts.map(({ accountId, clientId }) => ({ clientId, payload: { accountId }, key: accountId }));
    });
  },
};
