import type { WebhookSender } from "../../routers/ports/webhook-sender.ts";
import { type GuardOptions, openGuard } from "./http/address-guard.ts";
import { retryAfter } from "./http/retry-after.ts";

const maxReadBytes = 16 * 1024;
const keptBytes = 1024;

/** Sends webhooks through the guard, because clients choose their addresses. */
export function webhookSender(options: GuardOptions): WebhookSender {
  const guard = openGuard(options);
  return {
    async send({ url, headers, body }, { signal }) {
      const request = { method: "POST" as const, url, headers, body, keptBytes, maxReadBytes };
      const response = await guard.request(request, signal);
      return {
        status: response.status,
        latencyMs: response.milliseconds,
        response: response.body,
        retryAfterSeconds: retryAfter(response.headers["retry-after"], Date.now()) ?? null,
      };
    },
    close: guard.close,
  };
}
