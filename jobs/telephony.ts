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
    rules.map(({ status: _, statusReason: __, updatedAt: ___, description: ____, ...rest }) => rest),
    ours,
  ]);

async function tell(ctx: JobContext, accountId: string, { rules, ours, numbers }: Plan): Promise<Answers> {
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
 * Tells all rules at once. If the provider refuses the list, those that it has already stay, and the new ones are added in
 * halves, so that a rule which it does not take keeps nobody else's from answering. The result: which it refused, and why.
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
        refused.set(first.id, `The voice provider does not take this rule: ${error.message}`.slice(0, 500));
        return;
      }
      const middle = Math.ceil(some.length / 2);
      await tryAlso(some.slice(0, middle));
      await tryAlso(some.slice(middle));
    }
  };
  const fresh = rules.filter((rule) => !taken.has(rule));
  await tryAlso(fresh);
  // Nothing of what is new was taken: what is to go is taken away all the same.
  if (refused.size > 0 && refused.size === fresh.length) await update([...taken]);
  return refused;
}

/** What is said about the list, and not about the key or the account. */
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
      // An account of a client's own is the client's whole.
      const numbers = accountId === platformAccount ? await numbersOfAccount(tx, accountId) : null;
      return { rules, numbers, ours: known.map(({ id }) => id ?? "") };
    },
    { mode: "read" },
  );

/** Only where it differs: a rule that was changed meanwhile is `pending` again, and its own job will say. */
async function record(ctx: JobContext, { rules }: Plan, { inactive }: Answers) {
  await ctx.asSystem(async (tx) => {
    for (const row of rules) {
      const { status, reason: statusReason } = inactive.get(row.id) ?? { status: "live", reason: null };
      const said = { status, statusReason } as const;
      if (said.status === row.status && said.statusReason === row.statusReason) continue;
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
