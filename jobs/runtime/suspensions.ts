import { eq } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { clients } from "../../db/schema/clients.ts";
import type { Timer } from "./timers.ts";

/** The suspended clients, as of a few seconds ago. Each worker keeps its own list, read once at start. */
export async function watchSuspensions(db: Database, everyMs: number) {
  let suspended = await read(db);
  const timer: Timer = {
    name: "suspensions.watch",
    everyMs,
    async run() {
      suspended = await read(db);
    },
  };
  return { timer, isSuspended: (clientId: string) => suspended.has(clientId) };
}

async function read(db: Database): Promise<ReadonlySet<string>> {
  const rows = await db.asSystem(
    (tx) => tx.select({ id: clients.id }).from(clients).where(eq(clients.status, "suspended")),
    { mode: "read" },
  );
  return new Set(rows.map(({ id }) => id));
}
