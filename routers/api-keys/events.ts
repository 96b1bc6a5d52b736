import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import type { apiKeys } from "../../db/schema/clients.ts";

type Row = typeof apiKeys.$inferSelect;

export async function emitApiKeyEvent(
  tx: Tx,
  type: "api_key.created" | "api_key.revoked",
  { id, name, prefix, scopes }: Row,
) {
  await emit(tx, type, id, { id, name, prefix, scopes });
}
