import { eq } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { webhookEndpoints } from "../../../db/schema/events.ts";
import { dbNow } from "../../../db/time.ts";
import { ApiError } from "../../core/errors.ts";
import type { Cipher } from "../../ports/vault.ts";
import type { RotateSecret } from "../schema.ts";
import { openText } from "./opened.ts";
import { newSecret } from "./signature.ts";

type EndpointRow = typeof webhookEndpoints.$inferSelect;
type Keys = Pick<EndpointRow, "id" | "secret" | "previousSecrets">;

/** More signatures would make the header too long for some receivers. */
const maxSecrets = 10;

/** Replaced secrets that still sign. */
export function stillSigning(previous: EndpointRow["previousSecrets"], at: Date) {
  return previous.filter(({ until }) => new Date(until) > at);
}

/** All secrets that sign at this time, newest first. */
export function openSecrets({ id, secret, previousSecrets }: Keys, cipher: Cipher, at: Date): string[] {
  const earlier = stillSigning(previousSecrets, at).map(({ sealed }) => Buffer.from(sealed, "base64"));
  return [secret, ...earlier].map((sealed) => openText(cipher, sealed, id));
}

/** Creates a secret: its columns, and the part to show once. A private key is never shown. */
export function makeSecret(endpointId: string, signing: EndpointRow["signing"], cipher: Cipher) {
  const { secret, publicKey } = newSecret(signing);
  return {
    columns: { signing, publicKey, secret: cipher.seal(secret, endpointId) },
    shown: publicKey === null ? secret : null,
  };
}

/**
 * Gives a locked endpoint a new secret. The current one signs until the overlap ends, and earlier ones until their own end;
 * all are sealed for the same row, so their bytes are copied unchanged. Without an overlap all earlier secrets end now:
 * after a leak it is unclear which secret leaked.
 */
export async function replaceSecret(
  tx: Tx,
  before: EndpointRow,
  { overlapHours, signing }: RotateSecret,
  cipher: Cipher,
) {
  const at = new Date();
  const until = new Date(at.getTime() + overlapHours * 3_600_000).toISOString();
  const present = { sealed: before.secret.toString("base64"), until };
  const previousSecrets = overlapHours === 0 ? [] : stillSigning([present, ...before.previousSecrets], at);
  if (previousSecrets.length >= maxSecrets) throw new ApiError("webhook_secret_limit_reached");
  const { columns, shown } = makeSecret(before.id, signing ?? before.signing, cipher);
  const [changed] = await tx
    .update(webhookEndpoints)
    .set({ ...columns, previousSecrets, updatedAt: dbNow() })
    .where(eq(webhookEndpoints.id, before.id))
    .returning();
  return { row: changed!, secret: shown };
}
