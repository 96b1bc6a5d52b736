import type { Request, RequestHandler } from "express";
import { ingressWriter } from "../edge/ingress/ingress-writer.ts";
import { receiver, toleranceSeconds } from "../edge/ingress/receiver.ts";
import { stripeWebhook } from "../edge/ingress/stripe.ts";
import { telnyxWebhook } from "../edge/ingress/telnyx.ts";
import { ultravoxWebhook } from "../edge/ingress/ultravox.ts";
import { sendError } from "../edge/rest/router.ts";
import { ApiError } from "../routers/core/errors.ts";
import { verifyStripeSignature } from "./adapters/stripe-webhook.ts";
import { verifyTelnyxSignature } from "./adapters/telnyx-webhook.ts";
import { verifyUltravoxSignature } from "./adapters/ultravox/webhook.ts";
import type { Deps } from "./deps.ts";

const json = "application/json";
const form = "application/x-www-form-urlencoded";

/** The provider webhooks, by path. They accept only POST, verified by the provider's signature and not by a key of ours. */
export function ingressEndpoints(deps: Deps, requestIdOf: (req: Request) => string): [path: string, RequestHandler][] {
  const { env, log, providers } = deps;
  const common = { keep: ingressWriter(deps.db), log, requestIdOf, sendError };
  const ultravox = ultravoxWebhook({
    readEvent: (body) => providers.ultravox.readEvent(body),
    verifySignature: async (accountId, rawBody, timestampHeader, signatureHeader) =>
      verifyUltravoxSignature({
        rawBody,
        timestampHeader,
        signatureHeader,
        secrets: await deps.webhookSecretsOf(accountId),
        toleranceSeconds: { past: env.ULTRAVOX_WEBHOOK_PAST_SECONDS, future: env.ULTRAVOX_WEBHOOK_FUTURE_SECONDS },
        now: new Date(),
      }),
  });
  const stripe = stripeWebhook({
    readEvent: (body) => providers.stripe.readEvent(body),
    verifySignature: (rawBody, signatureHeader) => {
      const secrets = env.STRIPE_WEBHOOK_SECRETS;
      return verifyStripeSignature({ rawBody, signatureHeader, secrets, toleranceSeconds, now: new Date() });
    },
  });
  const telnyx = telnyxWebhook({
    readEvent: (body) => providers.telnyx.readEvent(body),
    verifySignature: async (clientId, rawBody, timestampHeader, signatureHeader) => {
      const keys = await deps.telnyxKeysOf(clientId);
      const now = new Date();
      return verifyTelnyxSignature({ rawBody, timestampHeader, signatureHeader, keys, toleranceSeconds, now });
    },
  });
  const hasStripe = env.STRIPE_WEBHOOK_SECRETS.length > 0;
  const notFound: RequestHandler = (req, res) => sendError(res, new ApiError("route_not_found"), requestIdOf(req));
  return [
    ["/api/v1/webhooks/ultravox", receiver({ ...common, verify: ultravox })],
    ["/api/v1/webhooks/stripe", hasStripe ? receiver({ ...common, verify: stripe, mediaTypes: [json] }) : notFound],
    ["/api/v1/webhooks/telnyx", receiver({ ...common, verify: telnyx, mediaTypes: [json, form] })],
  ];
}
