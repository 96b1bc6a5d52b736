import {
  createTRPCClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpLink,
  httpSubscriptionLink,
  splitLink,
} from "@trpc/client";
import { EventSource, type FetchLike } from "eventsource";
import type { EventData, EventType } from "../db/events.ts";
import type { AppRouter } from "../routers/index.ts";

export type { AppRouter };

type Credential = string | (() => string | Promise<string>);

export type ClientOptions = {
  /** The base URL of Patchbay: `https://api.example.com`. */
  url: string;
  /** A person's token of the identity provider, or an API key of a machine. A function is called before each request. */
  token?: Credential;
  apiKey?: Credential;
  /** The client to act for: required for people who belong to several clients. */
  clientId?: string;
  fetch?: typeof fetch;
};

/** Procedures that return a stream. */
export const streaming: ReadonlySet<string> = new Set(["calls.export", "voices.preview"]);

/** The bytes of a stream, in order. Throws if the stream was interrupted: then the bytes so far are incomplete. */
export async function* bytesOf({ chunks }: { chunks: AsyncIterable<string> }): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const chunk of chunks) yield fromBase64(chunk) ?? failStream();
}

function failStream(): never {
  throw new TypeError("A chunk of the stream is not base64.");
}

/**
 * The typed client. `{ context: { idempotencyKey } }` as a call's second argument makes a mutation safe to repeat. Such a
 * mutation is sent alone; other calls of the same moment share a request. A stream (`streaming`) returns
 * `{ chunks, fileName }`: read it with `bytesOf`. A subscription that loses its connection continues where it stopped.
 */
export function createPatchbayClient({ url, token, apiKey, clientId, fetch: customFetch }: ClientOptions) {
  const credential = token ?? apiKey;
  if (credential === undefined) throw new TypeError("Pass a token or an apiKey.");
  const common = { url: `${url.replace(/\/+$/, "")}/trpc`, ...(customFetch && { fetch: customFetch as typeof fetch }) };
  const headers = async () => ({
    authorization: `Bearer ${typeof credential === "string" ? credential : await credential()}`,
    ...(clientId === undefined ? {} : { "x-client-id": clientId }),
  });
  // A browser's own EventSource sends no headers. A load balancer's 5xx is temporary, so it throws and is retried.
  const follow: FetchLike = async (input, init) => {
    const response = await (customFetch ?? fetch)(input, {
      ...init,
      headers: { ...init.headers, ...(await headers()) },
    });
    if (response.status >= 500) throw new TypeError(`The server answered ${response.status}.`);
    return response;
  };
  return createTRPCClient<AppRouter>({
    links: [
      splitLink({
        condition: ({ type }) => type === "subscription",
        true: httpSubscriptionLink({ url: common.url, EventSource, eventSourceOptions: { fetch: follow } }),
        false: splitLink({
          condition: ({ context }) => typeof context.idempotencyKey === "string",
          true: httpLink({
            ...common,
            headers: async ({ op }) => ({ ...(await headers()), "idempotency-key": String(op.context.idempotencyKey) }),
          }),
          false: splitLink({
            condition: ({ path }) => streaming.has(path),
            true: httpBatchStreamLink({ ...common, maxItems: 1, headers }), // a separate connection, which the reader may close
            false: httpBatchLink({ ...common, maxItems: 10, headers }),
          }),
        }),
      }),
    ],
  });
}

export type PatchbayClient = ReturnType<typeof createPatchbayClient>;

/** The body of a webhook. Types may be added: ignore unknown ones. */
export type WebhookEvent = { [N in EventType]: EventOf<N> }[EventType];

/** The body for an endpoint whose `payload` is `thin`: without `data`, which you read from the API. */
export type ThinWebhookEvent = { [N in EventType]: Omit<EventOf<N>, "data"> }[EventType];

type EventOf<N extends EventType> = {
  /** The same in every attempt: ignore an event that you have already processed. */
  id: string;
  type: N;
  createdAt: string;
  clientId: string;
  /** `sequence` grows by one per subject; events may arrive out of order. */
  subject: { type: string; id: string; sequence: number };
  data: EventData<N>;
};

export type WebhookMessage = {
  /** The body as received, before any parsing. */
  payload: string | Uint8Array;
  headers: Headers | Record<string, string | string[] | undefined>;
  /** `whsec_…`, or `whpk_…` of an endpoint that signs with `v1a`; several while one is being replaced. */
  secret: string | readonly string[];
  /** The largest difference between the signature's timestamp and `now`. */
  toleranceSeconds?: number;
  /** When the message was received, if not now. */
  now?: Date;
};

export type WebhookRefusal =
  | "header_missing"
  | "timestamp_malformed"
  | "timestamp_too_old"
  | "timestamp_too_new"
  | "signature_mismatch"
  | "payload_malformed";

/** The message is not from Patchbay, or not recent: return 400 and do nothing. */
export class WebhookRefused extends Error {
  override name = "WebhookRefused";
  readonly reason: WebhookRefusal;

