import type { Telnyx } from "./carriers.ts";
import type { EventBus } from "./event-bus.ts";
import type { Files } from "./files.ts";
import type { GuardedFetch } from "./guarded-fetch.ts";
import type { Stripe } from "./stripe.ts";
import type { Ultravox } from "./ultravox.ts";
import type { MasterKeys, Vault } from "./vault.ts";
import type { Vendors } from "./vendors.ts";
import type { WebhookSender } from "./webhook-sender.ts";

/** What the domain needs from other services, in our terms. `server/adapters/` implements it. */
export type Providers = {
  /** null: no event bus is configured. */
  bus: EventBus | null;
  ultravox: Ultravox;
  telnyx: Telnyx;
  stripe: Stripe;
  vault: Vault;
  masterKeys: MasterKeys;
  webhooks: WebhookSender;
  files: Files;
  vendors: Vendors;
  guarded: GuardedFetch;
};
