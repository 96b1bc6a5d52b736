import { and, asc, eq, getTableColumns } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { clients } from "../../db/schema/clients.ts";
import { inboundRoutes } from "../../db/schema/telephony.ts";
import type { Context, Principal } from "../core/context.ts";
import { bySpecificity, overlap } from "./pattern.ts";

/** Of an account, what is answered there by rule; of those that are not the client's own, not whose they are. */
export type Everyones = (accountId: string) => Promise<{ id: string; pattern: string; isOwn: boolean }[]>;

/** The look over the wall that a client needs who wants a number of an account that he shares. */
export function everyones({ db, principal, requestId }: Pick<Context, "db" | "requestId"> & { principal: Principal }) {
  const look: Everyones = (accountId) =>
    db.asSystem(
      async (tx) => {
        const { id, pattern, clientId, providerAccountId } = inboundRoutes;
        const rows = await tx
          .select({ id, pattern, clientId })
          .from(inboundRoutes)
          .where(eq(providerAccountId, accountId))
          .orderBy(asc(id));
        return rows.map((row) => ({ id: row.id, pattern: row.pattern, isOwn: row.clientId === principal.clientId }));
      },
      { mode: "read", requestId },
    );
  return look;
}

/** In a transaction of the house: every rule of an account, whoever's, in the order in which they came. */
export const rulesOfAccount = (tx: Tx, accountId: string) =>
  tx
    .select({
      ...getTableColumns(inboundRoutes),
      providerAgentId: agents.providerAgentId,
      agentState: agents.status,
      clientStatus: clients.status,
    })
    .from(inboundRoutes)
    .innerJoin(agents, and(eq(agents.clientId, inboundRoutes.clientId), eq(agents.id, inboundRoutes.agentId)))
    .innerJoin(clients, eq(clients.id, inboundRoutes.clientId))
    .where(eq(inboundRoutes.providerAccountId, accountId))
    .orderBy(asc(inboundRoutes.createdAt), asc(inboundRoutes.id));

export type AccountRule = Awaited<ReturnType<typeof rulesOfAccount>>[number];
type Answering = AccountRule & { providerAgentId: string };

/** openapi: SipConfig.allowedAgents. */
export const mostRules = 20;
const noPlace = `The provider account takes ${mostRules} rules at most. Use a pattern for several numbers, or an account of your own.`;
const anothers =
  "An earlier rule of this provider account answers what this one fits, or part of it. Change the pattern, or use an account of your own.";

/**
 * Which rules answer, in the order in which they are asked, and of the others why they do not. First come, first served:
 * what an earlier rule fits is its client's alone, even while that rule is off, and a later rule takes nobody's place. A
 * client's `rank` orders his own rules and fills his own places; between clients no order matters, for nothing fits both.
 */
export function whoAnswers(rules: readonly AccountRule[], places: number) {
  const reasons = new Map<string, string>();
  const standing: AccountRule[] = [];
  for (const rule of rules) {
    if (standing.some((each) => each.clientId !== rule.clientId && overlap(each.pattern, rule.pattern))) {
      reasons.set(rule.id, anothers);
    } else standing.push(rule);
  }
  const able = standing.filter((rule): rule is Answering => {
    const reason = silenceOf(rule);
    if (reason) reasons.set(rule.id, reason);
    return reason === null;
  });
  const placesOf = Map.groupBy(able.slice(0, places), ({ clientId }) => clientId);
  const answering = [...placesOf].flatMap(([clientId, { length }]) => {
    const own = able.filter((rule) => rule.clientId === clientId).toSorted(byRank);
    for (const { id } of own.slice(length)) reasons.set(id, noPlace);
    return own.slice(0, length);
  });
  for (const { id, clientId } of able) if (!placesOf.has(clientId)) reasons.set(id, noPlace);
  return { answering, reasons };
}

function silenceOf({ enabled, agentState, providerAgentId, clientStatus }: AccountRule): string | null {
  if (!enabled) return "The rule is switched off.";
  if (agentState !== "active" || providerAgentId === null) return `The agent is ${agentState}.`;
  return clientStatus === "suspended" ? "The client is suspended." : null;
}

const byRank = (a: Answering, b: Answering) =>
  a.rank - b.rank || bySpecificity(a.pattern, b.pattern) || (a.id < b.id ? -1 : 1);