  constructor(reason: WebhookRefusal, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * Verifies a webhook by Standard Webhooks, `v1` and `v1a`, and returns its event. Throws WebhookRefused for a message that
 * fails the verification, and TypeError for a mistake of the receiver: an invalid secret, a parsed body.
 *
 * The signature does not show whether the payload is thin: for such an endpoint, call
 * `verifyWebhook<ThinWebhookEvent>(…)`.
 */
export async function verifyWebhook<Event extends ThinWebhookEvent = WebhookEvent>({
  payload,
  headers,
  secret,
  toleranceSeconds = 300,
  now = new Date(),
}: WebhookMessage): Promise<Event> {
  const keys = await Promise.all((typeof secret === "string" ? [secret] : secret).map(keyOf));
  if (keys.length === 0) throw new TypeError("Pass the endpoint's secret.");
  if (typeof payload !== "string" && !ArrayBuffer.isView(payload)) {
    throw new TypeError("Pass the body as received: this one is parsed.");
  }

  const id = headerOf(headers, "webhook-id");
  const timestamp = headerOf(headers, "webhook-timestamp");
  const signatures = headerOf(headers, "webhook-signature");
  if (!id || !timestamp || !signatures) {
    throw new WebhookRefused("header_missing", "A signature header is missing.");
  }
  if (!/^\d{1,12}$/.test(timestamp)) {
    throw new WebhookRefused("timestamp_malformed", "The timestamp of the signature is malformed.");
  }
  const ageSeconds = Math.floor(now.getTime() / 1000) - Number(timestamp);
  // In this form, a tolerance of NaN accepts nothing.
  if (!(ageSeconds <= toleranceSeconds)) {
    throw new WebhookRefused("timestamp_too_old", "The signature is too old. Check the clock of this machine.");
  }
  if (!(ageSeconds >= -toleranceSeconds)) {
    throw new WebhookRefused("timestamp_too_new", "The signature is in the future. Check the clock of this machine.");
  }

  const body = typeof payload === "string" ? encoder.encode(payload) : payload;
  const signed = joined(encoder.encode(`${id}.${timestamp}.`), body);
  for (const { version, bytes } of signaturesIn(signatures)) {
    for (const key of keys) {
      // WebCrypto compares in constant time.
      if (key.version === version && (await crypto.subtle.verify(key.algorithm, key.key, bytes, signed))) {
        return eventIn(body) as Event;
      }
    }
  }
  throw new WebhookRefused(
    "signature_mismatch",
    "No signature matches. Check the endpoint's secret, and that the body is unchanged.",
  );
}

type Version = "v1" | "v1a";
type Signature = { version: Version; bytes: Uint8Array<ArrayBuffer> };

const signatureBytes: Record<Version, number> = { v1: 32, v1a: 64 };
/** More than Patchbay ever sends: a limit against requests that cost much to verify. */
const maxSignatures = 32;

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true });

/** Signatures of a known version and the right length; others are ignored. */
function signaturesIn(header: string): Signature[] {
  const found: Signature[] = [];
  for (const each of header.split(" ")) {
    const [version, text = ""] = each.split(",");
    if (version !== "v1" && version !== "v1a") continue;
    const bytes = fromBase64(text);
    if (bytes?.length === signatureBytes[version]) found.push({ version, bytes });
    if (found.length === maxSignatures) break;
  }
  return found;
}

function eventIn(body: Uint8Array): unknown {
  try {
    return JSON.parse(strict.decode(body));
  } catch {
    throw new WebhookRefused("payload_malformed", "The body is signed, but it is not JSON.");
  }
}

function joined(head: Uint8Array, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(head.length + body.length);
  all.set(head);
  all.set(body, head.length);
  return all;
}

function headerOf(headers: WebhookMessage["headers"], name: string): string | undefined {
  if (headers instanceof Headers) return headers.get(name) ?? undefined;
  const found = Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  return Array.isArray(found) ? found[0] : found;
}

async function keyOf(secret: string) {
  if (secret.startsWith("whsk_")) {
    throw new TypeError("`whsk_` is a private key, which only the sender has. Pass the endpoint's `whpk_`.");
  }
  if (secret.startsWith("whpk_")) {
    const bytes = fromBase64(secret.slice("whpk_".length));
    if (bytes?.length !== 32) throw new TypeError("This is not a public key: `whpk_` and 32 bytes in base64.");
    const algorithm = { name: "Ed25519" };
    const key = await crypto.subtle.importKey("raw", bytes, algorithm, false, ["verify"]);
    return { version: "v1a" as const, algorithm, key };
  }
  const bytes = fromBase64(secret.replace(/^whsec_/, ""));
  if (!bytes || bytes.length < 24) {
    throw new TypeError("This is not a secret: `whsec_` and at least 24 bytes in base64. Copy it completely.");
  }
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", bytes, algorithm, false, ["verify"]);
  return { version: "v1" as const, algorithm, key };
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
