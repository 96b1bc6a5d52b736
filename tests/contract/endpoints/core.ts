import { newId } from "../../../db/ids.ts";
import type { SeededClient } from "../../../dev/seed.ts";
import { createApiKey } from "../../../routers/api-keys/service.ts";
import type { Scope } from "../../../routers/core/scopes.ts";
import { agent, type TestApp } from "../../support/app.ts";
import { type ModuleInputs, page, type ResourceIds } from "./resource.ts";

export const hook = { url: "https://example.com/hook", description: "CRM", eventTypes: ["call.*"] };
const sending = { headers: { "x-tenant": "acme" }, payload: "thin", ratePerSecond: 50 };
/** No server listens there: an attempt fails immediately. */
const deaf = { ...hook, url: "http://127.0.0.1:9/hook" };
export const config = {
  ...agent,
  model: "fixie-ai/ultravox",
  voice: "Mark",
  languageHint: "en",
  temperature: 0.3,
  firstSpeaker: "agent",
  greeting: "Good morning!",
  recordingEnabled: true,
  joinTimeoutSeconds: 30,
};

export async function makeKey(h: TestApp, { clientId, userId }: SeededClient, of: readonly Scope[]) {
  const wanted = { name: "Narrow", scopes: [...of] };
  return h.deps.db.asClient({ clientId }, (tx) =>
    createApiKey(tx, wanted, { id: userId, scopes: ["*"] }, h.deps.auth.hashKey),
  );
}

export const apiKeys: ModuleInputs = {
  async createResources({ h, who }) {
    return { apiKey: (await makeKey(h, who, ["calls:read"])).id };
  },
  needs: { "apiKeys.create": ["calls:read", "calls:write"] },
  inputs: {
    "apiKeys.create": () => ({
      kind: "platform",
      name: "CI",
      scopes: ["api_keys:write"],
      expiresAt: "2099-01-01T00:00:00.000Z",
      provider: null,
      secret: null,
    }),
    "apiKeys.rotate": async ({ h, who }) => ({
      id: (await makeKey(h, who, ["api_keys:write"])).id,
      graceSeconds: 60,
    }),
    "apiKeys.list": ({ who }) => ({ ...page, createdBy: who.userId }),
    "apiKeys.revoke": async ({ h, who }) => ({ id: (await makeKey(h, who, ["calls:read"])).id }),
  },
};

export const auth: ModuleInputs = { inputs: { "auth.me": () => ({}), "auth.clients": () => ({}) } };

export const billing: ModuleInputs = {
  inputs: {
    "billing.balance": () => ({}),
    "billing.prices": () => ({}),
    "billing.ledger": ({ own }) => ({ ...page, subjectId: own.call }),
  },
};

