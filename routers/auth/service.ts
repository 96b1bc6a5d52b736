import { and, eq } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { apiKeys, clients, memberships, users } from "../../db/schema/clients.ts";
import type { Caller } from "../core/context.ts";
import { ApiError } from "../core/errors.ts";
import type { Me, OwnClients } from "./schema.ts";

type KnownCaller = Extract<Caller, { kind: "key" | "user" }>;

/** The user or API key of this request, for any client. */
export async function describeCaller(db: Database, caller: KnownCaller): Promise<Me> {
  if (caller.kind === "user") {
    const [user] = await db.asUser(caller.userId, (tx) => tx.select().from(users).where(eq(users.id, caller.userId)));
    if (!user) throw new ApiError("unauthenticated");
    return { kind: "user", id: user.id, email: user.email, name: user.name, scopes: null };
  }
  const { clientId, keyId } = caller;
  const [key] = await db.asClient({ clientId, keyId }, (tx) => tx.select().from(apiKeys).where(eq(apiKeys.id, keyId)), {
    mode: "read",
  });
  if (!key) throw new ApiError("unauthenticated");
  return { kind: "key", id: key.id, email: null, name: key.name, scopes: key.scopes };
}

/** The clients of the caller: for a user, those in both the token and an active membership. */
export async function listOwnClients(db: Database, caller: KnownCaller): Promise<OwnClients> {
  if (caller.kind === "key") {
    const { clientId, keyId } = caller;
    const rows = await db.asClient(
      { clientId, keyId },
      (tx) => tx.select().from(clients).where(eq(clients.id, clientId)),
      {
        mode: "read",
      },
    );
    return { clients: rows.map(({ id, name, status }) => ({ id, name, status, role: null })) };
  }
  const rows = await db.asUser(caller.userId, (tx) =>
    tx
      .select({ id: clients.id, name: clients.name, status: clients.status, role: memberships.role })
      .from(memberships)
      .innerJoin(clients, eq(clients.id, memberships.clientId))
      .where(and(eq(memberships.userId, caller.userId), eq(memberships.status, "active")))
      .orderBy(clients.id),
  );
  return { clients: rows.filter(({ id }) => caller.clientIds.includes(id)) };
}
