import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { voices } from "../../db/schema/voices.ts";

/** The client's key of that company has changed: the voices that speak with it are told to the provider anew. */
export async function resyncVoices(tx: Tx, provider: string): Promise<void> {
  const rows = await tx
    .select({ id: voices.id })
    .from(voices)
    .where(and(eq(voices.kind, "external"), eq(voices.provider, provider), eq(voices.status, "active")));
  for (const { id } of rows) await enqueue(tx, "voices.sync", { voiceId: id }, { key: id });
}
