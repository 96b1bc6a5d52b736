import { storable } from "../../db/text.ts";

/**
 * Why a provider did not do what it was asked.
 * `refused`: it said no, nothing happened, and the same request will be refused again.
 * `unavailable`: nothing happened; trying later may help (429, no connection, breaker open; a read that failed).
 * `unknown`: it may or may not have happened (timeout, reset, 500, 502, 503, 504): look before doing it again.
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

/** About the account rather than about the request: a key, a bill, a permission, a lock. It ends when somebody sees to that. */
const passingStatuses = new Set([401, 402, 403, 407, 409, 423, 425]);

/** Does the same request have a chance later, with nothing changed in it? Such a refusal is never kept as the last word. */
export function isPassing({ kind, status }: ProviderError): boolean {
  return kind === "unavailable" || (kind === "refused" && status !== undefined && passingStatuses.has(status));
}

/** The absolute instant after which nobody waits any more; repeats included. */
export type Deadline = { signal: AbortSignal };
