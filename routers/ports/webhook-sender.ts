import type { Deadline } from "./provider-error.ts";

export type WebhookRequest = { url: string; headers: Record<string, string>; body: string };

export type WebhookAnswer = {
  status: number;
  latencyMs: number;
  /** The first kilobyte of the answer, as text. */
  response: string;
  retryAfterSeconds: number | null;
};

export type SendFailure =
  | "address_forbidden"
  | "name_not_resolved"
  | "connection_failed"
  | "tls_failed"
  | "answer_malformed"
  | "request_malformed"
  | "timeout";

/** No answer came; `reason` is one word for machines, and says nothing of our own network. */
export class SendFailed extends Error {
  readonly reason: SendFailure;

  constructor(reason: SendFailure, options: { cause?: unknown } = {}) {
    super(`Nothing came back: ${reason}.`, options);
    this.name = "SendFailed";
    this.reason = reason;
  }
}

/** Posts to addresses that strangers chose: only to the open internet, only where it was told, and not for ever. */
export interface WebhookSender {
  /** Whatever the status, an answer is an answer; no redirect is followed. Throws SendFailed. */
  send(request: WebhookRequest, deadline: Deadline): Promise<WebhookAnswer>;
  close(): Promise<void>;
}
