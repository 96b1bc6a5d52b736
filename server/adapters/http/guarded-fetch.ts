import { isHeaderValue, objectionToHeader } from "../../../routers/ports/addresses.ts";
import type { GuardedFetch } from "../../../routers/ports/guarded-fetch.ts";
import { SendFailed } from "../../../routers/ports/webhook-sender.ts";
import { type GuardedResponse, type GuardOptions, openGuard } from "./address-guard.ts";

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const;
const keptBytes = 64 * 1024;

/** Fetches any address that a client chose, through the same guard as webhooks. */
export function guardedFetch(options: GuardOptions): GuardedFetch & { close(): Promise<void> } {
  const guard = openGuard(options);
  const { allowPrivate, allowed } = options;
  return {
    rules: { allowPrivate, allowed },
    async fetch({ method: given, url, headers, body, maxBytes = keptBytes }, { signal }) {
      const method = methods.find((known) => known === given.toUpperCase());
      const isOurs = Object.entries(headers).some(([name, value]) => objectionToHeader(name) || !isHeaderValue(value));
      if (!method || isOurs) throw new SendFailed("request_malformed");
      // A little more is read than is returned: so the connection of a short response can be used again.
      const limits = { keptBytes: maxBytes, maxReadBytes: maxBytes + 16 * 1024 };
      const response = await guard.request({ method, url, headers, body, ...limits }, signal);
      return { ...response, headers: joined(response.headers) };
    },
    close: guard.close,
  };
}

function joined(headers: GuardedResponse["headers"]): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => [name, [value].flat().join(", ")] as const);
  return Object.fromEntries(entries);
}
