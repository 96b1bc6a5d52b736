import { eq } from "drizzle-orm";
import { apiKeys, clients } from "../db/schema/clients.ts";
import { createApiKey } from "../routers/api-keys/service.ts";
import { scopes } from "../routers/core/scopes.ts";
import type { Deps } from "../server/deps.ts";
import { type Kept, writeKept } from "./data-dir.ts";
import { type SeededClient, seedClient } from "./seed.ts";

/** The owner of the demo client, and the operator of a local installation. */
export const demoSubject = "auth0|demo";

/** The demo client of an earlier start, if its key still has every scope; otherwise a new key or a new client. */
export async function demoClient(deps: Deps, kept: Kept): Promise<SeededClient> {
  const { demo } = kept;
  const found =
    demo && (await deps.db.asSystem((tx) => tx.select().from(clients).where(eq(clients.id, demo.clientId))));
  const keep = async (created: SeededClient) => {
    await writeKept({ ...kept, demo: created });
    return created;
  };
  if (demo && found?.length) return (await hasAllScopes(deps, demo)) ? demo : keep(await withNewKey(deps, demo));
  const owner = { name: "Demo", subject: demoSubject, email: "demo@example.com" };
  return keep(await seedClient(deps, { ...owner, credits: 100_000 }));
}

/** A key keeps the scopes it was created with. Later versions may have more. */
async function hasAllScopes({ db }: Deps, { clientId, keyId }: SeededClient): Promise<boolean> {
  const [key] = await db.asClient({ clientId }, (tx) => tx.select().from(apiKeys).where(eq(apiKeys.id, keyId)));
  return scopes.every((scope) => key?.scopes.includes(scope));
}

async function withNewKey({ db, auth }: Deps, demo: SeededClient): Promise<SeededClient> {
  const { clientId, userId } = demo;
  const created = await db.asClient({ clientId }, (tx) =>
    createApiKey(tx, { name: "Demo", scopes: [...scopes] }, { id: userId, scopes: ["*"] }, auth.hashKey),
  );
  return { ...demo, key: created.key, keyId: created.id };
}
