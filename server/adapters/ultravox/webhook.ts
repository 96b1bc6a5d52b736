import { createHmac, timingSafeEqual } from "node:crypto";
import { instant } from "./values.ts";

export type WebhookSecret = { accountId: string; secretId: string; secret: string };

/**
 * `stale`: signed by the account, but outside the time window, so it may be a replay: change nothing, and read the call
 * from the provider.
 */
export type SignatureVerdict =
  | { verdict: "valid" | "stale"; accountId: string; secretId: string }
  | { verdict: "refused"; reason: string };

/**
 * Checks `X-Ultravox-Webhook-Signature`: hex HMAC-SHA256 of the body followed by the timestamp header, comma-separated,
 * one for each secret of the webhook (docs.ultravox.ai/webhooks/securing-webhooks). Every secret is compared with every
 * signature, so the time taken does not show which one matched.
 */
export function verifyUltravoxSignature(input: {
  rawBody: Buffer;
  timestampHeader: string | undefined;
  signatureHeader: string | undefined;
  secrets: WebhookSecret[];
  now: Date;
  toleranceSeconds: { past: number; future: number };
}): SignatureVerdict {
  const { rawBody, timestampHeader, signatureHeader, secrets, now, toleranceSeconds } = input;
  if (!timestampHeader) return { verdict: "refused", reason: "The timestamp header is missing." };
  if (!signatureHeader) return { verdict: "refused", reason: "The signature header is missing." };

  const match = signer(rawBody, timestampHeader, signaturesIn(signatureHeader), secrets);
  if (!match) return { verdict: "refused", reason: "No signature matches a configured secret." };
  const sentAt = instant(timestampHeader.trim());
  if (!sentAt) return { verdict: "refused", reason: "The timestamp is not an ISO 8601 instant." };

  const ageSeconds = (now.getTime() - sentAt.getTime()) / 1000;
  const isFresh = ageSeconds <= toleranceSeconds.past && -ageSeconds <= toleranceSeconds.future;
  return { verdict: isFresh ? "valid" : "stale", accountId: match.accountId, secretId: match.secretId };
}

/** Only whole SHA-256 digests: `timingSafeEqual` throws on other lengths, and hex decoding stops silently at an error. */
function signaturesIn(header: string): Buffer[] {
  const parts = header.split(",").map((part) => part.trim());
  return parts.filter((part) => /^[0-9a-f]{64}$/i.test(part)).map((part) => Buffer.from(part, "hex"));
}

function signer(body: Buffer, timestamp: string, given: Buffer[], secrets: WebhookSecret[]): WebhookSecret | undefined {
  let match: WebhookSecret | undefined;
  for (const candidate of secrets) {
    // An empty secret can sign anything.
    if (candidate.secret === "") continue;
    const expected = createHmac("sha256", candidate.secret).update(body).update(timestamp).digest();
    const hits = given.reduce((count, signature) => count + Number(timingSafeEqual(signature, expected)), 0);
    match ??= hits > 0 ? candidate : undefined;
  }
  return match;
}
