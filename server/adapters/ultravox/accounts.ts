import { z } from "zod";
import type { Deadline } from "../../../routers/ports/provider-error.ts";
import type { UltravoxAccounts } from "../../../routers/ports/ultravox.ts";
import { json, type UltravoxClient, type UltravoxOptions } from "./http-client.ts";

/** The fields that we use of the OpenAPI schemas Account and Webhook. */
const Account = z.object({ accountId: z.string().min(1) });
const Webhook = z.object({ webhookId: z.string().min(1), url: z.string() });

/** All events that exist (docs.ultravox.ai/webhooks/available-webhooks). */
const events = ["call.started", "call.joined", "call.ended", "call.billed"];

/** For a key whose account is not known yet: it needs a breaker too. */
const unnamed = "pacc_unnamed";

export function accountsOf(
  { request, listAll, remove }: UltravoxClient,
  { publicUrl, installationAccounts = [] }: Pick<UltravoxOptions, "publicUrl" | "installationAccounts">,
): UltravoxAccounts {
  /** The provider's names of the installation's accounts, which never change. */
  const names = new Map<string, string>();
  const me = { method: "GET", repeat: "safe", path: "/api/accounts/me", read: json(Account).from } as const;
  async function nameOf(accountId: string, deadline: Deadline): Promise<string> {
    const name = names.get(accountId) ?? (await request(accountId, me, deadline)).accountId;
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
      const { accountId: providerName } = await request(unnamed, me, deadline, apiKey);
      const known = await Promise.all(installationAccounts.map((id) => nameOf(id, deadline)));
      return { providerName, isInstallations: known.includes(providerName) };
    },

    async ensureWebhook(accountId, { url, secret }, deadline) {
      const list = { path: "/api/webhooks", query: {}, item: Webhook, about: [url] };
      const existing = (await listAll(accountId, list, deadline)).find((webhook) => webhook.url === url);
      const read = json(Webhook).from;
      const body = { url, events, secrets: [secret] };
      const path = existing ? `/api/webhooks/${encodeURIComponent(existing.webhookId)}` : "/api/webhooks";
      const how = existing
        ? ({ method: "PATCH", repeat: "safe" } as const)
        : ({ method: "POST", repeat: "create" } as const);
      const webhook = await request(accountId, { ...how, path, body, read, secrets: [secret] }, deadline);
      return { providerWebhookId: webhook.webhookId };
    },

    removeWebhook: (accountId, providerWebhookId, deadline) =>
      remove(accountId, `/api/webhooks/${encodeURIComponent(providerWebhookId)}`, deadline),
  };
}
