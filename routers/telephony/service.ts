import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue, enqueueEach } from "../../db/queue.ts";
import { agents } from "../../db/schema/agents.ts";
import { inboundRoutes, telephonyConfigs } from "../../db/schema/telephony.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { accountFor, platformAccount } from "../credentials/accounts.ts";
import { normalised, overlap } from "./pattern.ts";
import type { Everyones } from "./rules.ts";
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

/** A rule for calls that come in. The provider hears of it by a job; the rule says when it has. */
export async function createRoute(tx: Tx, input: CreateRoute, everyones: Everyones): Promise<Route> {
  const accountId = await accountOfAgent(tx, input.agentId);
  const pattern = normalised(input.pattern);
  await refuseTaken(tx, { accountId, pattern, field: "pattern" }, everyones);
  const [row] = await tx
    .insert(inboundRoutes)
    .values({ id: newId("route"), ...input, pattern, providerAccountId: accountId })
    .returning();
  await tellProvider(tx, accountId);
  return toRoute(row!);
}

export async function updateRoute(tx: Tx, { id, ...changes }: UpdateRoute, everyones: Everyones): Promise<Route> {
  const [old] = await tx.select().from(inboundRoutes).where(eq(inboundRoutes.id, id)).for("update");
  if (!old) throw notFound(id);
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const accountId = changes.agentId ? await accountOfAgent(tx, changes.agentId) : old.providerAccountId;
  const pattern = changes.pattern === undefined ? old.pattern : normalised(changes.pattern);
  if (pattern !== old.pattern || accountId !== old.providerAccountId) {
    const field = changes.pattern === undefined ? "agentId" : "pattern";
    await refuseTaken(tx, { accountId, pattern, field, ownId: id }, everyones);
  }
  const [row] = await tx
    .update(inboundRoutes)
    .set({ ...given, pattern, providerAccountId: accountId, status: "pending", statusReason: null, updatedAt: now })
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
  if (!agent) throw new ApiError("agent_not_found", `There is no agent ${agentId}.`);
  return agent.accountId;
}

type Wanted = { accountId: string; pattern: string; field: "pattern" | "agentId"; ownId?: string };

/**
 * One account has one set of numbers, whoever shares it: between clients no two patterns may fit the same. Whoever wants
 * one of the same account waits here until this transaction ends: so what the look over the wall does not see yet is nobody's.
 */
async function refuseTaken(tx: Tx, { accountId, pattern, field, ownId }: Wanted, everyones: Everyones) {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`telephony.routes:${accountId}`}, 0))`);
  const others = (await everyones(accountId)).filter(({ id }) => id !== ownId);
  const refuse = (reason: string) => {
    const message = `${pattern} ${reason}`;
    throw new ApiError("inbound_route_taken", `${field}: ${message}`, { details: [{ path: field, message }] });
  };
  for (const { id, isOwn, pattern: answered } of others) {
    if (isOwn && normalised(answered) === normalised(pattern))
      refuse(`is answered by your rule ${id}: change that one.`);
    if (!isOwn && overlap(answered, pattern)) {
      refuse(
        "fits what another client's rule answers already. Take another pattern, or a provider account of your own.",
      );
    }
  }
}

/** At most one such job waits per account; it tells all there is by then. */
const tellProvider = (tx: Tx, accountId: string) =>
  enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 });

/** In a transaction of the house: whether this client's rules answer has changed, so each of their accounts is told. */
export async function tellProvidersOf(tx: Tx, clientId: string) {
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
