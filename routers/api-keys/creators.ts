import { and, arrayContained, desc, eq, gt, isNull, not, notInArray, or, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { apiKeys, invitations, memberships, roles } from "../../db/schema/clients.ts";
import { ApiError } from "../core/errors.ts";
import { grants, scopes } from "../core/scopes.ts";
import { say } from "./events.ts";
import type { KeyRef } from "./schema.ts";

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value

/** Neither revoked nor expired. */
export const isActive = and(isNull(apiKeys.revokedAt), or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, now)));

/**
 * What a person or a key may do at this moment, for what will outlive them: a key or an invitation of theirs. It is locked
 * until the commit. A removal at the same moment either comes first, and nothing is made, or it finds what was made.
 */
export async function lockMaker(tx: Tx, id: string): Promise<readonly string[]> {
  if (id.startsWith("key_")) {
    const isMaker = and(eq(apiKeys.id, id), isActive);
    const [key] = await tx.select({ scopes: apiKeys.scopes }).from(apiKeys).where(isMaker).for("share");
    if (!key) throw new ApiError("unauthenticated");
    return key.scopes;
  }
  const [member] = await tx
    .select({ scopes: roles.scopes })
    .from(memberships)
    .innerJoin(roles, eq(roles.name, memberships.role))
    .where(and(eq(memberships.userId, id), eq(memberships.status, "active")))
    .for("share", { of: memberships });
  if (!member) throw new ApiError("client_forbidden");
  return member.scopes;
}

/** The id itself, every key that it made, every key that such a key made, and so on. */
const madeBy = (id: string) => sql`(
  with recursive made as (
    select ${id}::text as id union select k.id from api_keys k join made on k.created_by = made.id
  ) select id from made)`;

/** What a person leaves behind. */
export type LeftBehind = { revokedApiKeys: KeyRef[]; keptApiKeys: KeyRef[]; withdrawnInvitations: number };

type Change = {
  userId: string;
  /** The new role; null when the person has left. */
  role: string | null;
  /** Invitations to this address are withdrawn too. */
  email?: string | null;
  keepApiKeys: boolean;
};

/**
 * For a person who has left, or has another role. Keys that they made, themselves or by keys of theirs, are revoked where
 * they may do more than the role, unless they shall be kept. Open invitations that they could not make now are withdrawn.
 */
export async function settleMadeBy(tx: Tx, { userId, role, email = null, keepApiKeys }: Change): Promise<LeftBehind> {
  const known = await tx.select().from(roles);
  const held = known.find(({ name }) => name === role)?.scopes ?? [];
  const granted = scopes.filter((scope) => grants(held, scope));
  const open = known.filter(
    ({ name, scopes: needed }) =>
      granted.includes("members:write") &&
      (name !== "owner" || role === "owner") &&
      scopes.every((scope) => granted.includes(scope) || !grants(needed, scope)),
  );
  const isTooMuch = granted.length > 0 ? not(arrayContained(apiKeys.scopes, granted)) : undefined;
  const revokedApiKeys = keepApiKeys ? [] : await revokeMade(tx, userId, isTooMuch);
  const openRoles = open.map(({ name }) => name);
  const withdrawnInvitations = await withdrawMade(tx, userId, openRoles, email);
  const keptApiKeys = await tx
    .select(keyRef)
    .from(apiKeys)
    .where(and(sql`${apiKeys.id} in ${madeBy(userId)}`, isActive))
    .orderBy(desc(apiKeys.id));
  return { revokedApiKeys, keptApiKeys, withdrawnInvitations };
}

const keyRef = { id: apiKeys.id, name: apiKeys.name, prefix: apiKeys.prefix, createdBy: apiKeys.createdBy };

/** As often as some are found: a key that is just being made is seen once the lock on its maker is free. */
async function revokeMade(tx: Tx, userId: string, which: SQL | undefined): Promise<KeyRef[]> {
  const revoked: KeyRef[] = [];
  for (;;) {
    const rows = await tx
      .update(apiKeys)
      .set({ revokedAt: now })
      .where(and(sql`${apiKeys.id} in ${madeBy(userId)}`, isActive, which))
      .returning();
    if (rows.length === 0) return revoked;
    for (const row of rows) await say(tx, "api_key.revoked", row);
    revoked.push(...rows.map(({ id, name, prefix, createdBy }) => ({ id, name, prefix, createdBy })));
  }
}

async function withdrawMade(tx: Tx, userId: string, openRoles: string[], email: string | null): Promise<number> {
  const isTheirs = and(sql`${invitations.invitedBy} in ${madeBy(userId)}`, notInArray(invitations.role, openRoles));
  const isForThem = email === null ? undefined : eq(invitations.email, email.toLowerCase());
  const isOpen = and(isNull(invitations.acceptedAt), isNull(invitations.revokedAt), gt(invitations.expiresAt, now));
  const rows = await tx
    .update(invitations)
    .set({ revokedAt: now })
    .where(and(isOpen, or(isTheirs, isForThem)))
    .returning({ id: invitations.id });
  return rows.length;
}
