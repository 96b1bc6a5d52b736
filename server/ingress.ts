import type { Request, RequestHandler } from "express";
import { keeper } from "../edge/ingress/keeper.ts";
import { receiver, toleranceSeconds } from "../edge/ingress/receiver.ts";
import { stripeWebhook } from "../edge/ingress/stripe.ts";
import { telnyxWebhook } from "../edge/ingress/telnyx.ts";
import { ultravoxWebhook } from "../edge/ingress/ultravox.ts";
import { sendFault } from "../edge/rest.ts";
import { Fault } from "../routers/fault.ts";
import type { Deps } from "./deps.ts";
import { verifyStripeSignature } from "./providers/stripe-webhook.ts";
import { verifyTelnyxSignature } from "./providers/telnyx-webhook.ts";
import { verifyUltravoxSignature } from "./providers/ultravox-webhook.ts";

const json = "application/json";
const form = "application/x-www-form-urlencoded";

/** The doors that providers call, by path. They take POST alone, and no one knocks there with a key of ours. */
export function ingressDoors(deps: Deps, requestIdOf: (req: Request) => string): [path: string, RequestHandler][] {
  const { env, log, providers } = deps;
  const common = { keep: keeper(deps.db), log, requestIdOf, sendFault };
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
  const isThere = env.STRIPE_WEBHOOK_SECRETS.length > 0;
  const nowhere: RequestHandler = (req, res) => sendFault(res, new Fault("route_not_found"), requestIdOf(req));
  return [
    ["/api/v1/webhooks/ultravox", receiver({ ...common, verify: ultravox })],
    ["/api/v1/webhooks/stripe", isThere ? receiver({ ...common, verify: stripe, mediaTypes: [json] }) : nowhere],
    ["/api/v1/webhooks/telnyx", receiver({ ...common, verify: telnyx, mediaTypes: [json, form] })],
  ];
}
