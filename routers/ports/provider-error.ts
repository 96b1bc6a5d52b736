import { storable } from "../../db/text.ts";

/**
 * Why a provider did not do what it was asked.
 * `refused`: it said no, nothing happened, and the same request will be refused again.
 * `unavailable`: nothing happened; trying later may help (429, 503, no connection, breaker open).
 * `unknown`: it may or may not have happened (timeout, reset, 500, 502, 504): look before doing it again.
 * Its message quotes the provider, and is kept in rows and events: it holds nothing that the database cannot.
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

/** The absolute instant after which nobody waits any more; repeats included. */
export type Deadline = { signal: AbortSignal };
