import { and, count, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { type Given, hotRead, pages, type Wire } from "../../db/prepared.ts";
import { enqueue, enqueueEach } from "../../db/queue.ts";
import { agents } from "../../db/schema/agents.ts";
import { inboundRoutes, telephonyConfigs } from "../../db/schema/telephony.ts";
import { dbNow } from "../../db/time.ts";
import { toolsOf } from "../agents/references.ts";
import { agentNotFound, loadAgent } from "../agents/service.ts";
import { needsVariables, requiredOf } from "../agents/variables.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { accountFor, platformAccount } from "../credentials/accounts.ts";
import { covers, normalizePattern, overlap, widthProblem } from "./pattern.ts";
import { type Assignments, notAssigned } from "./rules.ts";
import type { CreateRoute, ListRoutes, Route, UpdateRoute } from "./schema.ts";

type Row = Wire<typeof inboundRoutes.$inferSelect>;
const notFound = (id: string) => new ApiError("inbound_route_not_found", `There is no inbound route ${id}.`);

/** The configuration of this client; defaults if there is no row. */
export async function configOf(tx: Tx) {
  const [row] = await tx.select().from(telephonyConfigs);
  return { defaultCarrier: row?.defaultCarrier ?? null, defaultFrom: row?.defaultFrom ?? null };
}

export async function saveConfig(tx: Tx, changes: Partial<typeof telephonyConfigs.$inferInsert>) {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const set = { ...given, updatedAt: dbNow() };
  await tx.insert(telephonyConfigs).values(set).onConflictDoUpdate({ target: telephonyConfigs.clientId, set });
}

const maxRoutes = 100;

/** Creates an inbound route. A job updates the provider and then sets the status of the route. */
export async function createRoute(tx: Tx, input: CreateRoute, assignments: Assignments): Promise<Route> {
  const accountId = await lockAnsweringAgent(tx, input.agentId, input.enabled);
  const pattern = normalizePattern(input.pattern);
  await lockRoutes(tx);
  await refuseTooMany(tx);
  const statusFields = await initialStatusOf(tx, { accountId, pattern, field: "pattern" }, assignments);
  const [row] = await tx
    .insert(inboundRoutes)
    .values({ id: newId("route"), ...input, pattern, providerAccountId: accountId, ...statusFields })
    .returning();
  await enqueueSync(tx, accountId);
  return toRoute(row!);
}

export async function updateRoute(tx: Tx, { id, ...changes }: UpdateRoute, assignments: Assignments): Promise<Route> {
  await lockRoutes(tx);
  const [old] = await tx.select().from(inboundRoutes).where(eq(inboundRoutes.id, id)).for("update");
  if (!old) throw notFound(id);
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const isAgentChanged = changes.agentId !== undefined || changes.enabled !== undefined;
  const accountId = isAgentChanged
    ? await lockAnsweringAgent(tx, changes.agentId ?? old.agentId, changes.enabled ?? old.enabled)
    : old.providerAccountId;
  const pattern = changes.pattern === undefined ? old.pattern : normalizePattern(changes.pattern);
  const field = changes.pattern === undefined ? "agentId" : "pattern";
  const isSame = pattern === old.pattern && accountId === old.providerAccountId;
  // A route that waits for an operator keeps waiting when its other fields change.
  const unchanged = old.status === "waiting" ? {} : pending;
  const statusFields = isSame
    ? unchanged
    : await initialStatusOf(tx, { accountId, pattern, field, ownId: id }, assignments);
  const [row] = await tx
    .update(inboundRoutes)
    .set({ ...given, pattern, providerAccountId: accountId, ...statusFields, updatedAt: dbNow() })
    .where(eq(inboundRoutes.id, id))
    .returning();
  await enqueueSync(tx, accountId);
  if (accountId !== old.providerAccountId) await enqueueSync(tx, old.providerAccountId);
  return toRoute(row!);
}

export async function removeRoute(tx: Tx, id: string) {
  const [removed] = await tx.delete(inboundRoutes).where(eq(inboundRoutes.id, id)).returning();
  if (!removed) throw notFound(id);
  await enqueueSync(tx, removed.providerAccountId);
}

export async function getRoute(tx: Tx, id: string): Promise<Route> {
  const [row] = await routeById(tx, { id });
  if (!row) throw notFound(id);
  return toRoute(row);
}

const routeById = hotRead((db) =>
  db
    .select()
    .from(inboundRoutes)
    .where(eq(inboundRoutes.id, sql.placeholder("id"))),
);

export async function listRoutes(tx: Tx, { limit, cursor, agentId }: ListRoutes, key: ListKey) {
  const before = readCursor(key, cursor);
  if (agentId) await accountOfAgent(tx, agentId);
  const rows = await routePages(tx, { agentId, before, limit: limit + 1 });
  return toPage(key, rows.map(toRoute), limit, ({ id }) => id);
}

const routePages = pages((db, given: Given<"agentId">) =>
  db
    .select()
    .from(inboundRoutes)
    .where(
      and(
        given.before && lt(inboundRoutes.id, given.before),
        given.agentId && eq(inboundRoutes.agentId, given.agentId),
      ),
    )
    .orderBy(desc(inboundRoutes.id))
    .limit(sql.placeholder("limit")),
);

/** The provider account of the agent. Only calls to that account can reach the agent. */
async function accountOfAgent(tx: Tx, agentId: string): Promise<string> {
  const [agent] = await tx
    .select({ accountId: agents.providerAccountId })
    .from(agents)
    .where(and(eq(agents.id, agentId), ne(agents.status, "deleted")));
  if (!agent) throw agentNotFound(agentId);
  return agent.accountId;
}

/** Like `accountOfAgent`, for an agent that will answer. Locks the agent, so that it is not deleted meanwhile. */
async function lockAnsweringAgent(tx: Tx, agentId: string, enabled: boolean): Promise<string> {
  await tx.select({ id: agents.id }).from(agents).where(eq(agents.id, agentId)).for("share");
  const { agent, config } = await loadAgent(tx, agentId);
  const required = enabled ? requiredOf(config, await toolsOf(tx, config)) : [];
  if (required.length > 0) {
    const message = needsVariables(required);
    throw new ApiError("agent_variables_required", `agentId: ${message}`, { details: [{ path: "agentId", message }] });
  }
  return agent.providerAccountId;
}

/** Serialises changes of a client's routes, so that the limit holds and no pattern is created twice. */
async function lockRoutes(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('telephony.routes:' || current_setting('app.client_id'), 0))`,
  );
}

async function refuseTooMany(tx: Tx) {
  const [found] = await tx.select({ routes: count() }).from(inboundRoutes);
  if ((found?.routes ?? 0) < maxRoutes) return;
  throw new ApiError(
    "inbound_route_limit_reached",
    `A client can have at most ${maxRoutes} inbound routes. Delete one first.`,
  );
}

type RoutePlacement = { accountId: string; pattern: string; field: "pattern" | "agentId"; ownId?: string };
const pending = { status: "pending", statusReason: null } as const;

/**
 * The first status of a route with this pattern. On a shared account a route answers only within a number assigned to its
 * client. A number assigned to another client is refused; an unassigned number can be requested: the route waits.
 */
async function initialStatusOf(tx: Tx, { accountId, pattern, field, ownId }: RoutePlacement, assignments: Assignments) {
  const taken = (message: string) =>
    new ApiError("inbound_route_taken", `${field}: ${message}`, { details: [{ path: field, message }] });
  const [duplicate] = await tx
    .select({ id: inboundRoutes.id })
    .from(inboundRoutes)
    .where(
      and(
        eq(inboundRoutes.providerAccountId, accountId),
        eq(inboundRoutes.pattern, pattern),
        ownId ? ne(inboundRoutes.id, ownId) : undefined,
      ),
    );
  if (duplicate) throw taken(`Your route ${duplicate.id} already answers ${pattern}. Change that route instead.`);
  if (accountId !== platformAccount) return pending;
  const problem = widthProblem(pattern);
  if (problem) throw ApiError.invalid(field, `${problem} Wider patterns need a provider account of your own.`);
  const assigned = await assignments(accountId);
  if (assigned.some((number) => number.isOwn && covers(number.pattern, pattern))) return pending;
  if (assigned.some((number) => !number.isOwn && overlap(number.pattern, pattern))) {
    throw taken(
      `${pattern} overlaps with a number of another client. If the number is yours, contact the operator, or use a provider account of your own.`,
    );
  }
  return { status: notAssigned.status, statusReason: notAssigned.reason };
}

/** At most one sync job is queued per account. It sends all routes that exist when it runs. */
const enqueueSync = (tx: Tx, accountId: string) =>
  enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 });

/** Enqueues a sync for each account of a client whose routes start or stop answering. `tx` is a system transaction. */
export async function enqueueSyncOfClient(tx: Tx, clientId: string) {
  const accounts = await tx
    .selectDistinct({ accountId: inboundRoutes.providerAccountId })
    .from(inboundRoutes)
    .where(eq(inboundRoutes.clientId, clientId));
  const each = accounts.map(({ accountId }) => ({ clientId, payload: { accountId }, key: accountId }));
  await enqueueEach(tx, "telephony.sync", each);
}

export async function accountOfClient(tx: Tx): Promise<{ accountId: string; shared: boolean }> {
  const accountId = await accountFor(tx);
  return { accountId, shared: accountId === platformAccount };
}

/** The newest hundred, for the configuration. */
export async function newestRoutes(tx: Tx): Promise<Route[]> {
  const rows = await tx.select().from(inboundRoutes).orderBy(desc(inboundRoutes.id)).limit(100);
  return rows.map(toRoute);
}

export function toRoute({ clientId: _, providerAccountId: __, createdAt, updatedAt, ...row }: Row): Route {
  return { ...row, createdAt: toIso(createdAt), updatedAt: toIso(updatedAt) };
}
