import { randomBytes } from "node:crypto";
import { activeCalls } from "./call-lifecycle.ts";
import { page, sortByCreation } from "./page.ts";
import { NewWebhook, parse, TtsKeys, WebhookChange } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { addWebhook, shelf, type Thing } from "./state.ts";
import { webhookView } from "./views.ts";

export const accountRoutes: Route[] = [
  { method: "GET", template: "/api/accounts/me", kind: "read", resource: "other", handle: getAccount },
  { method: "GET", template: "/api/accounts/me/tts_api_keys", kind: "read", resource: "other", handle: getTtsKeys },
  { method: "PATCH", template: "/api/accounts/me/tts_api_keys", kind: "change", resource: "other", handle: setTtsKeys },
  { method: "GET", template: "/api/webhooks", kind: "read", resource: "other", handle: listWebhooks },
  { method: "POST", template: "/api/webhooks", kind: "create", resource: "other", handle: createWebhook },
  { method: "GET", template: "/api/webhooks/{webhook_id}", kind: "read", resource: "other", handle: getWebhook },
  { method: "PUT", template: "/api/webhooks/{webhook_id}", kind: "change", resource: "other", handle: replaceWebhook },
  { method: "PATCH", template: "/api/webhooks/{webhook_id}", kind: "change", resource: "other", handle: updateWebhook },
  {
    method: "DELETE",
    template: "/api/webhooks/{webhook_id}",
    kind: "change",
    resource: "other",
    handle: removeWebhook,
  },
];

function getAccount({ world, account, origin }: SimulatorRequest): Reply {
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

function prefixesOf({ world, account }: SimulatorRequest): Prefixes["prefixes"] {
  const kept = shelf<Prefixes>(world, "tts_keys");
  const found = kept.get(account.id) ?? { id: account.id, account: account.id, ordinal: kept.size, prefixes: {} };
  kept.set(account.id, found);
  return found.prefixes;
}

function getTtsKeys(request: SimulatorRequest): Reply {
  const entries = Object.entries(prefixesOf(request)).map(([name, prefix]) => [name, { prefix }]);
  return { status: 200, body: Object.fromEntries(entries) };
}

function setTtsKeys(request: SimulatorRequest): Reply {
  const prefixes = prefixesOf(request);
  for (const [name, key] of Object.entries(parse(TtsKeys, request.body))) {
    if (key === null) delete prefixes[name as keyof TtsKeys];
    else prefixes[name as keyof TtsKeys] = key.slice(0, 6);
  }
  return getTtsKeys(request);
}

function listWebhooks({ world, account, query, address }: SimulatorRequest): Reply {
  const agentId = query.get("agentId");
  const found = ownedBy(world.webhooks, account).filter((webhook) => agentId === null || webhook.agentId === agentId);
  return { status: 200, body: page(sortByCreation(found, new URLSearchParams()), { query, address }, webhookView) };
}

function createWebhook({ world, account, body }: SimulatorRequest): Reply {
  const { url, events, agentId = null, secrets } = parse(NewWebhook, body);
  const webhook = addWebhook(world, account.id, { url, events, agentId, secrets: secrets ?? [newSecret()] });
  return { status: 201, body: webhookView(webhook) };
}

function newSecret(): string {
  return randomBytes(24).toString("base64url");
}

function getWebhook(request: SimulatorRequest): Reply {
  return { status: 200, body: webhookView(own(request.world.webhooks, request)) };
}

function replaceWebhook(request: SimulatorRequest): Reply {
  const webhook = own(request.world.webhooks, request);
  const { agentId = null, secrets = webhook.secrets, ...rest } = parse(NewWebhook, request.body);
  return { status: 200, body: webhookView(Object.assign(webhook, { agentId, secrets, ...rest })) };
}

function updateWebhook(request: SimulatorRequest): Reply {
  const webhook = own(request.world.webhooks, request);
  return { status: 200, body: webhookView(Object.assign(webhook, parse(WebhookChange, request.body))) };
}

function removeWebhook(request: SimulatorRequest): Reply {
  request.world.webhooks.delete(own(request.world.webhooks, request).id);
  return { status: 204 };
}
