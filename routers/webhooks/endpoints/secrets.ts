import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { webhookEndpoints } from "../../../db/schema/events.ts";
import { ApiError } from "../../core/errors.ts";
import type { Cipher } from "../../ports/vault.ts";
import type { RotateSecret } from "../schema.ts";
import { newSecret } from "./signature.ts";

type EndpointRow = typeof webhookEndpoints.$inferSelect;
type Keys = Pick<EndpointRow, "id" | "secret" | "previousSecrets">;

/** More would make the header longer than receivers like to read. */
const atMost = 10;

/** Secrets that were replaced and still sign. */
export function stillSigning(previous: EndpointRow["previousSecrets"], at: Date) {
  return previous.filter(({ until }) => new Date(until) > at);
}

/** All that sign at this moment, the newest first. */
export function openSecrets({ id, secret, previousSecrets }: Keys, ring: Cipher, at: Date): string[] {
  const earlier = stillSigning(previousSecrets, at).map(({ sealed }) => Buffer.from(sealed, "base64"));
  return [secret, ...earlier].map((sealed) => ring.open(sealed, id).toString());
}

/** A first or a next secret: its columns, and what of it is shown, this once. A private key is never shown. */
export function makeSecret(endpointId: string, signing: EndpointRow["signing"], ring: Cipher) {
  const { secret, publicKey } = newSecret(signing);
  return {
    columns: { signing, publicKey, secret: ring.seal(secret, endpointId) },
    shown: publicKey === null ? secret : null,
  };
}

/**
 * Gives a locked endpoint a new secret. The one before goes on signing for the overlap, and those before that until
 * their own time is over: sealed under the same row, their bytes are moved as they are. Without an overlap none of them
 * signs any longer: that is asked for after a leak, and nobody then knows which of them has leaked.
 */
export async function replaceSecret(
  tx: Tx,
  before: EndpointRow,
  { overlapHours, signing }: RotateSecret,
  ring: Cipher,
) {
  const at = new Date();
  const until = new Date(at.getTime() + overlapHours * 3_600_000).toISOString();
  const present = { sealed: before.secret.toString("base64"), until };
  const previousSecrets = overlapHours === 0 ? [] : stillSigning([present, ...before.previousSecrets], at);
  if (previousSecrets.length >= atMost) throw new ApiError("webhook_secret_limit_reached");
  const { columns, shown } = makeSecret(before.id, signing ?? before.signing, ring);
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({ ...columns, previousSecrets, updatedAt: sql`clock_timestamp()` })
    .where(eq(webhookEndpoints.id, before.id))
    .returning();
  return { row: changed!, secret: shown };
}
