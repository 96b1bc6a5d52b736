import { createHmac, randomBytes } from "node:crypto";

const prefix = "whsec_";

type Message = { id: string; timestampSeconds: number; body: string; secret: string };

/** A signing secret as Standard Webhooks writes it: `whsec_` and the base64 of 32 random bytes. */
export const newSecret = () => `${prefix}${randomBytes(32).toString("base64")}`;

/** The `webhook-signature` of Standard Webhooks 1.0, symmetric: an HMAC-SHA256 over `id.timestamp.body`. */
export function sign({ id, timestampSeconds, body, secret }: Message): string {
  const key = Buffer.from(secret.slice(prefix.length), "base64");
  if (!secret.startsWith(prefix) || key.length < 24 || id.includes(".")) throw new Error("This cannot be signed.");
  return `v1,${createHmac("sha256", key).update(`${id}.${timestampSeconds}.${body}`).digest("base64")}`;
}
