import { randomBytes } from "node:crypto";
import { and, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { invitations, memberships, users } from "../../db/schema/clients.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import { lockCreator } from "../api-keys/creators.ts";
import { requireScope } from "../core/authorize.ts";
import type { Person, Principal } from "../core/context.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { grants, scopes } from "../core/scopes.ts";
import { refuseMember, requireRoleScopes } from "./members.ts";
import type { CreatedInvitation, Invitation, Invite, Joined, ListInvitations } from "./schema.ts";

type Row = typeof invitations.$inferSelect;

/** Creates an invitation. The token is returned only here; the row stores its HMAC. */
export async function invite(
  tx: Tx,
  { email, role, expiresInHours }: Invite,
  inviter: Pick<Principal, "id" | "kind" | "scopes"> | { id: string; kind: "operator" },
  hash: (token: string) => string,
  /** Only in a system transaction. A tenant transaction sets the client itself. */
  clientId?: string,
): Promise<CreatedInvitation> {
  if (inviter.kind !== "operator") await requireInviter(tx, inviter, role);
  const token = `pbi_${randomBytes(32).toString("base64url")}`;
  const [row] = await tx
    .insert(invitations)
    .values({
      clientId,
      id: newId("invitation"),
      email,
      role,
      tokenHash: hash(token),
      invitedBy: inviter.id,
      expiresAt: inSeconds(expiresInHours * 3_600),
    })
    .returning();
  return { ...toInvitation(row!, new Date()), token };
}

/** An invitation can outlive the access of its creator, so their current scopes are read and locked. */
async function requireInviter(tx: Tx, inviter: Pick<Principal, "id" | "kind" | "scopes">, role: string) {
  const held = await lockCreator(tx, inviter.id);
  requireScope(held.scopes, "members:write");
  const both = scopes.filter((scope) => grants(held.scopes, scope) && grants(inviter.scopes, scope));
  await requireRoleScopes(tx, { ...inviter, scopes: both }, role);
}

export async function listInvitations(tx: Tx, { limit, cursor }: ListInvitations, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(invitations)
    .where(before === null ? undefined : lt(invitations.id, before))
    .orderBy(desc(invitations.id))
    .limit(limit + 1);
  const now = new Date();
  const items = rows.map((row) => toInvitation(row, now));
  return toPage(key, items, limit, ({ id }) => id);
}

/** An accepted invitation stays accepted. A second withdrawal is not found. */
export async function withdrawInvitation(tx: Tx, id: string) {
  const [known] = await tx.select().from(invitations).where(eq(invitations.id, id)).for("update");
  if (!known || known.revokedAt) throw new ApiError("invitation_not_found", `There is no invitation ${id}.`);
  await tx
    .update(invitations)
    .set({ revokedAt: dbNow() })
    .where(and(eq(invitations.id, id), isNull(invitations.acceptedAt), isNull(invitations.revokedAt)));
}

/** Needs a system transaction: the person has no client yet. An invitation can be accepted once. */
export async function acceptInvitation(tx: Tx, tokenHash: string, person: Person): Promise<Joined> {
  const [open] = await tx
    .update(invitations)
    .set({ acceptedAt: dbNow() })
    .where(
      and(
        eq(invitations.tokenHash, tokenHash),
        isNull(invitations.acceptedAt),
        isNull(invitations.revokedAt),
        sql`${invitations.expiresAt} > clock_timestamp()`,
      ),
    )
    .returning();
  if (!open) throw new ApiError("invitation_not_found");
  if (person.email !== null && person.email !== open.email) throw new ApiError("invitation_forbidden");
  const userId = await ensureUser(tx, person, open.email);
  await refuseMember(tx, open.clientId, userId);
  const { clientId, role, id } = open;
  await tx.insert(memberships).values({ clientId, id: newId("membership"), userId, role });
  await tx
    .update(invitations)
    .set({ acceptedBy: userId })
    .where(and(eq(invitations.clientId, clientId), eq(invitations.id, id)));
  return { clientId, userId, role: role as Joined["role"] };
}

/** Returns the id of the user, who is created on their first invitation. */
async function ensureUser(tx: Tx, { subject, name, email }: Person, invited: string): Promise<string> {
  await tx
    .insert(users)
    .values({ id: newId("user"), subject, email: email ?? invited, name })
    .onConflictDoNothing();
  const [user] = await tx.select({ id: users.id }).from(users).where(eq(users.subject, subject));
  return user!.id;
}

function toInvitation(row: Row, now: Date): Invitation {
  const { id, email, role, invitedBy, expiresAt, createdAt } = row;
  const status = row.acceptedAt ? "accepted" : row.revokedAt ? "withdrawn" : expiresAt <= now ? "expired" : "open";
  return {
    id,
    email,
    role: role as Invitation["role"],
    status,
    invitedBy,
    expiresAt: toIso(expiresAt),
    createdAt: toIso(createdAt),
  };
}
