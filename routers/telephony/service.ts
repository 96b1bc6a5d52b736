import { and, count, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue, enqueueEach } from "../../db/queue.ts";
import { agents } from "../../db/schema/agents.ts";
import { inboundRoutes, telephonyConfigs } from "../../db/schema/telephony.ts";
import { toolsOf } from "../agents/references.ts";
import { agentNotFound, loadAgent } from "../agents/service.ts";
import { needsVariables, requiredOf } from "../agents/variables.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { accountFor, platformAccount } from "../credentials/accounts.ts";
import { covers, normalised, overlap, widthProblem } from "./pattern.ts";
import { type Assignments, notAssigned } from "./rules.ts";
import type { CreateRoute, ListRoutes, Route, UpdateRoute } from "./schema.ts";

type Row = typeof inboundRoutes.$inferSelect;
const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value
const notFound = (id: string) => new ApiError("inbound_route_not_found", `There is no inbound routing rule ${id}.`);

/** The row of this client; what it would be, where there is none. */
export async function configOf(tx: Tx) {
  const [row] = await tx.select().from(telephonyConfigs);
  return { defaultCarrier: row?.defaultCarrier ?? null, defaultFrom: row?.defaultFrom ?? null };
}

export async function saveConfig(tx: Tx, changes: Partial<typeof telephonyConfigs.$inferInsert>) {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const set = { ...given, updatedAt: now };
  await tx.insert(telephonyConfigs).values(set).onConflictDoUpdate({ target: telephonyConfigs.clientId, set });
}

const mostRoutes = 100;

/** A route for calls that come in. The provider is told by a job; the route says when it was. */
export async function createRoute(tx: Tx, input: CreateRoute, assignments: Assignments): Promise<Route> {
  const accountId = await accountToAnswer(tx, input.agentId, input.enabled);
  const pattern = normalised(input.pattern);
  await lockRoutes(tx);
  await refuseTooMany(tx);
  const standing = await standingOf(tx, { accountId, pattern, field: "pattern" }, assignments);
  const [row] = await tx
    .insert(inboundRoutes)
    .values({ id: newId("route"), ...input, pattern, providerAccountId: accountId, ...standing })
    .returning();
  await tellProvider(tx, accountId);
  return toRoute(row!);
}

export async function updateRoute(tx: Tx, { id, ...changes }: UpdateRoute, assignments: Assignments): Promise<Route> {
  await lockRoutes(tx);
  const [old] = await tx.select().from(inboundRoutes).where(eq(inboundRoutes.id, id)).for("update");
  if (!old) throw notFound(id);
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const answers = changes.agentId !== undefined || changes.enabled !== undefined;
  const accountId = answers
    ? await accountToAnswer(tx, changes.agentId ?? old.agentId, changes.enabled ?? old.enabled)
    : old.providerAccountId;
  const pattern = changes.pattern === undefined ? old.pattern : normalised(changes.pattern);
  const field = changes.pattern === undefined ? "agentId" : "pattern";
  const isSame = pattern === old.pattern && accountId === old.providerAccountId;
  // What waits for an operator goes on waiting when something else of it changes.
  const unchanged = old.status === "waiting" ? {} : pending;
  const standing = isSame ? unchanged : await standingOf(tx, { accountId, pattern, field, ownId: id }, assignments);
  const [row] = await tx
    .update(inboundRoutes)
    .set({ ...given, pattern, providerAccountId: accountId, ...standing, updatedAt: now })
    .where(eq(inboundRoutes.id, id))
    .returning();
  await tellProvider(tx, accountId);
  if (accountId !== old.providerAccountId) await tellProvider(tx, old.providerAccountId);
  return toRoute(row!);
}

export async function removeRoute(tx: Tx, id: string) {
  const [gone] = await tx.delete(inboundRoutes).where(eq(inboundRoutes.id, id)).returning();
  if (!gone) throw notFound(id);
  await tellProvider(tx, gone.providerAccountId);
}

export async function getRoute(tx: Tx, id: string): Promise<Route> {
  const [row] = await tx.select().from(inboundRoutes).where(eq(inboundRoutes.id, id));
  if (!row) throw notFound(id);
  return toRoute(row);
}

export async function listRoutes(tx: Tx, { limit, cursor, agentId }: ListRoutes, key: ListKey) {
  const before = readCursor(key, cursor);
  if (agentId) await accountOfAgent(tx, agentId);
  const rows = await tx
    .select()
    .from(inboundRoutes)
    .where(
      and(
        before === null ? undefined : lt(inboundRoutes.id, before),
        agentId ? eq(inboundRoutes.agentId, agentId) : undefined,
      ),
    )
    .orderBy(desc(inboundRoutes.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toRoute), limit, ({ id }) => id);
}

