import { createTRPCClient, httpBatchLink, httpLink, splitLink } from "@trpc/client";
import type { EventData, EventType } from "../db/events.ts";
import type { AppRouter } from "../routers/index.ts";

export type { AppRouter };

type Credential = string | (() => string | Promise<string>);

export type ClientOptions = {
  /** Where Patchbay listens: `https://api.example.com`. */
  url: string;
  /** A person acts by a token of the identity provider, a machine by an API key. A function is asked before each request. */
  token?: Credential;
  apiKey?: Credential;
  /** For whom to act: needed by people who belong to several clients. */
  clientId?: string;
  fetch?: typeof fetch;
};

/**
 * The typed client. `{ context: { idempotencyKey } }` as a call's second argument makes a mutation safe to repeat; it
 * then travels alone, while all else that is asked in the same moment shares a request.
 */
export function createPatchbayClient({ url, token, apiKey, clientId, fetch: given }: ClientOptions) {
  const credential = token ?? apiKey;
  if (credential === undefined) throw new TypeError("Give a token or an apiKey.");
  const common = { url: `${url.replace(/\/+$/, "")}/trpc`, ...(given ? { fetch: given as typeof fetch } : {}) };
  const headers = async () => ({
    authorization: `Bearer ${typeof credential === "string" ? credential : await credential()}`,
    ...(clientId === undefined ? {} : { "x-client-id": clientId }),
  });
  return createTRPCClient<AppRouter>({
    links: [
      splitLink({
        condition: ({ context }) => typeof context.idempotencyKey === "string",
        true: httpLink({
          ...common,
          headers: async ({ op }) => ({ ...(await headers()), "idempotency-key": String(op.context.idempotencyKey) }),
        }),
        false: httpBatchLink({ ...common, maxItems: 10, headers }),
      }),
    ],
  });
}

export type PatchbayClient = ReturnType<typeof createPatchbayClient>;

/** What a webhook says. Types may be added: leave those that you do not know alone. */
export type WebhookEvent = { [N in EventType]: EventOf<N> }[EventType];

type EventOf<N extends EventType> = {
  /** The same in every attempt: an event that was seen before may be left alone. */
  id: string;
  type: N;
  createdAt: string;
  clientId: string;
  /** `sequence` grows by one per subject; events may arrive out of order. */
  subject: { type: string; id: string; sequence: number };
  data: EventData<N>;
};

export type WebhookMessage = {
  /** The body as it came, before any parsing. */
  payload: string | Uint8Array;
  headers: Headers | Record<string, string | string[] | undefined>;
  /** `whsec_…`; two while one is being replaced. */
  secret: string | readonly string[];
  /** How far the time in the signature may lie from this clock. */
  toleranceSeconds?: number;
};

/** The message does not come from Patchbay, or not now: answer 400 and do nothing. */
export class WebhookRefused extends Error {
  override name = "WebhookRefused";
}

/** Verifies a webhook by Standard Webhooks and gives its event. Throws WebhookRefused. */
export async function verifyWebhook({
  payload,
  headers,
  secret,
  toleranceSeconds = 300,
}: WebhookMessage): Promise<WebhookEvent> {
  const id = headerOf(headers, "webhook-id");
  const timestamp = headerOf(headers, "webhook-timestamp");
  const signatures = headerOf(headers, "webhook-signature");
  if (!id || !timestamp || !signatures) throw new WebhookRefused("A header of the signature is missing.");
  if (!/^\d{1,12}$/.test(timestamp)) throw new WebhookRefused("The time of the signature is malformed.");
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > toleranceSeconds) {
    throw new WebhookRefused("The signature is too old, or of the future: is this clock right?");
  }
  const body = typeof payload === "string" ? encoder.encode(payload) : payload;
  const head = encoder.encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(head.length + body.length);
  signed.set(head);
  signed.set(body, head.length);
  for (const each of typeof secret === "string" ? [secret] : secret) {
    const key = await keyOf(each);
    for (const signature of signatures.split(" ")) {
      const [version, text = ""] = signature.split(",");
      const bytes = version === "v1" ? fromBase64(text) : null;
      // WebCrypto compares in constant time.
      if (bytes && (await crypto.subtle.verify("HMAC", key, bytes, signed))) {
        return JSON.parse(new TextDecoder().decode(body)) as WebhookEvent;
      }
    }
  }
  throw new WebhookRefused("No signature fits: is this the endpoint's secret, and the body untouched?");
}

const encoder = new TextEncoder();

function headerOf(headers: WebhookMessage["headers"], name: string): string | undefined {
  if (headers instanceof Headers) return headers.get(name) ?? undefined;
  const found = Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  return Array.isArray(found) ? found[0] : found;
}

async function keyOf(secret: string) {
  const bytes = fromBase64(secret.replace(/^whsec_/, ""));
  if (!bytes?.length) throw new TypeError("The secret is not one of Patchbay: `whsec_` and base64.");
  return await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
