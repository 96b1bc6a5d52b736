import { storable } from "../../db/text.ts";

/**
 * Why a provider did not execute a request.
 * `refused`: nothing happened, and the same request will be refused again.
 * `unavailable`: nothing happened; a retry later may succeed (429, no connection, breaker open, a failed read).
 * `unknown`: it may have been executed (timeout, reset, 500, 502, 503, 504): look it up before a retry.
 * The message quotes the provider and is stored in rows and events, so it contains only text that Postgres can store.
 */
export class ProviderError extends Error {
  readonly kind: "refused" | "unavailable" | "unknown";
  readonly status: number | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    kind: "refused" | "unavailable" | "unknown",
    message: string,
    extra: { status?: number; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(storable(message), { cause: extra.cause });
    this.name = "ProviderError";
    this.kind = kind;
    this.status = extra.status;
    this.retryAfterSeconds = extra.retryAfterSeconds;
  }
}

/** Refusals because of the account, not of the request: a key, a bill, a permission, a lock. They end once that is fixed. */
const passingStatuses = new Set([401, 402, 403, 407, 409, 423, 425]);

/** Whether the same request may succeed later. Such a failure is never stored under an idempotency key. */
export function isPassing({ kind, status }: ProviderError): boolean {
  return kind === "unavailable" || (kind === "refused" && status !== undefined && passingStatuses.has(status));
}

/** Aborts at an absolute time, retries included. */
export type Deadline = { signal: AbortSignal };
