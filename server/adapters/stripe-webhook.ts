import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { storable } from "../../db/text.ts";
import type { Stripe } from "../../routers/ports/stripe.ts";
import { parsedOrUndefined } from "./shared/json.ts";

export type StripeVerdict =
  | { verdict: "valid"; secretId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

/**
 * Checks `Stripe-Signature`: `t=<unix seconds>,v1=<hex>`, an HMAC-SHA256 of `t.body` with the whole text of the secret;
 * several `v1` while a secret is being replaced (docs.stripe.com/webhooks). Stripe's own library accepts timestamps in the
 * future, so it is not used. Every secret is compared with every signature: the time taken does not show which matched.
 */
export function verifyStripeSignature(input: {
  rawBody: Buffer;
  signatureHeader: string | undefined;
  secrets: readonly string[];
  toleranceSeconds: number;
  now: Date;
}): StripeVerdict {
  const { rawBody, signatureHeader, secrets, toleranceSeconds, now } = input;
  if (!signatureHeader) return { verdict: "forged", reason: "The header Stripe-Signature is missing." };
  const parts = signatureHeader.split(",").map((part) => part.trim().split("=", 2) as [string, string?]);
  const given = (name: string) => parts.flatMap(([key, value]) => (key === name && value ? [value] : []));
  const [timestamp, ...more] = given("t");
  if (!timestamp || more.length > 0 || !/^\d{1,12}$/.test(timestamp)) {
    return { verdict: "forged", reason: "The signature has no timestamp." };
  }
  const signatures = given("v1").filter((hex) => /^[0-9a-f]{64}$/i.test(hex));
  const secretId = signer(
    `${timestamp}.`,
    rawBody,
    signatures.map((hex) => Buffer.from(hex, "hex")),
    secrets,
  );
  if (!secretId) return { verdict: "forged", reason: "No signature matches a configured secret." };
  const timestampSeconds = Number(timestamp);
  if (Math.abs(now.getTime() / 1000 - timestampSeconds) > toleranceSeconds) {
    return { verdict: "stale", reason: `Signed more than ${toleranceSeconds} seconds away from now.` };
  }
  return { verdict: "valid", secretId, timestampSeconds };
}

function signer(prefix: string, body: Buffer, given: Buffer[], secrets: readonly string[]): string | undefined {
  let match: string | undefined;
  for (const [index, secret] of secrets.entries()) {
    const expected = createHmac("sha256", secret).update(prefix).update(body).digest();
    const hits = given.reduce((count, signature) => count + Number(timingSafeEqual(signature, expected)), 0);
    if (hits > 0) match ??= `stripe#${index + 1}`;
  }
  return match;
}

const Event = z.object({
  id: z.string().regex(/^[\w.-]{1,255}$/),
  type: z.string().regex(/^[\w.-]{1,255}$/),
  api_version: z.string().max(100).transform(storable).nullish(),
  livemode: z.boolean().nullish(),
});

/** Reads the envelope of an event, in every API version. Its content depends on the version of the endpoint. */
export const stripe: Stripe = {
  readEvent(rawBody) {
    const { id, type, api_version, livemode } = Event.parse(parsedOrUndefined(rawBody));
    return { id, type, apiVersion: api_version ?? null, livemode: livemode ?? false };
  },
};
