import { isHeaderValue, objectionToHeader } from "../../routers/ports/addresses.ts";
import type { GuardedFetch } from "../../routers/ports/guarded-fetch.ts";
import { SendFailed } from "../../routers/ports/webhook-sender.ts";
import { type GuardOptions, type Heard, openGuard } from "./address-guard.ts";

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const;
const keptBytes = 64 * 1024;

/** Asks any address that a client chose, through the guard that webhooks go through too. */
export function guardedFetch(options: GuardOptions): GuardedFetch & { close(): Promise<void> } {
  const guard = openGuard(options);
  const { allowPrivate, allowed } = options;
  return {
    rules: { allowPrivate, ...(allowed ? { allowed } : {}) },
    async fetch({ method: given, url, headers, body, maxBytes = keptBytes }, { signal }) {
      const method = methods.find((known) => known === given.toUpperCase());
      const isOurs = Object.entries(headers).some(([name, value]) => objectionToHeader(name) || !isHeaderValue(value));
      if (!method || isOurs) throw new SendFailed("request_malformed");
      const sent = { method, url, headers, ...(body === undefined ? {} : { body }) };
      // A little more is read than is kept: the connection of a short answer can be used again.
      const heard = await guard.ask({ ...sent, keptBytes: maxBytes, maxReadBytes: maxBytes + 16 * 1024 }, signal);
      return { ...heard, headers: joined(heard.headers) };
    },
    close: guard.close,
  };
}

function joined(headers: Heard["headers"]): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => [name, [value].flat().join(", ")] as const);
  return Object.fromEntries(entries);
}
