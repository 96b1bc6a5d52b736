/** A statement was sent through the handle of a transaction that has ended. */
export class TransactionEnded extends Error {
  constructor() {
    super("This transaction has ended. Await every statement inside the transaction.");
    this.name = "TransactionEnded";
  }
}

/** The transaction found that the request's API key was revoked or expired, or that its client is suspended. */
export class SessionRefused extends Error {
  readonly reason: "key" | "suspended";
  constructor(reason: "key" | "suspended") {
    super(reason === "key" ? "The API key is no longer valid." : "The client is suspended.");
    this.name = "SessionRefused";
    this.reason = reason;
  }
}

/** Two transactions waited for each other, and Postgres rolled this one back. It can be retried. */
export const isDeadlock = (error: unknown): boolean => sqlState(error) === "40P01";

/** An earlier statement of the transaction had failed. */
export const isAborted = (error: unknown): boolean => sqlState(error) === "25P02";

/** A table has changed since this connection prepared the statement. Nothing was done; another connection may work. */
export function isStalePlan(error: unknown): boolean {
  if (sqlState(error) !== "0A000") return false;
  return /cached plan must not change result type/.test(messages(error));
}

/** The errors that `app.set_tenant` raises. */
export function toSessionRefused(error: unknown): SessionRefused | undefined {
  const state = sqlState(error);
  if (state === "PB401") return new SessionRefused("key");
  if (state === "PB403") return new SessionRefused("suspended");
}

/** The available balance when `app.refuse_hold` refused a hold; null for any other error. */
export function refusedHold(error: unknown): number | null {
  return error instanceof Error && sqlState(error) === "PB402" && "detail" in error ? Number(error.detail) : null;
}

/** The SQLSTATE of the innermost cause that has one: drizzle and tRPC each wrap the errors that they pass on. */
function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const inner = sqlState(error.cause);
  if (inner !== undefined) return inner;
  return "code" in error && /^[0-9A-Z]{5}$/.test(String(error.code)) ? String(error.code) : undefined;
}

const messages = (error: unknown): string =>
  error instanceof Error ? `${error.message} ${messages(error.cause)}` : "";