export const events: ModuleInputs = {
  async createResources({ h, who, own }) {
    const [event] =
      await h.owner`select id from events where client_id = ${who.clientId} and subject_id = ${own.agent!}`;
    return { event: event!.id };
  },
  inputs: {
    "events.list": ({ own }) => ({
      ...page,
      order: "desc",
      type: "agent.created",
      types: ["agent.*"],
      subjectType: "agent",
      subjectId: own.agent,
      createdAfter: "2026-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "events.get": ({ own }) => ({ id: own.event }),
  },
};

export const webhooks: ModuleInputs = {
  async createResources({ h, who }) {
    const endpoint = await makeEndpoint(h, who);
    return { endpoint, ...(await makeDelivery(h, who, endpoint)), replay: await makeReplay(h, who, endpoint) };
  },
  inputs: {
    "webhooks.create": () => ({ ...hook, ...sending, signing: "v1a", status: "enabled" }),
    "webhooks.list": ({ who }) => ({ ...page, status: "enabled", createdBy: who.keyId }),
    "webhooks.get": ({ own }) => ({ id: own.endpoint }),
    "webhooks.update": ({ own }) => ({ id: own.endpoint, ...deaf, ...sending, status: "enabled", missed: null }),
    "webhooks.remove": async ({ h, who }) => ({ id: await makeEndpoint(h, who) }),
    "webhooks.rotateSecret": ({ own }) => ({ id: own.endpoint, overlapHours: 0, signing: "v1a" }),
    "webhooks.test": ({ own }) => ({ id: own.endpoint, eventType: "call.ended" }),
    "webhooks.replay": async ({ h, own }) => {
      await endReplays(h, own.endpoint!);
      const [createdAfter, createdBefore] = ["2026-11-01T00:00:00Z", "2026-11-22T10:15:30Z"];
      return { id: own.endpoint, which: "missed", createdAfter, createdBefore, eventTypes: ["call.*"] };
    },
    "webhooks.replays.list": ({ own }) => ({ ...page, id: own.endpoint }),
    "webhooks.replays.get": ({ own }) => ({ id: own.replay }),
    "webhooks.replays.cancel": async ({ h, who, own }) => ({
      id: await makeReplay(h, who, own.endpoint!),
    }),
    "webhooks.eventTypes": () => ({}),
    "webhooks.deliveries.list": ({ own }) => ({ ...page, id: own.endpoint, ...chosen(own) }),
    "webhooks.deliveries.search": ({ own }) => ({ ...page, endpointId: own.endpoint, ...chosen(own) }),
    "webhooks.deliveries.get": ({ own }) => ({ id: own.delivery }),
    "webhooks.deliveries.redeliver": async ({ h, who, own }) => ({
      id: (await makeDelivery(h, who, own.endpoint!)).delivery,
    }),
  },
};

const chosen = (own: ResourceIds) => ({
  status: "dead",
  eventType: "call.ended",
  eventId: own.event,
  subjectId: own.agent,
  lastStatus: 503,
  lastError: "timeout",
  createdAfter: "2026-11-01T00:00:00Z",
  createdBefore: "2099-01-01T00:00:00Z",
});

async function makeEndpoint(h: TestApp, who: SeededClient): Promise<string> {
  return (await h.post("/webhooks", { ...deaf, description: null }, { key: who.key })).body.data.id;
}

async function makeDelivery(h: TestApp, { clientId }: SeededClient, endpoint: string) {
  const [delivery, event] = [newId("delivery"), newId("event")];
  await h.owner`with stated as (
      insert into events (client_id, id, type, subject_type, subject_id, sequence, data)
      values (${clientId}, ${event}, 'call.ended', 'call', ${newId("call")}, 1, '{}') returning created_at)
    insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status)
    select ${clientId}, ${delivery}, ${endpoint}, ${event}, 'call.ended', created_at, 'dead' from stated`;
  return { delivery, event };
}

/** Only one runs at a time. */
async function endReplays(h: TestApp, endpoint: string) {
  await h.owner`update webhook_replays set status = 'completed' where endpoint_id = ${endpoint} and status = 'running'`;
}

async function makeReplay(h: TestApp, { clientId }: SeededClient, endpoint: string): Promise<string> {
  await endReplays(h, endpoint);
  const id = newId("replay");
  await h.owner`insert into webhook_replays (client_id, id, endpoint_id, which, created_after, created_before)
    values (${clientId}, ${id}, ${endpoint}, 'dead', now() - interval '1 day', now())`;
  return id;
}

/** A failed run, which can be retried. */
async function failedRun(h: TestApp, clientId: string, subjectId: string): Promise<string> {
  const id = newId("workflow");
  await h.owner`insert into workflow_runs (client_id, id, name, subject_id, status)
    values (${clientId}, ${id}, 'artifacts-backfill', ${subjectId}, 'failed')`;
  await h.owner`insert into workflow_steps (client_id, run_id, position, name, status)
    values (${clientId}, ${id}, 0, 'transcript', 'failed')`;
  return id;
}

export const internal: ModuleInputs = {
  async createResources({ h, who, own }) {
    return { workflow: await failedRun(h, who.clientId, own.call!) };
  },
  inputs: {
    "internal.workflows.list": ({ own, who }) => ({
      ...page,
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
      status: "failed",
      name: "artifacts-backfill",
      clientId: who.clientId,
      subjectId: own.call,
    }),
    "internal.workflows.get": ({ own }) => ({ id: own.workflow }),
    "internal.workflows.retry": async ({ h, who }) => ({ id: await failedRun(h, who.clientId, newId("call")) }),
  },
};
