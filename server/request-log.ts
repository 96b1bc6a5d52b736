import type { Request, Response } from "express";
import type { Logger } from "pino";
import type { ApiError } from "../routers/core/errors.ts";
import { factsOf } from "./request-context.ts";

/** For lines whose fields are known and not secret: redaction would cost more than the line. */
export const unredacted = (log: Logger) => log.child({}, { redact: { paths: [] } });

/** An invitation's token is secret: its holder may accept the invitation. */
const withoutToken = (path: string) => path.replace(/(\/invitations\/)[^/]+/, "$1[token]");

export function logWhenDone(log: Logger, req: Request, res: Response) {
  if (!log.isLevelEnabled("info")) return;
  const startedAt = performance.now();
  const path = withoutToken(req.originalUrl.split("?", 1)[0] ?? "");
  res.once("close", () => {
    const { requestId, clientId } = factsOf(req);
    const line = {
      request_id: requestId,
      client_id: clientId ?? null,
      method: req.method,
      path,
      status: res.statusCode,
    };
    log.info(
      { ...line, ms: Math.round(performance.now() - startedAt), ...(res.writableFinished ? {} : { gone: true }) },
      "request",
    );
  });
}

export function logBug(log: Logger, error: ApiError, thrown: unknown, req: Request, procedure: string | undefined) {
  if (error.status < 500) return;
  const { requestId, clientId } = factsOf(req);
  const cause = thrown instanceof Error && thrown.cause ? thrown.cause : thrown;
  log.error(
    { request_id: requestId, client_id: clientId ?? null, procedure, code: error.errorCode, err: error.cause ?? cause },
    "request failed",
  );
}
