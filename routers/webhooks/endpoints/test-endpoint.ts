import { performance } from "node:perf_hooks";
import { eventExamples } from "../../../db/event-examples.ts";
import { catalogue } from "../../../db/events.ts";
import { newId } from "../../../db/ids.ts";
import type { ProviderQuery } from "../../core/call-provider.ts";
import { toIso } from "../../core/fields.ts";
import type { Event } from "../../events/schema.ts";
import type { Cipher } from "../../ports/vault.ts";
import { SendFailed, type WebhookRequest, type WebhookSender } from "../../ports/webhook-sender.ts";
import { dispatchLimits } from "../deliveries/dispatch.ts";
import { messageTo, type Recipient } from "../deliveries/message.ts";
import type { EndpointTrial, TestEndpoint } from "../schema.ts";
import { hideHeaders, openHeaders } from "./headers.ts";
import { findEndpoint } from "./service.ts";

type With = { clientId: string; ring: Cipher; sender: WebhookSender };
type Asked = { request: WebhookRequest; own: Record<string, string> };

/**
 * Sends one endpoint the example of an event, signed as a delivery is, and tells what came back. Nothing of it is kept,
 * and an endpoint that is switched off can be tried too: before it is switched on.
 */
export function testEndpoint(
  { id, eventType }: TestEndpoint,
  { clientId, ring, sender }: With,
): ProviderQuery<Asked, EndpointTrial, EndpointTrial> {
  return {
    async read(tx) {
      const recipient: Recipient = await findEndpoint(tx, id);
      const request = messageTo(recipient, exampleFor(clientId, id, eventType), ring, new Date());
      return { request, own: openHeaders(recipient.headers, id, ring) };
    },
    execute: (asked, { signal }) => send(sender, asked, signal),
    record: async (_tx, _asked, got) => got,
  };
}

function exampleFor(clientId: string, endpointId: string, type: TestEndpoint["eventType"]): Event {
  const data = type === "webhook.test" ? { ...eventExamples[type], id: endpointId } : eventExamples[type];
  return {
    id: newId("event"),
    type,
    createdAt: toIso(new Date()),
    clientId,
    subject: { type: catalogue[type].subject, id: "id" in data ? data.id : clientId, sequence: 1 },
    data,
  };
}

async function send(sender: WebhookSender, asked: Asked, given: AbortSignal): Promise<EndpointTrial> {
  const signal = AbortSignal.any([given, AbortSignal.timeout(dispatchLimits.deadlineSeconds * 1000)]);
  const began = performance.now();
  try {
    const { status, latencyMs, response } = await sender.send(asked.request, { signal });
    const delivered = status >= 200 && status < 300;
    const error = status >= 300 && status < 400 ? "redirect_not_followed" : null;
    return { delivered, status, error, latencyMs, response: hideHeaders(response, asked.own), request: shown(asked) };
  } catch (error) {
    if (!(error instanceof SendFailed)) throw error;
    const latencyMs = Math.round(performance.now() - began);
    return { delivered: false, status: null, error: error.reason, latencyMs, response: null, request: shown(asked) };
  }
}

const hidden = "[hidden]";

function shown({ request: { url, headers, body }, own }: Asked): EndpointTrial["request"] {
  const entries = Object.entries(headers).map(([name, value]) => {
    return [name, name in own || name === "webhook-signature" ? hidden : value] as const;
  });
  return { url, headers: Object.fromEntries(entries), body };
}
