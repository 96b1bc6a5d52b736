import { and, asc, eq, getTableColumns } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { clients } from "../../db/schema/clients.ts";
import { assignedNumbers, inboundRoutes } from "../../db/schema/telephony.ts";
import { needsVariables } from "../agents/variables.ts";
import type { Context, Principal } from "../core/context.ts";
import { bySpecificity, covers } from "./pattern.ts";

/** What is assigned on a shared account; of what is not the client's own, not whose it is. */
export type Assignments = (accountId: string) => Promise<{ pattern: string; isOwn: boolean }[]>;

/** The look across all clients that one needs who wants a number of an account that others share. */
export function assignments({
  db,
  principal,
  requestId,
}: Pick<Context, "db" | "requestId"> & { principal: Principal }) {
  const look: Assignments = (accountId) =>
    db.asSystem(
      async (tx) => {
        const { pattern, clientId, providerAccountId } = assignedNumbers;
        const rows = await tx
          .select({ pattern, clientId })
          .from(assignedNumbers)
          .where(eq(providerAccountId, accountId))
          .orderBy(asc(assignedNumbers.id));
        return rows.map((row) => ({ pattern: row.pattern, isOwn: row.clientId === principal.clientId }));
      },
      { mode: "read", requestId },
    );
  return look;
}

/** In a system transaction: every route of an account, whoever's, in the order in which they came. */
export const routesOfAccount = (tx: Tx, accountId: string) =>
  tx
    .select({
      ...getTableColumns(inboundRoutes),
      providerAgentId: agents.providerAgentId,
      agentState: agents.status,
      requiredVariables: agents.requiredVariables,
      clientStatus: clients.status,
    })
    .from(inboundRoutes)
    .innerJoin(agents, and(eq(agents.clientId, inboundRoutes.clientId), eq(agents.id, inboundRoutes.agentId)))
    .innerJoin(clients, eq(clients.id, inboundRoutes.clientId))
    .where(eq(inboundRoutes.providerAccountId, accountId))
    .orderBy(asc(inboundRoutes.createdAt), asc(inboundRoutes.id));

/** In a system transaction: what is assigned on an account, the narrowest first. */
export async function numbersOfAccount(tx: Tx, accountId: string) {
  const { clientId, id, pattern, maxRoutes } = assignedNumbers;
  const rows = await tx
    .select({ clientId, id, pattern, maxRoutes })
    .from(assignedNumbers)
    .where(eq(assignedNumbers.providerAccountId, accountId))
    .orderBy(asc(id));
  return rows.toSorted((a, b) => bySpecificity(a.pattern, b.pattern));
}

export type AccountRoute = Awaited<ReturnType<typeof routesOfAccount>>[number];
export type AccountNumber = Awaited<ReturnType<typeof numbersOfAccount>>[number];
type Answering = AccountRoute & { providerAgentId: string };
export type Silence = { status: "waiting" | "failed"; reason: string };

/** openapi: SipConfig.allowedAgents. */
export const maxRoutesPerAccount = 20;
const noPlace = `The provider account takes ${maxRoutesPerAccount} rules at most. Use a pattern for several numbers, or an account of your own.`;
export const notAssigned: Silence = {
  status: "waiting",
  reason:
    "The number is not assigned to you on the shared provider account. Ask the operator to assign it, or use a provider account of your own.",
};

/**
 * Which routes answer, in the order in which they are asked, and of the others why they do not. `numbers`: what is assigned
 * on a shared account, where a route answers within its client's own only; null on a client's own account. A later route
 * takes nobody's place; a client's `rank` orders its own routes and fills its own places.
 */
export function selectAnsweringRoutes(
  rules: readonly AccountRoute[],
  numbers: readonly AccountNumber[] | null,
  places: number,
) {
  const silent = new Map<string, Silence>();
  const fail = ({ id }: AccountRoute, reason: string) => silent.set(id, { status: "failed", reason });
  const able = rules.filter((rule): rule is Answering => {
    const reason = silenceOf(rule);
    if (reason) fail(rule, reason);
    else if (numbers && !numberOf(rule, numbers)) silent.set(rule.id, notAssigned);
    return !silent.has(rule.id);
  });
  for (const [number, within] of Map.groupBy(able, (rule) => numberOf(rule, numbers ?? []))) {
    const over = number ? within.toSorted(byRank).slice(number.maxRoutes) : [];
    for (const rule of over) fail(rule, `Within ${number?.pattern} ${number?.maxRoutes} routes answer at most.`);
  }
  const left = able.filter(({ id }) => !silent.has(id));
  const placesOf = Map.groupBy(left.slice(0, places), ({ clientId }) => clientId);
  const answering = [...placesOf].flatMap(([clientId, { length }]) => {
    const own = left.filter((rule) => rule.clientId === clientId).toSorted(byRank);
    for (const rule of own.slice(length)) fail(rule, noPlace);
    return own.slice(0, length);
  });
  for (const rule of left) if (!placesOf.has(rule.clientId)) fail(rule, noPlace);
  return { answering, silent };
}

const numberOf = (rule: AccountRoute, numbers: readonly AccountNumber[]) =>
  numbers.find((number) => number.clientId === rule.clientId && covers(number.pattern, rule.pattern));

function silenceOf(rule: AccountRoute): string | null {
  const { enabled, agentState, providerAgentId, clientStatus, requiredVariables } = rule;
  if (!enabled) return "The rule is switched off.";
  if (agentState !== "active" || providerAgentId === null) return `The agent is ${agentState}.`;
  if (requiredVariables?.length) return needsVariables(requiredVariables);
  return clientStatus === "suspended" ? "The client is suspended." : null;
}

const byRank = (a: Answering, b: Answering) =>
  a.rank - b.rank || bySpecificity(a.pattern, b.pattern) || (a.id < b.id ? -1 : 1);
