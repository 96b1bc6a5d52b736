import type { Tx } from "../../../db/client.ts";
import { callPairs } from "../../../db/schema/calls.ts";

/** Indexes a call for filters by metadata. */
export async function indexMetadata(tx: Tx, callId: string, metadata: Record<string, string>) {
  const pairs = Object.entries(metadata);
  if (pairs.length === 0) return;
  await tx.insert(callPairs).values(pairs.map(([key, value]) => ({ callId, key, value })));
}
