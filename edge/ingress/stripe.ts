import type { Stripe } from "../../routers/ports/stripe.ts";
import { header, refused, unreadable, type Verify } from "./receiver.ts";

type SignatureVerdict =
  | { verdict: "valid"; secretId: string; timestampSeconds: number }
  | { verdict: "stale" | "forged"; reason: string };

type Options = {
  verifySignature: (rawBody: Buffer, signatureHeader: string | undefined) => SignatureVerdict;
  readEvent: Stripe["readEvent"];
};

/** The installation has only one Stripe account. */
const account = "stripe";

/**
 * An event is identified by its id. Stripe signs each attempt again, so an event outside the time window is not stored: the
 * next attempt is in time. The API version shows how to read the event; the signature itself is not stored.
 */
export function stripeWebhook({ verifySignature, readEvent }: Options): Verify {
  return (body, headers) => {
    const found = verifySignature(body, header(headers["stripe-signature"]));
    if (found.verdict !== "valid") return refused(found);
    const { apiVersion, livemode, ...name } = nameOf(body, readEvent);
    return {
      received: {
        provider: "stripe",
        providerAccountId: account,
        ...name,
        body,
        headers: {
          "signed-at": String(found.timestampSeconds),
          ...(apiVersion ? { "api-version": apiVersion } : {}),
          ...(livemode === undefined ? {} : { livemode: String(livemode) }),
        },
        verifiedBy: found.secretId,
        stale: false,
      },
    };
  };
}

type Name = { key: string; eventType: string; apiVersion?: string | null; livemode?: boolean };

function nameOf(body: Buffer, readEvent: Stripe["readEvent"]): Name {
  try {
    const { id, type, apiVersion, livemode } = readEvent(body);
    return { key: id, eventType: type, apiVersion, livemode };
  } catch {
    return unreadable(body);
  }
}
