import type { webhookEndpoints } from "../../../db/schema/events.ts";
import type { Event } from "../../events/schema.ts";
import type { Cipher } from "../../ports/vault.ts";
import type { WebhookRequest } from "../../ports/webhook-sender.ts";
import { openHeaders } from "../endpoints/headers.ts";
import { openSecrets } from "../endpoints/secrets.ts";
import { sign } from "../endpoints/signature.ts";

type EndpointRow = typeof webhookEndpoints.$inferSelect;

/** The parts of an endpoint that every request to it needs. */
export type Recipient = Pick<EndpointRow, "id" | "url" | "payload" | "secret" | "previousSecrets" | "headers">;

/** The signed request for an event. Its body is the same on every attempt. */
export function messageTo(recipient: Recipient, event: Event, cipher: Cipher, at: Date): WebhookRequest {
  const { data, ...envelope } = event;
  const body = JSON.stringify(recipient.payload === "thin" ? envelope : { ...envelope, data });
  const timestampSeconds = Math.floor(at.getTime() / 1000);
  const secrets = openSecrets(recipient, cipher, at);
  const headers = {
    ...openHeaders(recipient.headers, recipient.id, cipher),
    "content-type": "application/json",
    "user-agent": "Patchbay-Webhooks/1.0",
    "webhook-id": event.id,
    "webhook-timestamp": String(timestampSeconds),
    "webhook-signature": sign({ id: event.id, timestampSeconds, body, secrets }),
  };
  return { url: recipient.url, headers, body };
}
