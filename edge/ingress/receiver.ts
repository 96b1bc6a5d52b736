import { createHash } from "node:crypto";
import type { Request, RequestHandler, Response } from "express";
import type { Logger } from "pino";
import { ApiError, toApiError } from "../../routers/core/errors.ts";
import { withoutSecrets } from "../../routers/ingress/mask-body.ts";
import type { Received } from "../../routers/ingress/service.ts";

const maxBodyBytes = 5_000_000;
const bodyDeadlineMs = 10_000;

/** The verdict on a request: what to store, or why it is refused. `told`: the part of the reason that the caller may see. */
export type Verdict = { received: Received } | { refused: string; told?: string };
export type Verify = (
  rawBody: Buffer,
  headers: Request["headers"],
  query: URLSearchParams,
) => Verdict | Promise<Verdict>;

type Options = {
  /** Returns whether the message was new. */
  keep: (received: Received, requestId: string) => Promise<boolean>;
  log: Logger;
  verify: Verify;
  /** The accepted media types; by default any. */
  mediaTypes?: readonly string[];
  requestIdOf: (req: Request) => string;
  sendError: (res: Response, fault: ApiError, requestId: string) => void;
};

/** Applies to the past and the future: a recorded message must not be accepted later. */
export const toleranceSeconds = 300;

/** Handles any provider's webhook: verifies the raw bytes, stores them once, and responds. No domain logic runs here. */
export function receiver({ keep, log, verify, mediaTypes, requestIdOf, sendError }: Options): RequestHandler {
  // The fields of this line are known: redaction would cost more than the line.
  const stored = log.child({}, { redact: { paths: [] } });
  return async (req, res) => {
    const requestId = requestIdOf(req);
    try {
      refuseOtherMethods(req, res);
      refuseOtherTypes(req, mediaTypes);
      const verdict = await verify(await readRaw(req), req.headers, queryOf(req));
      if ("refused" in verdict) {
        log.warn({ request_id: requestId, reason: verdict.refused }, "provider webhook refused");
        const message = verdict.told ?? "The signature does not match.";
        return sendError(res, new ApiError("unauthenticated", message), requestId);
      }
      const received = withSecretsMasked(withValidKey(verdict.received));
      const fresh = await keep(received, requestId);
      const { provider, eventType: type, key, stale, providerAccountId: account } = received;
      stored.info({ request_id: requestId, provider, account, type, key, stale, fresh }, "provider webhook stored");
      res.status(204).end();
    } catch (thrown) {
      if (thrown instanceof ApiError) return sendError(res, thrown, requestId);
      // Not acknowledged in any case, so that the provider sends it again.
      const error = toApiError(thrown);
      if (error.status === 503) {
        log.warn({ request_id: requestId, err: thrown }, "provider webhook not verified; the provider will retry");
        return sendError(res, error, requestId);
      }
      log.error({ request_id: requestId, err: thrown }, "provider webhook not stored");
      sendError(res, new ApiError("internal_error", "The message could not be stored. Send it again."), requestId);
    }
  };
}

const queryOf = (req: Request) => new URLSearchParams(req.originalUrl.split("?", 2)[1] ?? "");

function refuseOtherMethods(req: Request, res: Response) {
  if (req.method === "POST") return;
  res.setHeader("Allow", "POST");
  throw new ApiError("method_not_allowed", "This path accepts only POST.");
}

function refuseOtherTypes(req: Request, mediaTypes: readonly string[] | undefined) {
  if (!mediaTypes) return;
  const given = req.headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!mediaTypes.includes(given) || (req.headers["content-encoding"] ?? "identity") !== "identity") {
    throw new ApiError("media_type_unsupported", `This path accepts ${mediaTypes.join(" or ")}, uncompressed.`);
  }
}

/** The raw bytes. A refused body stays unread: `sendError` closes the connection. */
function readRaw(req: Request): Promise<Buffer> {
  if (Number(req.headers["content-length"] ?? 0) > maxBodyBytes) throw new ApiError("payload_too_large");
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBodyBytes) return refuse(new ApiError("payload_too_large"));
      chunks.push(chunk);
    };
    const stop = () => {
      clearTimeout(timer);
      req.off("data", onData).off("end", onEnd).off("close", onTimeout);
    };
    const onEnd = () => {
      stop();
      resolve(Buffer.concat(chunks));
    };
    const refuse = (error: ApiError) => {
      stop();
      req.pause();
      reject(error);
    };
    const onTimeout = () => refuse(new ApiError("body_timeout"));
    const timer = setTimeout(onTimeout, bodyDeadlineMs);
    req.on("data", onData).once("end", onEnd).once("close", onTimeout).once("error", onTimeout);
  });
}

/** With a right signature the caller may see that its timestamp is wrong; with a wrong one, nothing. */
export const refused = ({ verdict, reason }: { verdict: "stale" | "forged"; reason: string }): Verdict =>
  verdict === "stale" ? { refused: reason, told: reason } : { refused: reason };

/** The key of a signed body that cannot be parsed: its hash. */
export const unreadable = (body: Buffer) => ({
  key: `unreadable:${createHash("sha256").update(body).digest("hex")}`,
  eventType: "",
});

/** Replaces a key that cannot be stored or indexed. */
function withValidKey(received: Received): Received {
  const { key, eventType, body } = received;
  const text = key + eventType;
  const isValid = key.length <= 1000 && eventType.length <= 300 && text.isWellFormed() && !text.includes("\0");
  return isValid ? received : { ...received, ...unreadable(body) };
}

/** A provider may echo what it was sent, such as a trunk's password. The signature was checked on the original bytes. */
const withSecretsMasked = (received: Received): Received => ({ ...received, body: withoutSecrets(received.body) });

/** The value of a header; the first if there are several. */
export const header = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);
