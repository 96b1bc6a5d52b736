import { and, asc, eq, getTableColumns } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import { clients } from "../../db/schema/clients.ts";
import { assignedNumbers, inboundRoutes } from "../../db/schema/telephony.ts";
import { needsVariables } from "../agents/variables.ts";
import type { Context, Principal } from "../core/context.ts";
import { bySpecificity, covers } from "./pattern.ts";

/** The assignments on a shared account. Does not reveal which other client has one. */
export type Assignments = (accountId: string) => Promise<{ pattern: string; isOwn: boolean }[]>;

/** Reads the assignments across all clients, which a client needs to claim a number of a shared account. */
export function assignments({
  db,
  principal,
  requestId,
}: Pick<Context, "db" | "requestId"> & { principal: Principal }) {
  const readAssignments: Assignments = (accountId) =>
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
  return readAssignments;
}

/** Every route of an account, of all clients, oldest first. `tx` is a system transaction. */
export const routesOfAccount = (tx: Tx, accountId: string) =>
  tx
    .select({
      ...getTableColumns(inboundRoutes),
      providerAgentId: agents.providerAgentId,
      agentStatus: agents.status,
      requiredVariables: agents.requiredVariables,
      clientStatus: clients.status,
    })
    .from(inboundRoutes)
    .innerJoin(agents, and(eq(agents.clientId, inboundRoutes.clientId), eq(agents.id, inboundRoutes.agentId)))
    .innerJoin(clients, eq(clients.id, inboundRoutes.clientId))
    .where(eq(inboundRoutes.providerAccountId, accountId))
    .orderBy(asc(inboundRoutes.createdAt), asc(inboundRoutes.id));

/** The assignments on an account, the most specific first. `tx` is a system transaction. */
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
export type Inactive = { status: "waiting" | "failed"; reason: string };

/** openapi: SipConfig.allowedAgents. */
export const maxRoutesPerAccount = 20;
const limitReached = `The provider account allows at most ${maxRoutesPerAccount} routes. Use a pattern for several numbers, or a provider account of your own.`;
export const notAssigned: Inactive = {
  status: "waiting",
  reason:
    "The number is not assigned to you on the shared provider account. Ask the operator to assign it, or use a provider account of your own.",
};

/**
 * Selects the routes that answer, in the order in which the provider tries them, and returns why the others do not. `numbers`
 * are the assignments on a shared account, where a route must lie within an assignment of its client; null on a client's own
 * account. A newer route never takes the place of another client's route. `rank` orders the routes of one client only.
 */
export function selectAnsweringRoutes(
  routes: readonly AccountRoute[],
  numbers: readonly AccountNumber[] | null,
  places: number,
) {
  const inactive = new Map<string, Inactive>();
  const fail = ({ id }: AccountRoute, reason: string) => inactive.set(id, { status: "failed", reason });
  const eligible = routes.filter((route): route is Answering => {
    const reason = inactiveReasonOf(route);
    if (reason) fail(route, reason);
    else if (numbers && !numberOf(route, numbers)) inactive.set(route.id, notAssigned);
    return !inactive.has(route.id);
  });
  for (const [number, within] of Map.groupBy(eligible, (route) => numberOf(route, numbers ?? []))) {
    const over = number ? within.toSorted(byRank).slice(number.maxRoutes) : [];
    for (const route of over)
      fail(
        route,
        `At most ${number?.maxRoutes} routes within ${number?.pattern} can answer. Disable another route first.`,
      );
  }
  const candidates = eligible.filter(({ id }) => !inactive.has(id));
  const placesOf = Map.groupBy(candidates.slice(0, places), ({ clientId }) => clientId);
  const answering = [...placesOf].flatMap(([clientId, { length }]) => {
    const own = candidates.filter((route) => route.clientId === clientId).toSorted(byRank);
    for (const route of own.slice(length)) fail(route, limitReached);
    return own.slice(0, length);
  });
  for (const route of candidates) if (!placesOf.has(route.clientId)) fail(route, limitReached);
  return { answering, inactive };
}

const numberOf = (route: AccountRoute, numbers: readonly AccountNumber[]) =>
  numbers.find((number) => number.clientId === route.clientId && covers(number.pattern, route.pattern));

function inactiveReasonOf(route: AccountRoute): string | null {
  const { enabled, agentStatus, providerAgentId, clientStatus, requiredVariables } = route;
  if (!enabled) return "The route is disabled.";
  if (agentStatus !== "active" || providerAgentId === null) return `The agent is ${agentStatus}.`;
  if (requiredVariables?.length) return needsVariables(requiredVariables);
  return clientStatus === "suspended" ? "The client is suspended." : null;
}

const byRank = (a: Answering, b: Answering) =>
  a.rank - b.rank || bySpecificity(a.pattern, b.pattern) || (a.id < b.id ? -1 : 1);
