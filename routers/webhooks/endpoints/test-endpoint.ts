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
import type { EndpointTestResult, TestEndpoint } from "../schema.ts";
import { hideHeaders, openHeaders } from "./headers.ts";
import { findEndpoint } from "./service.ts";

type Dependencies = { clientId: string; cipher: Cipher; sender: WebhookSender };
type TestRequest = { request: WebhookRequest; ownHeaders: Record<string, string> };

/**
 * Sends an example event to an endpoint, signed like a delivery, and returns the response. Nothing is stored. A disabled
 * endpoint can be tested too, before it is enabled.
 */
export function testEndpoint(
  { id, eventType }: TestEndpoint,
  { clientId, cipher, sender }: Dependencies,
): ProviderQuery<TestRequest, EndpointTestResult, EndpointTestResult> {
  return {
    async read(tx) {
      const recipient: Recipient = await findEndpoint(tx, id);
      const request = messageTo(recipient, exampleEvent(clientId, id, eventType), cipher, new Date());
      return { request, ownHeaders: openHeaders(recipient.headers, id, cipher) };
    },
    execute: (test, { signal }) => send(sender, test, signal),
    record: async (_tx, _test, result) => result,
  };
}

function exampleEvent(clientId: string, endpointId: string, type: TestEndpoint["eventType"]): Event {
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

async function send(sender: WebhookSender, test: TestRequest, outer: AbortSignal): Promise<EndpointTestResult> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(dispatchLimits.deadlineSeconds * 1000)]);
  const startedAt = performance.now();
  try {
    const { status, latencyMs, response } = await sender.send(test.request, { signal });
    const delivered = status >= 200 && status < 300;
    const error = status >= 300 && status < 400 ? "redirect_not_followed" : null;
    return {
      delivered,
      status,
      error,
      latencyMs,
      response: hideHeaders(response, test.ownHeaders),
      request: toShown(test),
    };
  } catch (error) {
    if (!(error instanceof SendFailed)) throw error;
    const latencyMs = Math.round(performance.now() - startedAt);
    return { delivered: false, status: null, error: error.reason, latencyMs, response: null, request: toShown(test) };
  }
}

const hidden = "[hidden]";

function toShown({ request: { url, headers, body }, ownHeaders }: TestRequest): EndpointTestResult["request"] {
  const entries = Object.entries(headers).map(([name, value]) => {
    return [name, name in ownHeaders || name === "webhook-signature" ? hidden : value] as const;
  });
  return { url, headers: Object.fromEntries(entries), body };
}
