import { randomBytes } from "node:crypto";
import { activeCalls } from "./call-lifecycle.ts";
import { page, sortByCreation } from "./page.ts";
import { NewWebhook, parse, TtsKeys, WebhookChange } from "./requests.ts";
import { type Asked, own, ownedBy, type Reply, type Route } from "./route.ts";
import { addWebhook, shelf, type Thing } from "./state.ts";
import { webhookView } from "./views.ts";

export const accountRoutes: Route[] = [
  { method: "GET", template: "/api/accounts/me", kind: "read", noun: "other", handle: getAccount },
  { method: "GET", template: "/api/accounts/me/tts_api_keys", kind: "read", noun: "other", handle: getTtsKeys },
  { method: "PATCH", template: "/api/accounts/me/tts_api_keys", kind: "change", noun: "other", handle: setTtsKeys },
  { method: "GET", template: "/api/webhooks", kind: "read", noun: "other", handle: listWebhooks },
  { method: "POST", template: "/api/webhooks", kind: "create", noun: "other", handle: createWebhook },
  { method: "GET", template: "/api/webhooks/{webhook_id}", kind: "read", noun: "other", handle: getWebhook },
  { method: "PUT", template: "/api/webhooks/{webhook_id}", kind: "change", noun: "other", handle: replaceWebhook },
  { method: "PATCH", template: "/api/webhooks/{webhook_id}", kind: "change", noun: "other", handle: updateWebhook },
  { method: "DELETE", template: "/api/webhooks/{webhook_id}", kind: "change", noun: "other", handle: removeWebhook },
];

function getAccount({ world, account, origin }: Asked): Reply {
  const body = {
    accountId: account.id,
    name: `Simulated account ${world.accounts.indexOf(account) + 1}`,
    billingUrl: `${origin}/billing`,
    freeTimeUsed: "0s",
    freeTimeRemaining: "0s",
    hasActiveSubscription: true,
    subscriptionTier: "SCALE",
    subscriptionCadence: "MONTHLY",
    subscriptionExpiration: null,
    subscriptionScheduledUpdate: null,
    subscriptionRenewal: null,
    activeCalls: activeCalls(world, account.id),
    allowedConcurrentCalls: account.concurrency ?? null,
    allowedVoices: account.voices ?? null,
    allowedCorpora: account.corpora ?? null,
  };
  return { status: 200, body };
}

/** Only the beginning of a key is stored: the provider never returns more, and a file on a laptop must not hold more. */
type Prefixes = Thing & { prefixes: Partial<Record<keyof TtsKeys, string>> };

function prefixesOf({ world, account }: Asked): Prefixes["prefixes"] {
  const kept = shelf<Prefixes>(world, "tts_keys");
  const found = kept.get(account.id) ?? { id: account.id, account: account.id, ordinal: kept.size, prefixes: {} };
  kept.set(account.id, found);
  return found.prefixes;
}

function getTtsKeys(asked: Asked): Reply {
  const entries = Object.entries(prefixesOf(asked)).map(([name, prefix]) => [name, { prefix }]);
  return { status: 200, body: Object.fromEntries(entries) };
}

function setTtsKeys(asked: Asked): Reply {
  const prefixes = prefixesOf(asked);
  for (const [name, key] of Object.entries(parse(TtsKeys, asked.body))) {
    if (key === null) delete prefixes[name as keyof TtsKeys];
    else prefixes[name as keyof TtsKeys] = key.slice(0, 6);
  }
  return getTtsKeys(asked);
}

function listWebhooks({ world, account, query, address }: Asked): Reply {
  const agentId = query.get("agentId");
  const found = ownedBy(world.webhooks, account).filter((webhook) => agentId === null || webhook.agentId === agentId);
  return { status: 200, body: page(sortByCreation(found, new URLSearchParams()), { query, address }, webhookView) };
}

function createWebhook({ world, account, body }: Asked): Reply {
  const { url, events, agentId = null, secrets } = parse(NewWebhook, body);
  const webhook = addWebhook(world, account.id, { url, events, agentId, secrets: secrets ?? [newSecret()] });
  return { status: 201, body: webhookView(webhook) };
}

function newSecret(): string {
  return randomBytes(24).toString("base64url");
}

function getWebhook(asked: Asked): Reply {
  return { status: 200, body: webhookView(own(asked.world.webhooks, asked)) };
}

function replaceWebhook(asked: Asked): Reply {
  const webhook = own(asked.world.webhooks, asked);
  const { agentId = null, secrets = webhook.secrets, ...rest } = parse(NewWebhook, asked.body);
  return { status: 200, body: webhookView(Object.assign(webhook, { agentId, secrets, ...rest })) };
}

function updateWebhook(asked: Asked): Reply {
  const webhook = own(asked.world.webhooks, asked);
  return { status: 200, body: webhookView(Object.assign(webhook, parse(WebhookChange, asked.body))) };
}

function removeWebhook(asked: Asked): Reply {
  asked.world.webhooks.delete(own(asked.world.webhooks, asked).id);
  return { status: 204 };
}
