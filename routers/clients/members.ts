import { and, desc, eq, lt, ne } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { memberships, users } from "../../db/schema/clients.ts";
import { revokeCreatedBy } from "../api-keys/creators.ts";
import type { Principal } from "../core/context.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { grants, scopes } from "../core/scopes.ts";
import { settleEndpointsOf } from "../webhooks/endpoints/creators.ts";
import type { ChangedMember, ListMembers, Member, RemovedMember, RemoveMember, UpdateMember } from "./schema.ts";
import { scopesOfRole } from "./service.ts";

type Actor = Pick<Principal, "id" | "kind" | "scopes">;

const notFound = (id: string) => new ApiError("member_not_found", `There is no member ${id}.`);
const isMember = (clientId: string, id: string) =>
  and(eq(memberships.clientId, clientId), eq(memberships.id, id), eq(memberships.status, "active"));

/** Names the client explicitly, because a system transaction has no tenant isolation. */
export async function listMembers(tx: Tx, clientId: string, { limit, cursor, role }: ListMembers, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await membersOf(tx)
    .where(
      and(
        eq(memberships.clientId, clientId),
        eq(memberships.status, "active"),
        role && eq(memberships.role, role),
        before === null ? undefined : lt(memberships.id, before),
      ),
    )
    .orderBy(desc(memberships.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toMember), limit, ({ id }) => id);
}

export async function getMember(tx: Tx, clientId: string, id: string): Promise<Member> {
  const [row] = await membersOf(tx).where(isMember(clientId, id));
  if (!row) throw notFound(id);
  return toMember(row);
}

/** Changes the role of a member. `actor` null: an operator, whose only limit is that a client keeps an owner. */
export async function changeRole(
  tx: Tx,
  clientId: string,
  { id, role, keepApiKeys, disableWebhooks }: UpdateMember,
  actor: Actor | null,
): Promise<ChangedMember> {
  const old = await lockMember(tx, clientId, id);
  if (actor) {
    await requireRoleScopes(tx, actor, role);
    await requireRoleScopes(tx, actor, old.role);
  }
  if (old.role === "owner" && role !== "owner") await refuseLastOwner(tx, clientId, id);
  await tx.update(memberships).set({ role }).where(isMember(clientId, id));
  const revoked = await revokeCreatedBy(tx, { userId: old.userId, role, keepApiKeys });
  const exceedsRole = !grants(await scopesOfRole(tx, role), "webhooks:write");
  const endpoints = await settleEndpointsOf(tx, old.userId, disableWebhooks && exceedsRole);
  return { ...(await getMember(tx, clientId, id)), ...revoked, ...endpoints };
}

/** Takes effect on the next request of the person, and of the keys that they created: the role is read on every request. */
export async function removeMember(
  tx: Tx,
  clientId: string,
  { id, keepApiKeys, disableWebhooks }: RemoveMember,
  actor: Actor | null,
): Promise<RemovedMember> {
  const old = await lockMember(tx, clientId, id);
  if (actor && actor.id !== old.userId) await requireRoleScopes(tx, actor, old.role);
  if (old.role === "owner") await refuseLastOwner(tx, clientId, id);
  const { email } = await getMember(tx, clientId, id);
  await tx.delete(memberships).where(isMember(clientId, id));
  const revoked = await revokeCreatedBy(tx, { userId: old.userId, role: null, email, keepApiKeys });
  const endpoints = await settleEndpointsOf(tx, old.userId, disableWebhooks);
  return { id, userId: old.userId, ...revoked, ...endpoints };
}

/** A caller can only grant or remove a role within their own scopes. Only an owner can add or remove an owner. */
export async function requireRoleScopes(tx: Tx, actor: Actor, role: string) {
  const held = await scopesOfRole(tx, role);
  const missing = scopes.find((scope) => grants(held, scope) && !grants(actor.scopes, scope));
  if (missing) throw new ApiError("scope_missing", `Missing scope: ${missing}. The role ${role} needs it.`);
  if (role !== "owner") return;
  const [own] = await tx
    .select({ role: memberships.role })
    .from(memberships)
    .where(and(eq(memberships.userId, actor.id), eq(memberships.status, "active"), eq(memberships.role, "owner")));
  if (actor.kind !== "user" || !own) throw new ApiError("scope_missing", "Only an owner can add or remove an owner.");
}

/** Locks all owners in the order of their ids, so that two owners who leave concurrently cannot both succeed. */
async function refuseLastOwner(tx: Tx, clientId: string, id: string) {
  const others = await tx
    .select({ id: memberships.id })
    .from(memberships)
    .where(and(eq(memberships.clientId, clientId), eq(memberships.role, "owner"), eq(memberships.status, "active")))
    .orderBy(memberships.id)
    .for("update");
  if (!others.some((other) => other.id !== id)) throw new ApiError("owner_required");
}

async function lockMember(tx: Tx, clientId: string, id: string) {
  // Owners are locked first and in order, which prevents deadlocks.
  await tx
    .select({ id: memberships.id })
    .from(memberships)
    .where(and(eq(memberships.clientId, clientId), eq(memberships.role, "owner")))
    .orderBy(memberships.id)
    .for("update");
  const [row] = await tx.select().from(memberships).where(isMember(clientId, id)).for("update");
  if (!row) throw notFound(id);
  return row;
}

const membersOf = (tx: Tx) =>
  tx
    .select({ member: memberships, email: users.email, name: users.name })
    .from(memberships)
    .innerJoin(users, eq(users.id, memberships.userId))
    .$dynamic();

type MemberRow = { member: typeof memberships.$inferSelect; email: string | null; name: string | null };

function toMember({ member, email, name }: MemberRow): Member {
  const { id, userId, role, createdAt } = member;
  return { id, userId, email, name, role: role as Member["role"], createdAt: toIso(createdAt) };
}

/** Throws if this person is already a member. */
export async function refuseMember(tx: Tx, clientId: string, userId: string) {
  const [known] = await tx
    .select({ id: memberships.id })
    .from(memberships)
    .where(and(eq(memberships.clientId, clientId), eq(memberships.userId, userId), ne(memberships.status, "disabled")));
  if (known)
    throw new ApiError("member_exists", undefined, {
      details: [{ path: "members", id: known.id, message: "This person is already a member." }],
    });
}
