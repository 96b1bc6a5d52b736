import { createHash } from "node:crypto";
import type { Request, RequestHandler, Response } from "express";
import type { Logger } from "pino";
import { ApiError, toApiError } from "../../routers/core/errors.ts";
import { withoutSecrets } from "../../routers/ingress/mask-body.ts";
import type { Received } from "../../routers/ingress/service.ts";

const maxBodyBytes = 5_000_000;
const bodyDeadlineMs = 10_000;

/** What a provider's own part makes of a request: what to keep, or why it is refused. `told`: what the caller may know of it. */
export type Verdict = { received: Received } | { refused: string; told?: string };
export type Verify = (
  rawBody: Buffer,
  headers: Request["headers"],
  query: URLSearchParams,
) => Verdict | Promise<Verdict>;

type Options = {
  /** Answers whether it was new. */
  keep: (received: Received, requestId: string) => Promise<boolean>;
  log: Logger;
  verify: Verify;
  /** What the provider sends its messages as; anything, if left out. */
  mediaTypes?: readonly string[];
  requestIdOf: (req: Request) => string;
  sendError: (res: Response, fault: ApiError, requestId: string) => void;
};

/** Both what is older and what is dated ahead: whoever records a message today must not be able to send it next week. */
export const toleranceSeconds = 300;

/** The chores of every provider's webhook: raw bytes, verified, kept once, answered. Nothing of the domain runs here. */
export function receiver({ keep, log, verify, mediaTypes, requestIdOf, sendError }: Options): RequestHandler {
  return async (req, res) => {
    const requestId = requestIdOf(req);
    try {
      refuseOtherMethods(req, res);
      refuseOtherTypes(req, mediaTypes);
      const verdict = await verify(await readRaw(req), req.headers, queryOf(req));
      if ("refused" in verdict) {
        log.warn({ request_id: requestId, reason: verdict.refused }, "a provider's webhook was refused");
        const told = verdict.told ?? "The signature does not match.";
        return sendError(res, new ApiError("unauthenticated", told), requestId);
      }
      const received = withSecretsCut(named(verdict.received));
      const fresh = await keep(received, requestId);
      const { provider, eventType: type, key, stale, providerAccountId: account } = received;
      log.info({ request_id: requestId, provider, account, type, key, stale, fresh }, "a provider's webhook was kept");
      res.status(204).end();
    } catch (error) {
      if (error instanceof ApiError) return sendError(res, error, requestId);
      // Not acknowledged, whatever it is: the provider sends it again.
      const fault = toApiError(error);
      if (fault.status === 503) {
        log.warn({ request_id: requestId, err: error }, "a provider's webhook could not be looked at now");
        return sendError(res, fault, requestId);
      }
      log.error({ request_id: requestId, err: error }, "a provider's webhook could not be kept");
      sendError(res, new ApiError("internal_error", "It could not be kept. Send it again."), requestId);
    }
  };
}

const queryOf = (req: Request) => new URLSearchParams(req.originalUrl.split("?", 2)[1] ?? "");

function refuseOtherMethods(req: Request, res: Response) {
  if (req.method === "POST") return;
  res.setHeader("Allow", "POST");
  throw new ApiError("method_not_allowed", "This path takes POST.");
}

function refuseOtherTypes(req: Request, mediaTypes: readonly string[] | undefined) {
  if (!mediaTypes) return;
  const given = req.headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!mediaTypes.includes(given) || (req.headers["content-encoding"] ?? "identity") !== "identity") {
    throw new ApiError("media_type_unsupported", `This path takes ${mediaTypes.join(" or ")}, not compressed.`);
  }
}

/** The bytes as they came. What is refused is left in the line: the answer's sender cuts it off. */
function readRaw(req: Request): Promise<Buffer> {
  if (Number(req.headers["content-length"] ?? 0) > maxBodyBytes) throw new ApiError("payload_too_large");
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const take = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBodyBytes) return refuse(new ApiError("payload_too_large"));
      chunks.push(chunk);
    };
    const leave = () => {
      clearTimeout(timer);
      req.off("data", take).off("end", done).off("close", cut);
    };
    const done = () => {
      leave();
      resolve(Buffer.concat(chunks));
    };
    const refuse = (fault: ApiError) => {
      leave();
      req.pause();
      reject(fault);
    };
    const cut = () => refuse(new ApiError("body_timeout"));
    const timer = setTimeout(cut, bodyDeadlineMs);
    req.on("data", take).once("end", done).once("close", cut).once("error", cut);
  });
}

/** Of a right signature the caller may know that its time is wrong; of a wrong one, nothing. */
export const refused = ({ verdict, reason }: { verdict: "stale" | "forged"; reason: string }): Verdict =>
  verdict === "stale" ? { refused: reason, told: reason } : { refused: reason };

/** The name of what is signed and cannot be read: its hash. */
export const unreadable = (body: Buffer) => ({
  key: `unreadable:${createHash("sha256").update(body).digest("hex")}`,
  eventType: "",
});

/** A name that no index could hold, or no text of the database, is none. */
function named(received: Received): Received {
  const { key, eventType, body } = received;
  const text = key + eventType;
  const isSound = key.length <= 1000 && eventType.length <= 300 && text.isWellFormed() && !text.includes("\0");
  return isSound ? received : { ...received, ...unreadable(body) };
}

/** A provider gives back what it was sent, a trunk's password among it. The signature has been checked on the bytes as they came. */
const withSecretsCut = (received: Received): Received => ({ ...received, body: withoutSecrets(received.body) });

/** A header that counts once; of several, the first. */
export const header = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);
