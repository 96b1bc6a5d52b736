import type { Telnyx } from "./providers/carriers.ts";
import type { EventBus } from "./providers/event-bus.ts";
import type { Files } from "./providers/files.ts";
import type { GuardedFetch } from "./providers/guarded-fetch.ts";
import type { Stripe } from "./providers/stripe.ts";
import type { Ultravox } from "./providers/ultravox.ts";
import type { MasterKeys, Vault } from "./providers/vault.ts";
import type { Vendors } from "./providers/vendors.ts";
import type { WebhookSender } from "./webhooks/sender.ts";

/** What the domain needs of other companies' machines, in our words. `server/providers/` implements it. */
export type Providers = {
  /** null: there is none, and nothing is told. */
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
