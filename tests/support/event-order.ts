import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import type { Event } from "../../routers/events/schema.ts";

/**
 * One transaction, like a command that ends with an event of a balance: its first write comes early, the event of the
 * shared subject late, in an order of its own.
 */
export async function writeLate(db: Database, clientId: string, sharedId: string): Promise<void> {
  const own = newId("agent");
  await db.asClient({ clientId }, async (tx) => {
    await emit(tx, "agent.created", own, { id: own, name: "own", status: "active", version: 1 });
    await sleep(20 * Math.random());
    await emit(tx, "agent.updated", sharedId, { id: sharedId, name: "shared", status: "active", version: 1 });
  });
}

/** Runs the writers, some at a time, until all have written. A lost connection is tried again. */
export async function writeAll(
  db: Database,
  clients: readonly { clientId: string; sharedId: string }[],
  count: number,
) {
  let next = 0;
  const writer = async () => {
    while (next < count) {
      const { clientId, sharedId } = clients[next++ % clients.length]!;
      await writeAgain(db, clientId, sharedId);
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, 400) }, writer));
}

async function writeAgain(db: Database, clientId: string, sharedId: string, attempts = 50): Promise<void> {
  try {
    await writeLate(db, clientId, sharedId);
  } catch (error) {
    if (attempts === 0) throw error;
    await sleep(100);
    await writeAgain(db, clientId, sharedId, attempts - 1);
  }
}

/** The events that do not follow the previous event of their subject. A repeated event counts once. */
export function breaksOf(events: readonly Event[]): string[] {
  const last = new Map<string, number>();
  const seen = new Set<string>();
  return events.flatMap(({ id, clientId, subject }) => {
    if (seen.has(id)) return [];
    seen.add(id);
    const key = `${clientId} ${subject.id}`;
    const previous = last.get(key) ?? 0;
    last.set(key, subject.sequence);
    return subject.sequence === previous + 1 ? [] : [`${subject.id}: ${subject.sequence} after ${previous}`];
  });
}
