import { z } from "zod";
import type { Deadline } from "../../../routers/ports/provider-error.ts";
import type { UltravoxAccounts } from "../../../routers/ports/ultravox.ts";
import { json, type Line, type UltravoxOptions } from "./http-client.ts";

/** Of openapi: Account and Webhook, what we need. */
const Account = z.object({ accountId: z.string().min(1) });
const Webhook = z.object({ webhookId: z.string().min(1), url: z.string() });

/** All that there are (docs.ultravox.ai/webhooks/available-webhooks). */
const events = ["call.started", "call.joined", "call.ended", "call.billed"];

/** Of a key whose account we do not know yet: it has a breaker too. */
const unnamed = "pacc_unnamed";

export function accountsOf(
  { ask, all, remove }: Line,
  { publicUrl, installationAccounts = [] }: Pick<UltravoxOptions, "publicUrl" | "installationAccounts">,
): UltravoxAccounts {
  /** What the provider calls the installation's accounts: that does not change. */
  const names = new Map<string, string>();
  const me = { method: "GET", repeat: "safe", path: "/api/accounts/me", read: json(Account).from } as const;
  async function nameOf(accountId: string, deadline: Deadline): Promise<string> {
    const name = names.get(accountId) ?? (await ask(accountId, me, deadline)).accountId;
    names.set(accountId, name);
    return name;
  }

  return {
    webhookUrl(accountId) {
      if (!publicUrl) return null;
      const url = new URL(`${publicUrl.replace(/\/+$/, "")}/api/v1/webhooks/ultravox`);
      url.searchParams.set("account", accountId);
      return url.href;
    },

    async describeAccount(apiKey, deadline) {
      const { accountId: providerName } = await ask(unnamed, me, deadline, apiKey);
      const known = await Promise.all(installationAccounts.map((id) => nameOf(id, deadline)));
      return { providerName, isInstallations: known.includes(providerName) };
    },

    async ensureWebhook(accountId, { url, secret }, deadline) {
      const list = { path: "/api/webhooks", query: {}, item: Webhook };
      const known = (await all(accountId, list, deadline)).find((webhook) => webhook.url === url);
      const read = json(Webhook).from;
      const body = { url, events, secrets: [secret] };
      const path = known ? `/api/webhooks/${encodeURIComponent(known.webhookId)}` : "/api/webhooks";
      const how = known
        ? ({ method: "PATCH", repeat: "safe" } as const)
        : ({ method: "POST", repeat: "create" } as const);
      const made = await ask(accountId, { ...how, path, body, read, secrets: [secret] }, deadline);
      return { providerWebhookId: made.webhookId };
    },

    removeWebhook: (accountId, providerWebhookId, deadline) =>
      remove(accountId, `/api/webhooks/${encodeURIComponent(providerWebhookId)}`, deadline),
  };
}
