import { TRPCError } from "@trpc/server";
import { z } from "zod";
import { ConnectionLost, DatabaseBusy, isDeadlock, SessionRefused } from "../../db/client.ts";
import { KeysUnavailable } from "../ports/vault.ts";
import { type ErrorCode, type ErrorStatus, errorCodes } from "./error-codes.ts";
import { boundedDetails, boundedMessage, type ErrorDetail, omittedDetails } from "./error-details.ts";
import { validationDetails } from "./validation-details.ts";

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
  431: "BAD_REQUEST", // tRPC has no code for 431
  500: "INTERNAL_SERVER_ERROR",
  503: "SERVICE_UNAVAILABLE",
} as const satisfies Record<ErrorStatus, TRPCError["code"]>;

export { type ErrorCode, type ErrorDetail, errorCodes };

type Extra = { details?: ErrorDetail[] | undefined; retryAfterSeconds?: number | undefined; cause?: unknown };

/** The `Retry-After` of a 503 whose cause has no better estimate. */
const defaultRetryAfterSeconds = 5;

/**
 * A deliberate failure: a code for programs, and a message for people with what to do. Message and details are bounded here,
 * since both can repeat the caller's input.
 */
export class ApiError extends TRPCError {
  readonly errorCode: ErrorCode;
  readonly status: number;
  readonly details: ErrorDetail[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string = errorCodes[code].meaning,
    { details, retryAfterSeconds, cause }: Extra = {},
  ) {
    const kept = details && boundedDetails(details);
    const more = omittedDetails((details?.length ?? 0) - (kept?.length ?? 0));
    super({ code: codeOfStatus[errorCodes[code].status], message: boundedMessage(message) + more, cause });
    this.errorCode = code;
    this.status = errorCodes[code].status;
    this.details = kept;
    const wait = retryAfterSeconds ?? (this.status === 503 ? defaultRetryAfterSeconds : undefined);
    this.retryAfterSeconds = wait === undefined ? undefined : Math.max(1, wait);
  }

  /** `input_invalid` for one field. `path` is the field's path with dots, as in `steps.0.url`. */
  static invalid(path: string, message: string): ApiError {
    return ApiError.invalidFields([{ path, message }]);
  }

  /** `input_invalid` for several fields. The message is that of the first. */
  static invalidFields(details: readonly ErrorDetail[], cause?: unknown): ApiError {
    const [first] = details;
    const message = first && `${first.path || "The body"}: ${first.message}`;
    return new ApiError("input_invalid", message, { details: [...details], cause });
  }
}

/** The public form of any error. A bug becomes `internal_error`; its cause goes to the log only. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TRPCError) {
    if (error.cause instanceof ApiError) return error.cause;
    const known = fromInfrastructure(error.cause);
    if (known) return known;
    if (error.code === "BAD_REQUEST" && error.cause instanceof z.core.$ZodError)
      return ApiError.invalidFields(validationDetails(error.cause.issues), error.cause);
    if (error.code === "PARSE_ERROR")
      return new ApiError("json_invalid", "`connectionParams` is not valid JSON. Remove it.");
    if (error.code === "BAD_REQUEST" && error.cause instanceof SyntaxError) return new ApiError("json_invalid");
    if (error.code === "BAD_REQUEST")
      return new ApiError(
        "input_invalid",
        "The input could not be parsed. Check its format against the API reference.",
        { cause: error },
      );
    if (error.code === "NOT_FOUND") return new ApiError("route_not_found", undefined, { cause: error });
    if (error.code === "METHOD_NOT_SUPPORTED") return new ApiError("method_not_allowed", undefined, { cause: error });
    if (error.code === "UNSUPPORTED_MEDIA_TYPE")
      return new ApiError("media_type_unsupported", undefined, { cause: error });
    if (error.code === "PAYLOAD_TOO_LARGE") return new ApiError("payload_too_large", undefined, { cause: error });
  }
  const known = fromInfrastructure(error);
  if (known) return known;
  return new ApiError("internal_error", "Internal error. Include the request id when you contact support.", {
    cause: error,
  });
}

function fromInfrastructure(error: unknown): ApiError | undefined {
  if (error instanceof SessionRefused)
    return new ApiError(error.reason === "key" ? "unauthenticated" : "client_suspended");
  if (error instanceof DatabaseBusy || error instanceof ConnectionLost || isDeadlock(error)) {
    return new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
  if (error instanceof KeysUnavailable) {
    const message = "The encryption keys are not available. Nothing was changed. Retry in a moment.";
    return new ApiError("server_overloaded", message, { retryAfterSeconds: 5, cause: error });
  }
  if (error instanceof Error && "code" in error && unreachable.has(String(error.code))) {
    return new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
}

/** Error codes of postgres.js, of the socket and of Postgres while the database is unreachable, starting or stopping. */
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

/** The documentation of an error code. `publicUrl`: the base URL of this installation. */
export const docUrl = (publicUrl: string, code: ErrorCode) => `${publicUrl.replace(/\/+$/, "")}/docs/errors#${code}`;
