import type { AnyTRPCRouter } from "@trpc/server";
import { type CreateExpressContextOptions, createExpressMiddleware } from "@trpc/server/adapters/express";
import type { Request, RequestHandler, Response } from "express";
import { ApiError, toApiError } from "../routers/core/errors.ts";
import type { LimitClass } from "../routers/core/limits.ts";
import type { Reply } from "../routers/core/reply.ts";
import type { Meta } from "../routers/core/rest-metadata.ts";
import { requestUrl } from "../routers/core/trpc.ts";
import { parseJsonObject } from "./json/limits.ts";
import { type BodyLimits, CallerGone, hasBody, readJsonText } from "./rest/body.ts";
import { cutOffSoon } from "./rest/response.ts";
import type { Admit } from "./rest/router.ts";

type TrpcContext = { requestId: string; reply: Reply };
type Failure = { fault: ApiError; error: unknown; procedure: string | undefined; req: Request };

export type TrpcOptions<Ctx extends TrpcContext> = BodyLimits & {
  router: AnyTRPCRouter;
  createContext(options: CreateExpressContextOptions): Ctx;
  /** Runs the reading of an input, once the caller may send one: an unauthenticated body is not read. */
  admit: Admit;
  onError?(failure: Failure): void;
};

const maxBatchSize = 10;
const allowedMethods = "GET, HEAD, POST";

/** The tRPC transport, with the same limits as REST: the same functions read the body and check it. */
export function trpcHandler<Ctx extends TrpcContext>(options: TrpcOptions<Ctx>): RequestHandler {
  const { router, createContext, onError } = options;
  const handler = createExpressMiddleware({
    router,
    maxBatchSize,
    middleware: (req, res, next) => void admitBody(req as Read, res as Response, options, next),
    createContext,
    responseMeta: ({ ctx, errors }) => ({
      ...(ctx?.reply.status ? { status: ctx.reply.status } : {}),
      headers: {
        ...(ctx ? {} : { "Content-Type": "application/json" }), // tRPC's own refusals would be plain text
        ...ctx?.reply.headers,
        ...headersOf(errors.map(toApiError)),
        ...(ctx?.reply.firstRequestId ? { "Idempotency-Replayed": "true" } : {}),
      },
    }),
    onError: ({ error, path, req }) => onError?.({ fault: toApiError(error), error, procedure: path, req }),
  });
  return (req, res, next) => requestUrl.run(String(res.locals.publicUrl ?? ""), () => handler(req, res, next));
}

/** tRPC uses a text in this field as the body, and does not read the connection. */
type Read = Request & { body: string };

async function admitBody<Ctx extends TrpcContext>(
  req: Read,
  res: Response,
  { router, admit, ...limits }: TrpcOptions<Ctx>,
  next: (error?: unknown) => void,
): Promise<void> {
  res.once("finish", () => cutOffSoon(res));
  if (!URL.canParse(`http://${req.headers.host}`)) req.headers.host = "localhost"; // tRPC parses it as a URL
  req.body = "";
  try {
    refuseOtherMethods(req, res);
    req.body = await admit(req, res, limitOf(router, req.path), () => readInput(req, limits));
    next();
  } catch (error) {
    if (error instanceof CallerGone) return void res.destroy();
    // The body is not read any more. With this type tRPC returns the error above, and not one about the media type.
    req.headers["content-type"] = "application/json";
    next(error);
  }
}

/** The rate limit of the first procedure of a batch. */
function limitOf(router: AnyTRPCRouter, path: string): LimitClass | null {
  const [first = ""] = path.slice(1).split(",");
  const procedures = router._def.procedures as Record<string, { _def: { meta?: Meta } }>;
  return Object.hasOwn(procedures, first) ? (procedures[first]?._def.meta?.limit ?? null) : null;
}

/** The text of the body, or none: then the input is in the URL. Both are checked before tRPC parses them. */
async function readInput(req: Request, limits: BodyLimits): Promise<string> {
  if (req.method !== "GET" && req.method !== "HEAD") {
    const text = await readJsonText(req, limits);
    parseJsonObject(text);
    return text;
  }
  if (hasBody(req)) throw new ApiError("input_invalid", `A ${req.method} request takes no body.`);
  const mark = req.url.indexOf("?");
  const given = mark < 0 ? null : new URLSearchParams(req.url.slice(mark)).get("input");
  if (given) parseJsonObject(given, "`input`");
  return "";
}

function refuseOtherMethods(req: Request, res: Response) {
  if (allowedMethods.split(", ").includes(req.method)) return;
  res.setHeader("Allow", allowedMethods);
  throw new ApiError("method_not_allowed", `This path accepts ${allowedMethods}.`);
}

/** The same headers as for REST errors. */
function headersOf(errors: ApiError[]): Record<string, string> {
  const waits = errors.flatMap(({ retryAfterSeconds }) => retryAfterSeconds ?? []);
  return {
    ...(waits.length > 0 ? { "Retry-After": String(Math.ceil(Math.max(...waits))) } : {}),
    ...(errors.some(({ status }) => status === 401) ? { "WWW-Authenticate": "Bearer" } : {}),
  };
}
