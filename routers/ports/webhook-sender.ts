import type { Deadline } from "./provider-error.ts";

export type WebhookRequest = { url: string; headers: Record<string, string>; body: string };

export type WebhookAnswer = {
  status: number;
  latencyMs: number;
  /** The first kilobyte of the response body, as text. */
  response: string;
  retryAfterSeconds: number | null;
};

export type SendFailure =
  | "address_forbidden"
  | "name_not_resolved"
  | "connection_failed"
  | "tls_failed"
  | "response_malformed"
  | "request_malformed"
  | "timeout";

/** There was no response. `reason` is for programs, and reveals nothing about our network. */
export class SendFailed extends Error {
  readonly reason: SendFailure;

  constructor(reason: SendFailure, options: { cause?: unknown } = {}) {
    super(`No response: ${reason}.`, options);
    this.name = "SendFailed";
    this.reason = reason;
  }
}

/** Posts to URLs that clients chose: on the public internet only, without redirects, and with a deadline. */
export interface WebhookSender {
  /** Returns every HTTP response, whatever its status, and follows no redirects. Throws SendFailed. */
  send(request: WebhookRequest, deadline: Deadline): Promise<WebhookAnswer>;
  close(): Promise<void>;
}
