import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { clients, roles } from "../../db/schema/clients.ts";
import { dbNow } from "../../db/time.ts";
import { toIso } from "../core/fields.ts";
import { type Client, roleNames, type UpdateClient } from "./schema.ts";

export type ClientRow = typeof clients.$inferSelect;

const isCurrentClient = sql`${clients.id} = current_setting('app.client_id')`;

/** The client of this transaction. */
export async function currentClientOf(tx: Tx): Promise<Client> {
  const [row] = await tx.select().from(clients).where(isCurrentClient);
  return toClient(row!);
}

export async function updateClient(tx: Tx, changes: UpdateClient): Promise<Client> {
  const [row] = await tx
    .update(clients)
    .set({ ...changes, updatedAt: dbNow() })
    .where(isCurrentClient)
    .returning();
  return toClient(row!);
}

export async function listRoles(tx: Tx) {
  const rows = await tx.select().from(roles);
  const found = roleNames.flatMap((name) =>
    rows.filter((row) => row.name === name).map(({ scopes }) => ({ name, scopes })),
  );
  return { roles: found };
}

/** The scopes of a role, read from the database. */
export async function scopesOfRole(tx: Tx, name: string): Promise<string[]> {
  const [row] = await tx.select().from(roles).where(eq(roles.name, name));
  if (!row) throw new Error(`There is no role ${name}.`);
  return row.scopes;
}

export function toClient({
  id,
  name,
  timezone,
  metadata,
  status,
  suspendedReason,
  createdAt,
  updatedAt,
}: ClientRow): Client {
  return {
    id,
    name,
    timezone,
    metadata,
    status,
    statusReason: suspendedReason,
    createdAt: toIso(createdAt),
    updatedAt: toIso(updatedAt),
  };
}
