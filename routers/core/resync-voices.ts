import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { voices } from "../../db/schema/voices.ts";

/** Queues a resync of the voices of this vendor, because the client's API key for it has changed. */
export async function resyncVoices(tx: Tx, provider: string): Promise<void> {
  const rows = await tx
    .select({ id: voices.id })
    .from(voices)
    .where(and(eq(voices.kind, "external"), eq(voices.provider, provider), eq(voices.status, "active")));
  for (const { id } of rows) await enqueue(tx, "voices.sync", { voiceId: id }, { key: id });
}