/** The provider account that has the agent: a call that comes in there can be answered by no other. */
async function accountOfAgent(tx: Tx, agentId: string): Promise<string> {
  const [agent] = await tx
    .select({ accountId: agents.providerAccountId })
    .from(agents)
    .where(and(eq(agents.id, agentId), ne(agents.status, "deleted")));
  if (!agent) throw agentNotFound(agentId);
  return agent.accountId;
}

/** As `accountOfAgent`, for an agent that is to answer. It is held, so that it is not deleted meanwhile. */
async function accountToAnswer(tx: Tx, agentId: string, enabled: boolean): Promise<string> {
  await tx.select({ id: agents.id }).from(agents).where(eq(agents.id, agentId)).for("share");
  const { agent, config } = await loadAgent(tx, agentId);
  const required = enabled ? requiredOf(config, await toolsOf(tx, config)) : [];
  if (required.length > 0) {
    const message = needsVariables(required);
    throw new ApiError("agent_needs_variables", `agentId: ${message}`, { details: [{ path: "agentId", message }] });
  }
  return agent.providerAccountId;
}

/** A client's own are made and changed one after another: so they can be counted, and none is made twice. */
async function lockRoutes(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('telephony.routes:' || current_setting('app.client_id'), 0))`,
  );
}

async function refuseTooMany(tx: Tx) {
  const [found] = await tx.select({ routes: count() }).from(inboundRoutes);
  if ((found?.routes ?? 0) < mostRoutes) return;
  throw new ApiError(
    "inbound_route_limit_reached",
    `A client has ${mostRoutes} inbound routes at most. Delete one first.`,
  );
}

type Wanted = { accountId: string; pattern: string; field: "pattern" | "agentId"; ownId?: string };
const pending = { status: "pending", statusReason: null } as const;

/**
 * How a route with this pattern begins. On a shared account it answers within what an operator assigned to its client. What
 * is assigned to another is refused; what is assigned to nobody can be asked for, and takes nothing from anybody.
 */
async function standingOf(tx: Tx, { accountId, pattern, field, ownId }: Wanted, assignments: Assignments) {
  const refuse = (code: "inbound_route_taken" | "input_invalid", message: string) => {
    throw new ApiError(code, `${field}: ${message}`, { details: [{ path: field, message }] });
  };
  const [twin] = await tx
    .select({ id: inboundRoutes.id })
    .from(inboundRoutes)
    .where(
      and(
        eq(inboundRoutes.providerAccountId, accountId),
        eq(inboundRoutes.pattern, pattern),
        ownId ? ne(inboundRoutes.id, ownId) : undefined,
      ),
    );
  if (twin) refuse("inbound_route_taken", `${pattern} is answered by your route ${twin.id}: change that one.`);
  if (accountId !== platformAccount) return pending;
  const objection = widthProblem(pattern);
  if (objection) refuse("input_invalid", `${objection} On the shared provider account a pattern is no wider.`);
  const assigned = await assignments(accountId);
  if (assigned.some((each) => each.isOwn && covers(each.pattern, pattern))) return pending;
  if (assigned.some((each) => !each.isOwn && overlap(each.pattern, pattern))) {
    refuse(
      "inbound_route_taken",
      `${pattern} fits what is assigned to another client. If the number is yours, ask the operator; or use a provider account of your own.`,
    );
  }
  return { status: notAssigned.status, statusReason: notAssigned.reason };
}

/** At most one such job waits per account; it tells all there is by then. */
const tellProvider = (tx: Tx, accountId: string) =>
  enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 });

/** In a transaction of the house: whether this client's rules answer has changed, so each of their accounts is told. */
export async function enqueueSyncOfClient(tx: Tx, clientId: string) {
  const accounts = await tx
    .selectDistinct({ accountId: inboundRoutes.providerAccountId })
    .from(inboundRoutes)
    .where(eq(inboundRoutes.clientId, clientId));
  const each = accounts.map(({ accountId }) => ({ clientId, payload: { accountId }, key: accountId }));
  await enqueueEach(tx, "telephony.sync", each);
}

export async function isShared(tx: Tx): Promise<{ accountId: string; shared: boolean }> {
  const accountId = await accountFor(tx);
  return { accountId, shared: accountId === platformAccount };
}

/** The newest hundred, for the overview. */
export async function newestRoutes(tx: Tx): Promise<Route[]> {
  const rows = await tx.select().from(inboundRoutes).orderBy(desc(inboundRoutes.id)).limit(100);
  return rows.map(toRoute);
}

export function toRoute({ clientId: _, providerAccountId: __, createdAt, updatedAt, ...row }: Row): Route {
  return { ...row, createdAt: toIso(createdAt), updatedAt: toIso(updatedAt) };
}
