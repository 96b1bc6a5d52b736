import type { webhookEndpoints } from "../../../db/schema/events.ts";
import type { Event } from "../../events/schema.ts";
import type { Cipher } from "../../ports/vault.ts";
import type { WebhookRequest } from "../../ports/webhook-sender.ts";
import { openHeaders } from "../endpoints/headers.ts";
import { openSecrets } from "../endpoints/secrets.ts";
import { sign } from "../endpoints/signature.ts";

type EndpointRow = typeof webhookEndpoints.$inferSelect;

/** What of an endpoint goes into every message to it. */
export type Recipient = Pick<EndpointRow, "id" | "url" | "payload" | "secret" | "previousSecrets" | "headers">;

/** The signed request that tells an endpoint of an event. Its body is the same on every attempt. */
export function messageTo(recipient: Recipient, event: Event, ring: Cipher, at: Date): WebhookRequest {
  const { data, ...envelope } = event;
  const body = JSON.stringify(recipient.payload === "thin" ? envelope : { ...envelope, data });
  const timestampSeconds = Math.floor(at.getTime() / 1000);
  const secrets = openSecrets(recipient, ring, at);
  const headers = {
    ...openHeaders(recipient.headers, recipient.id, ring),
    "content-type": "application/json",
    "user-agent": "Patchbay-Webhooks/1.0",
    "webhook-id": event.id,
    "webhook-timestamp": String(timestampSeconds),
    "webhook-signature": sign({ id: event.id, timestampSeconds, body, secrets }),
  };
  return { url: recipient.url, headers, body };
}
