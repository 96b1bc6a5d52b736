import { eq } from "drizzle-orm";
import { newId } from "../db/ids.ts";
import { clients, memberships, users } from "../db/schema/clients.ts";
import { createApiKey } from "../routers/api-keys/service.ts";
import { grantCredits } from "../routers/billing/ledger.ts";
import { type Scope, scopes } from "../routers/core/scopes.ts";
import type { Deps } from "../server/deps.ts";

export type SeededClient = { clientId: string; userId: string; subject: string; key: string; keyId: string };
type Options = {
  name: string;
  subject: string;
  email?: string;
  credits?: number;
  scopes?: readonly Scope[];
  role?: string;
};

/** Creates a client with an owner, an API key and credits, as an operator would. An existing user is reused. */
export async function seedClient({ db, auth }: Pick<Deps, "db" | "auth">, options: Options): Promise<SeededClient> {
  const clientId = newId("client");
  const userId = await db.asSystem(async (tx) => {
    await tx.insert(clients).values({ id: clientId, name: options.name });
    const [known] = await tx.select().from(users).where(eq(users.subject, options.subject));
    const id = known?.id ?? newId("user");
    if (!known)
      await tx.insert(users).values({ id, subject: options.subject, email: options.email ?? null, name: options.name });
    await tx.insert(memberships).values({ clientId, id: newId("membership"), userId: id, role: "owner" });
    return id;
  });
  const key = await db.asClient({ clientId }, async (tx) => {
    await grantCredits(tx, "welcome", (options.credits ?? 1000) * 1_000_000, "Welcome");
    const wanted = { name: "First key", scopes: [...(options.scopes ?? scopes)] };
    const created = await createApiKey(tx, wanted, { id: userId, scopes: ["*"] }, auth.hashKey);
    // After the membership: only an owner can create a key with all scopes.
    if (options.role) await tx.update(memberships).set({ role: options.role }).where(eq(memberships.userId, userId));
    return created;
  });
  return { clientId, userId, subject: options.subject, key: key.key, keyId: key.id };
}
