import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { type ApiError, docUrl } from "../../routers/core/errors.ts";
import type { Reply } from "../../routers/core/reply.ts";
import { hasBody } from "./body.ts";

/** How long an answered caller may go on sending a body that nobody reads, before the line is cut. */
const lingerMs = 2_000;

type Answer = { requestId: string; reply: Reply; status: number; isPage: boolean; data: unknown };

/** The answer to a request that succeeded. */
export function sendResult(res: ServerResponse, { requestId, reply, status, isPage, data }: Answer): void {
  const headers: OutgoingHttpHeaders = { ...common(requestId), ...reply.headers };
  if (reply.firstRequestId !== undefined) headers["Idempotency-Replayed"] = "true";
  if (status === 204) {
    res.writeHead(204, headers).end();
    return;
  }
  const meta = { requestId: reply.firstRequestId ?? requestId };
  sendJson(res, status, headers, isPage ? paged(data, meta) : { data: data ?? null, meta });
}

/** The answer to a request that failed, the same from every layer and every door. */
export function sendError(
  res: ServerResponse,
  fault: ApiError,
  requestId: string,
  { headers = {}, reply }: { headers?: OutgoingHttpHeaders; reply?: Reply | undefined } = {},
): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  const all: OutgoingHttpHeaders = { ...headers, ...common(requestId) };
  if (fault.retryAfterSeconds !== undefined) all["Retry-After"] = String(Math.ceil(fault.retryAfterSeconds));
  if (fault.status === 401) all["WWW-Authenticate"] = "Bearer";
  const first = reply?.firstRequestId;
  if (first) all["Idempotency-Replayed"] = "true";
  const { errorCode: code, message, details } = fault;
  sendJson(res, fault.status, all, {
    error: { code, message, requestId: first ?? requestId, docUrl: docUrl(publicUrlOf(res), code), details },
  });
  cutOffSoon(res);
}

/** Set by the first middleware of `server/http.ts`. */
const publicUrlOf = (res: ServerResponse): string =>
  (res as ServerResponse & { locals?: { publicUrl?: string } }).locals?.publicUrl ?? "";

/** What every answer says, of whatever kind. */
export const common = (requestId: string) => ({
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "X-Request-Id": requestId,
});

function sendJson(res: ServerResponse, status: number, headers: OutgoingHttpHeaders, body: unknown): void {
  const text = JSON.stringify(body);
  headers["Content-Type"] = "application/json; charset=utf-8";
  headers["Content-Length"] = Buffer.byteLength(text);
  res.writeHead(status, headers).end(text); // a text goes out in one piece with its head; bytes would be a second one
}

/** A list procedure's schema promises a page, and its output has passed that schema: the cast repeats the promise. */
function paged(data: unknown, meta: { requestId: string }) {
  const { items, nextCursor, hasMore } = data as { items: unknown[]; nextCursor: string | null; hasMore: boolean };
  return { data: items, meta: { ...meta, nextCursor, hasMore } };
}

/**
 * For an answer that went out before the body had come. Closing at once would reset the connection and lose the answer;
 * reading on for ever would let a refused body cost us.
 */
export function cutOffSoon({ req }: ServerResponse): void {
  if (req.complete || !hasBody(req)) return;
  req.resume();
  const timer = setTimeout(() => req.destroy(), lingerMs);
  req.once("close", () => clearTimeout(timer));
}
