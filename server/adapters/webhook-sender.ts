import type { WebhookAnswer, WebhookSender } from "../../routers/ports/webhook-sender.ts";
import { type GuardOptions, openGuard } from "./address-guard.ts";

const maxReadBytes = 16 * 1024;
const keptBytes = 1024;

/** Posts webhooks, through the guard: their addresses are chosen by strangers. */
export function webhookSender(options: GuardOptions): WebhookSender {
  const guard = openGuard(options);
  return {
    async send({ url, headers, body }, { signal }) {
      const asked = { method: "POST" as const, url, headers, body, keptBytes, maxReadBytes };
      const answer = await guard.ask(asked, signal);
      return {
        status: answer.status,
        latencyMs: answer.milliseconds,
        response: answer.body,
        retryAfterSeconds: retryAfter(answer.headers["retry-after"]),
      };
    },
    close: guard.close,
  };
}

function retryAfter(header: string | string[] | undefined): WebhookAnswer["retryAfterSeconds"] {
  const text = (Array.isArray(header) ? header[0] : header)?.trim();
  if (!text) return null;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}
