import { TRPCError } from "@trpc/server";
import { z } from "zod";
import { ConnectionLost, DatabaseBusy, EntryRefused } from "../db/client.ts";

const codeOfStatus = {
  400: "BAD_REQUEST",
  401: "UNAUTHORIZED",
  402: "PAYMENT_REQUIRED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  405: "METHOD_NOT_SUPPORTED",
  408: "TIMEOUT",
  409: "CONFLICT",
  413: "PAYLOAD_TOO_LARGE",
  415: "UNSUPPORTED_MEDIA_TYPE",
  422: "UNPROCESSABLE_CONTENT",
  429: "TOO_MANY_REQUESTS",
  431: "BAD_REQUEST", // tRPC has no word of its own for it
  500: "INTERNAL_SERVER_ERROR",
  502: "BAD_GATEWAY",
  503: "SERVICE_UNAVAILABLE",
} as const satisfies Record<number, TRPCError["code"]>;

type Row = { status: keyof typeof codeOfStatus; meaning: string };

/** Every way a request may fail on purpose. The error guide and openapi.json are generated from this table. */
export const faults = {
  request_malformed: { status: 400, meaning: "This is not an HTTP request that can be read." },
  invalid_json: {
    status: 400,
    meaning: "The body is not JSON. Send a JSON object with `Content-Type: application/json`.",
  },
  invalid_input: { status: 400, meaning: "A field is missing, unknown or malformed; `details` names each one." },
  invalid_header: { status: 400, meaning: "A header is malformed; the message names it." },
  cursor_invalid: {
    status: 400,
    meaning: "The cursor does not belong to this list with these filters. Start from the first page.",
  },
  client_required: { status: 400, meaning: "You belong to several clients. Name one with `X-Client-Id`." },
  batch_not_allowed: { status: 400, meaning: "An idempotency key covers one mutation. Send it alone, not in a batch." },
  unauthenticated: { status: 401, meaning: "The token or API key is missing, malformed, expired or revoked." },
  credits_insufficient: {
    status: 402,
    meaning: "The balance does not cover what this would cost at most. Add credits.",
  },
  client_forbidden: { status: 403, meaning: "You may not act for this client." },
  client_suspended: { status: 403, meaning: "This client is suspended. Ask the operator." },
  scope_missing: {
    status: 403,
    meaning: "The key or role lacks the scope that this door asks for; the message names it.",
  },
  route_not_found: { status: 404, meaning: "There is no such path. See /docs." },
  agent_not_found: { status: 404, meaning: "No agent with this id in this client." },
  call_not_found: { status: 404, meaning: "No call with this id in this client." },
  api_key_not_found: { status: 404, meaning: "No API key with this id in this client." },
  subject_not_found: { status: 404, meaning: "Nothing with this id in this client." },
  webhook_not_found: { status: 404, meaning: "No webhook endpoint with this id in this client." },
  method_not_allowed: {
    status: 405,
    meaning: "This path exists, but not with this method. `Allow` lists those it has.",
  },
  idempotency_in_progress: {
    status: 409,
    meaning: "The first request with this key is still running. Ask again in a moment.",
  },
  agent_busy: { status: 409, meaning: "The agent is being changed at the voice provider. Try again in a moment." },
  agent_not_active: { status: 409, meaning: "The agent is not active, so it cannot take calls." },
  call_not_ended: { status: 409, meaning: "The call has not ended yet, so its transcript is not final." },
  payload_too_large: { status: 413, meaning: "The body is larger than this door accepts." },
  media_type_unsupported: { status: 415, meaning: "Send the body as `application/json` in UTF-8." },
  idempotency_key_reused: { status: 422, meaning: "This key was used for another request. Use a fresh key." },
  provider_rejected: {
    status: 422,
    meaning: "The voice provider refused this request; the message says why. The same request will be refused again.",
  },
  webhook_url_forbidden: {
    status: 422,
    meaning: "This URL cannot be a webhook: it must be https and must not lead to a private address.",
  },
  limit_exceeded: { status: 429, meaning: "Too many requests. Wait for `Retry-After` seconds." },
  headers_too_large: { status: 431, meaning: "The headers are larger than this server reads: 16 kB together." },
  internal_error: {
    status: 500,
    meaning: "A fault of ours. It is logged under the request id; trying again may help.",
  },
  provider_unavailable: {
    status: 503,
    meaning: "The voice provider cannot be reached or is overloaded. Nothing was done. Try again later.",
  },
  overloaded: { status: 503, meaning: "This server has too much to do at once. Try again in a moment." },
} as const satisfies Record<string, Row>;

export type FaultCode = keyof typeof faults;
export type FaultDetail = { path: string; message: string };
type Extra = { details?: FaultDetail[]; retryAfterSeconds?: number; cause?: unknown };

/** A deliberate failure: a code for machines, a sentence for people that says what to do. */
export class Fault extends TRPCError {
  readonly fault: FaultCode;
  readonly status: number;
  readonly details: FaultDetail[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    fault: FaultCode,
    message: string = faults[fault].meaning,
    { details, retryAfterSeconds, cause }: Extra = {},
  ) {
    super({ code: codeOfStatus[faults[fault].status], message, cause });
    this.fault = fault;
    this.status = faults[fault].status;
    this.details = details;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** What went wrong, as the world may hear it. A bug becomes `internal_error` and keeps its cause for the log alone. */
export function asFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  if (error instanceof TRPCError) {
    if (error.cause instanceof Fault) return error.cause;
    const known = fromDatabase(error.cause);
    if (known) return known;
    if (error.code === "BAD_REQUEST" && error.cause instanceof z.core.$ZodError) return invalidInput(error.cause);
    if (error.code === "BAD_REQUEST" && error.cause instanceof SyntaxError) return new Fault("invalid_json");
    if (error.code === "BAD_REQUEST")
      return new Fault("invalid_input", "The input could not be read.", { cause: error });
    if (error.code === "NOT_FOUND") return new Fault("route_not_found", undefined, { cause: error });
    if (error.code === "METHOD_NOT_SUPPORTED") return new Fault("method_not_allowed", undefined, { cause: error });
    if (error.code === "UNSUPPORTED_MEDIA_TYPE")
      return new Fault("media_type_unsupported", undefined, { cause: error });
    if (error.code === "PAYLOAD_TOO_LARGE") return new Fault("payload_too_large", undefined, { cause: error });
  }
  const known = fromDatabase(error);
  if (known) return known;
  return new Fault("internal_error", "Internal error. Quote the request id when you ask about it.", { cause: error });
}

function fromDatabase(error: unknown): Fault | undefined {
  if (error instanceof EntryRefused) return new Fault(error.reason === "key" ? "unauthenticated" : "client_suspended");
  if (error instanceof DatabaseBusy || error instanceof ConnectionLost) {
    return new Fault("overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
  if (error instanceof Error && "code" in error && unreachable.has(String(error.code))) {
    return new Fault("overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
}

/** What postgres.js and the socket say when the database is away, starting or stopping. */
const unreachable = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "57P01",
  "57P02",
  "57P03",
  "53300",
]);

function invalidInput(error: z.core.$ZodError): Fault {
  const details = error.issues.flatMap((issue) => {
    const path = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return [{ path, message: issue.message }];
    return issue.keys.map((key) => ({ path: path ? `${path}.${key}` : key, message: "There is no such field." }));
  });
  const first = details[0];
  const message = first ? `${first.path || "The body"}: ${first.message}` : faults.invalid_input.meaning;
  return new Fault("invalid_input", message, { details, cause: error });
}

export const docUrl = (code: FaultCode) => `/docs/errors#${code}`;
