import { TRPCError } from "@trpc/server";
import { expect, test } from "vitest";
import { ConnectionLost, DatabaseBusy, SessionRefused } from "../../db/client.ts";
import { errorCodes } from "../../routers/core/error-codes.ts";
import { ApiError, type ErrorCode, toApiError } from "../../routers/core/errors.ts";
import { KeysUnavailable } from "../../routers/ports/vault.ts";

const withCode = (code: string) => Object.assign(new Error("the database's own sentence"), { code });

test.each<[string, unknown, ErrorCode, retryAfterSeconds: number | undefined]>([
  ["a key that was revoked in the meantime", new SessionRefused("key"), "unauthenticated", undefined],
  ["a client that was suspended in the meantime", new SessionRefused("suspended"), "client_suspended", undefined],
  ["a database that has no connection left", new DatabaseBusy("the database's own sentence"), "server_overloaded", 1],
  ["a lost connection", new ConnectionLost(), "server_overloaded", 1],
  ["a deadlock", withCode("40P01"), "server_overloaded", 1],
  ["a database that cannot be reached", withCode("ECONNREFUSED"), "server_overloaded", 1],
  ["a database that is starting", withCode("57P03"), "server_overloaded", 1],
  ["a key service that is not available", new KeysUnavailable("the service's own sentence"), "server_overloaded", 5],
  ["any other error", withCode("23505"), "internal_error", undefined],
  ["what is no error", "text", "internal_error", undefined],
])("%s has a public error without its own sentence", (_, error, code, retryAfterSeconds) => {
  for (const thrown of [error, new TRPCError({ code: "INTERNAL_SERVER_ERROR", cause: error })]) {
    const found = toApiError(thrown);
    expect(found).toMatchObject({ errorCode: code, status: errorCodes[code].status, retryAfterSeconds });
    expect(found.message).not.toContain("own sentence");
  }
});

test("a deliberate error stays what it is, also when it is the cause of another", () => {
  const busy = new ApiError("agent_busy");
  expect(toApiError(busy)).toBe(busy);
  expect(toApiError(new TRPCError({ code: "BAD_REQUEST", cause: busy }))).toBe(busy);
});

test.each<[TRPCError["code"], ErrorCode]>([
  ["NOT_FOUND", "route_not_found"],
  ["METHOD_NOT_SUPPORTED", "method_not_allowed"],
  ["UNSUPPORTED_MEDIA_TYPE", "media_type_unsupported"],
  ["PAYLOAD_TOO_LARGE", "payload_too_large"],
  ["PARSE_ERROR", "json_invalid"],
  ["BAD_REQUEST", "input_invalid"],
])("the transport's %s is %s", (code, expected) => {
  expect(toApiError(new TRPCError({ code, message: "own sentence" }))).toMatchObject({ errorCode: expected });
});

test("details take a few kilobytes at most, and the message counts those that are left out", () => {
  const details = Array.from({ length: 20 }, (_, n) => ({ path: `f${n}`, message: "ä".repeat(500) }));
  const { details: kept = [], message } = ApiError.invalidFields(details);
  expect(kept.length).toBeGreaterThan(1);
  expect(Buffer.byteLength(JSON.stringify(kept))).toBeLessThan(5_000);
  expect(message).toContain(`There are ${20 - kept.length} more problems`);
});

test("every code of the table has the tRPC code of its status", () => {
  const trpcCodes: Partial<Record<number, TRPCError["code"]>> = {
    ...{ 400: "BAD_REQUEST", 401: "UNAUTHORIZED", 402: "PAYMENT_REQUIRED", 403: "FORBIDDEN", 404: "NOT_FOUND" },
    ...{ 405: "METHOD_NOT_SUPPORTED", 408: "TIMEOUT", 409: "CONFLICT", 413: "PAYLOAD_TOO_LARGE" },
    ...{ 415: "UNSUPPORTED_MEDIA_TYPE", 422: "UNPROCESSABLE_CONTENT", 429: "TOO_MANY_REQUESTS", 431: "BAD_REQUEST" },
    ...{ 500: "INTERNAL_SERVER_ERROR", 503: "SERVICE_UNAVAILABLE" },
  };
  for (const code of Object.keys(errorCodes) as ErrorCode[]) {
    const error = new ApiError(code);
    expect([code, error.code]).toEqual([code, trpcCodes[error.status]]);
    expect([code, error.retryAfterSeconds]).toEqual([code, error.status === 503 ? 5 : undefined]);
  }
});
