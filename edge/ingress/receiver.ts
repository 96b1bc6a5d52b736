import type { Request, RequestHandler, Response } from "express";
import type { Logger } from "pino";
import type { Database } from "../../db/client.ts";
import { Fault } from "../../routers/fault.ts";
import { type Received, storeReceived } from "../../routers/ingress/service.ts";

const maxBodyBytes = 5_000_000;
const bodyDeadlineMs = 10_000;

/** What a provider's own part makes of a request: what to keep, or why it is refused. */
export type Verdict = { received: Received } | { refused: string };
export type Verify = (rawBody: Buffer, headers: Request["headers"]) => Verdict | Promise<Verdict>;

type Options = {
  db: Database;
  log: Logger;
  verify: Verify;
  requestIdOf: (req: Request) => string;
  sendFault: (res: Response, fault: Fault, requestId: string) => void;
};

/** The chores of every provider's webhook: raw bytes, verified, kept once, answered. Nothing of the domain runs here. */
export function receiver({ db, log, verify, requestIdOf, sendFault }: Options): RequestHandler {
  return async (req, res) => {
    const requestId = requestIdOf(req);
    try {
      const verdict = await verify(await readRaw(req), req.headers);
      if ("refused" in verdict) {
        log.warn({ request_id: requestId, reason: verdict.refused }, "a provider's webhook was refused");
        return sendFault(res, new Fault("unauthenticated", "The signature does not match."), requestId);
      }
      const { received } = verdict;
      const fresh = await db.asHouse((tx) => storeReceived(tx, received), { requestId });
      const { provider, key, stale, providerAccountId: account } = received;
      log.info({ request_id: requestId, provider, account, key, stale, fresh }, "a provider's webhook was kept");
      res.status(204).end();
    } catch (error) {
      if (error instanceof Fault) return sendFault(res, error, requestId);
      // Not acknowledged: the provider sends it again.
      log.error({ request_id: requestId, err: error }, "a provider's webhook could not be kept");
      sendFault(res, new Fault("internal_error", "It could not be kept. Send it again."), requestId);
    }
  };
}

async function readRaw(req: Request): Promise<Buffer> {
  const tooLarge = () => new Fault("payload_too_large");
  if (Number(req.headers["content-length"] ?? 0) > maxBodyBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => req.destroy(new Error("The body came too slowly.")), bodyDeadlineMs);
  try {
    for await (const chunk of req) {
      size += chunk.length;
      if (size > maxBodyBytes) throw tooLarge();
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks);
}
