import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { type ApiError, docUrl } from "../../routers/core/errors.ts";
import type { Reply } from "../../routers/core/reply.ts";
import { hasBody } from "./body.ts";

/** How long a caller may continue to send an unread body after the response, before the connection is closed. */
const lingerMs = 2_000;

type Result = { requestId: string; reply: Reply; status: number; isPage: boolean; data: unknown };

/** Sends the response of a successful request. */
export function sendResult(res: ServerResponse, { requestId, reply, status, isPage, data }: Result): void {
  const headers: OutgoingHttpHeaders = { ...common(requestId), ...reply.headers };
  if (reply.firstRequestId !== undefined) headers["Idempotency-Replayed"] = "true";
  if (status === 204) {
    res.writeHead(204, headers).end();
    return;
  }
  const meta = { requestId: reply.firstRequestId ?? requestId };
  sendJson(res, status, headers, isPage ? paged(data, meta) : { data: data ?? null, meta });
}

/** Sends the response of a failed request, in the same form from every layer and endpoint. */
export function sendError(
  res: ServerResponse,
  error: ApiError,
  requestId: string,
  { headers = {}, reply }: { headers?: OutgoingHttpHeaders; reply?: Reply | undefined } = {},
): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  const all: OutgoingHttpHeaders = { ...headers, ...common(requestId) };
  if (error.retryAfterSeconds !== undefined) all["Retry-After"] = String(Math.ceil(error.retryAfterSeconds));
  if (error.status === 401) all["WWW-Authenticate"] = "Bearer";
  const first = reply?.firstRequestId;
  if (first) all["Idempotency-Replayed"] = "true";
  const { errorCode: code, message, details } = error;
  sendJson(res, error.status, all, {
    error: { code, message, requestId: first ?? requestId, docUrl: docUrl(publicUrlOf(res), code), details },
  });
  cutOffSoon(res);
}

/** Set by the application for each response. Without it the URL is a path. */
const publicUrlOf = (res: ServerResponse): string =>
  (res as ServerResponse & { locals?: { publicUrl?: string } }).locals?.publicUrl ?? "";

/** The headers of every response. */
export const common = (requestId: string) => ({
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "X-Request-Id": requestId,
});

function sendJson(res: ServerResponse, status: number, headers: OutgoingHttpHeaders, body: unknown): void {
  const text = JSON.stringify(body);
  headers["Content-Type"] = "application/json; charset=utf-8";
  headers["Content-Length"] = Buffer.byteLength(text);
  res.writeHead(status, headers).end(text); // a string is sent in one packet with the headers; a buffer would need two
}

/** A list procedure's schema requires a page, and its output has passed that schema: so the cast is safe. */
function paged(data: unknown, meta: { requestId: string }) {
  const { items, nextCursor, hasMore } = data as { items: unknown[]; nextCursor: string | null; hasMore: boolean };
  return { data: items, meta: { ...meta, nextCursor, hasMore } };
}

/**
 * For a response that was sent before the whole body arrived. Closing immediately would reset the connection and lose the
 * response; reading without end would let a refused body cost us. The time begins once the response is sent: of pipelined
 * requests an earlier one may still be executed.
 */
export function cutOffSoon(res: ServerResponse): void {
  const { req } = res;
  if (req.complete || !hasBody(req)) return;
  req.resume();
  const start = () => {
    const timer = setTimeout(() => req.destroy(), lingerMs);
    req.once("close", () => clearTimeout(timer));
  };
  if (res.writableFinished) start();
  else res.once("finish", start);
}
