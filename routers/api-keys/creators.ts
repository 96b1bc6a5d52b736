import { and, arrayContained, desc, eq, gt, isNull, not, notInArray, or, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { apiKeys, invitations, memberships, roles } from "../../db/schema/clients.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { grants, scopes } from "../core/scopes.ts";
import { emitApiKeyEvent } from "./events.ts";
import type { KeyRef } from "./schema.ts";

/** Neither revoked nor expired. */
export const isActive = and(isNull(apiKeys.revokedAt), or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, dbNow())));

/** What a user or key may pass on. `expiresAt`: when the key itself ends; null for a person. */
export type Held = { scopes: readonly string[]; expiresAt: Date | null };

/**
 * The current access of a user or key that creates something which can outlive their access: a key, an invitation or a
 * webhook endpoint. The row is locked until the commit: a concurrent removal either comes first, and this throws, or it
 * finds what was created.
 */
export async function lockCreator(tx: Tx, id: string): Promise<Held> {
  if (id.startsWith("key_")) {
    const isCreator = and(eq(apiKeys.id, id), isActive);
    const [key] = await tx
      .select({ scopes: apiKeys.scopes, expiresAt: apiKeys.expiresAt })
      .from(apiKeys)
      .where(isCreator)
      .for("share");
    if (!key) throw new ApiError("unauthenticated");
    return key;
  }
  const [member] = await tx
    .select({ scopes: roles.scopes })
    .from(memberships)
    .innerJoin(roles, eq(roles.name, memberships.role))
    .where(and(eq(memberships.userId, id), eq(memberships.status, "active")))
    .for("share", { of: memberships });
  if (!member) throw new ApiError("client_forbidden");
  return { ...member, expiresAt: null };
}

/** The id itself, and all keys created by it, directly or through other keys. */
export const createdByTree = (id: string) => sql`(
  with recursive tree as (
    select ${id}::text as id union select k.id from api_keys k join tree on k.created_by = tree.id
  ) select id from tree)`;

/** The result of a change of access. */
export type Revocations = { revokedApiKeys: KeyRef[]; keptApiKeys: KeyRef[]; withdrawnInvitations: number };

type Change = {
  userId: string;
  /** The new role; null when the person has left. */
  role: string | null;
  /** Invitations to this address are withdrawn too. */
  email?: string | null;
  keepApiKeys: boolean;
};

/**
 * For a person who has left or has another role. Revokes keys that they created, directly or through other keys, if those
 * have more scopes than the role; `keepApiKeys` keeps them. Withdraws open invitations that they could no longer create.
 */
export async function revokeCreatedBy(
  tx: Tx,
  { userId, role, email = null, keepApiKeys }: Change,
): Promise<Revocations> {
  const allRoles = await tx.select().from(roles);
  const held = allRoles.find(({ name }) => name === role)?.scopes ?? [];
  const granted = scopes.filter((scope) => grants(held, scope));
  const invitable = allRoles.filter(
    ({ name, scopes: needed }) =>
      granted.includes("members:write") &&
      (name !== "owner" || role === "owner") &&
      scopes.every((scope) => granted.includes(scope) || !grants(needed, scope)),
  );
  const exceedsRole = granted.length > 0 ? not(arrayContained(apiKeys.scopes, granted)) : undefined;
  const revokedApiKeys = keepApiKeys ? [] : await revokeKeysOf(tx, userId, exceedsRole);
  const invitableRoles = invitable.map(({ name }) => name);
  const withdrawnInvitations = await withdrawInvitationsOf(tx, userId, invitableRoles, email);
  const keptApiKeys = await tx
    .select(keyRef)
    .from(apiKeys)
    .where(and(sql`${apiKeys.id} in ${createdByTree(userId)}`, isActive))
    .orderBy(desc(apiKeys.id));
  return { revokedApiKeys, keptApiKeys, withdrawnInvitations };
}

const keyRef = { id: apiKeys.id, name: apiKeys.name, prefix: apiKeys.prefix, createdBy: apiKeys.createdBy };

/** Repeats until none is found: a key that is being created becomes visible when the lock on its creator is released. */
async function revokeKeysOf(tx: Tx, userId: string, which: SQL | undefined): Promise<KeyRef[]> {
  const revoked: KeyRef[] = [];
  for (;;) {
    const rows = await tx
      .update(apiKeys)
      .set({ revokedAt: dbNow() })
      .where(and(sql`${apiKeys.id} in ${createdByTree(userId)}`, isActive, which))
      .returning();
    if (rows.length === 0) return revoked;
    for (const row of rows) await emitApiKeyEvent(tx, "api_key.revoked", row);
    revoked.push(...rows.map(({ id, name, prefix, createdBy }) => ({ id, name, prefix, createdBy })));
  }
}

async function withdrawInvitationsOf(
  tx: Tx,
  userId: string,
  invitableRoles: string[],
  email: string | null,
): Promise<number> {
  const isFromThem = and(
    sql`${invitations.invitedBy} in ${createdByTree(userId)}`,
    notInArray(invitations.role, invitableRoles),
  );
  const isToThem = email === null ? undefined : eq(invitations.email, email.toLowerCase());
  const isOpen = and(isNull(invitations.acceptedAt), isNull(invitations.revokedAt), gt(invitations.expiresAt, dbNow()));
  const rows = await tx
    .update(invitations)
    .set({ revokedAt: dbNow() })
    .where(and(isOpen, or(isFromThem, isToThem)))
    .returning({ id: invitations.id });
  return rows.length;
}
