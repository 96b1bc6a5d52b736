import { randomUUID } from "node:crypto";
import { type AnyTRPCRouter, callTRPCProcedure } from "@trpc/server";
import { type Request, type Response, Router } from "express";
import { ApiError, toApiError } from "../../routers/core/errors.ts";
import type { LimitClass } from "../../routers/core/limits.ts";
import type { Chunks, Reply } from "../../routers/core/reply.ts";
import { type BodyLimits, CallerGone } from "./body.ts";
import { type InputReader, inputReader } from "./input.ts";
import { operationsOf, type RestOperation } from "./operations.ts";
import { common, sendError, sendResult } from "./response.ts";
import { routes } from "./routes.ts";
import { sendChunks } from "./stream.ts";

export { sendError } from "./response.ts";

type RestContext = { requestId: string; reply: Reply };
type Failure = { fault: ApiError; error: unknown; requestId: string; procedure: string | undefined; req: Request };

/** `limit`: the rate limit of the procedure, or null if there is none of that name. Throws ApiError. */
export type Admit = <T>(req: Request, res: Response, limit: LimitClass | null, read: () => Promise<T>) => Promise<T>;

export type RestOptions<Ctx extends RestContext> = {
  router: AnyTRPCRouter;
  /** Selects the operations to serve; by default all. */
  only?(operation: RestOperation): boolean;
  createContext(request: { req: Request; res: Response; transport: "rest"; reply: Reply }): Ctx | Promise<Ctx>;
  maxBodyBytes?: number;
  bodyDeadlineSeconds?: number;
  takeRoom?: BodyLimits["takeRoom"];
  onArrived?: BodyLimits["onArrived"];
  /** Runs the reading of an input, once the caller may send one. By default immediately. */
  admit?: Admit;
  /** How long a stream may be idle. */
  streamIdleMs?: number;
  /** The id of a request that failed before it had a context. */
  requestIdOf?(req: Request): string;
  /** Called for every failure, including those that the caller caused. */
  onError?(failure: Failure): void;
};

type Route = RestOperation & { read: InputReader };

/** The REST transport: every procedure with REST metadata, at its method and path. Mount it at /api/v1. */
export function restRouter<Ctx extends RestContext>(options: RestOptions<Ctx>): Router {
  const { router, createContext, requestIdOf = givenOrNew, onError, only = () => true } = options;
  const { maxBodyBytes = 1_000_000, bodyDeadlineSeconds = 30, takeRoom, onArrived, streamIdleMs } = options;
  const { admit = (_req, _res, _limit, read) => read() } = options;
  const table = routes<Route>();
  for (const operation of operationsOf(router).filter(only)) {
    const read = inputReader(operation, { maxBodyBytes, bodyDeadlineSeconds, takeRoom, onArrived });
    table.add(operation.rest.method, operation.rest.path, { ...operation, read });
  }

  async function serve(req: Request, res: Response): Promise<void> {
    let ctx: Ctx | undefined;
    let operation: Route | undefined;
    try {
      const mark = req.url.indexOf("?");
      const found = table.find(mark < 0 ? req.url : req.url.slice(0, mark));
      if (!found) throw new ApiError("route_not_found");
      const route = found.place.byMethod.get(req.method);
      if (!route) return refuseMethod(req, res, found.place.allow);
      operation = route.target;
      ctx = await createContext({ req, res, transport: "rest", reply: { headers: {} } });
      const params = new Map(route.params.map((name, index) => [name, found.values[index]!]));
      const { procedure: path, type, meta, item, read } = operation;
      const query = mark < 0 ? "" : req.url.slice(mark + 1);
      const input = await admit(req, res, meta.limit, () => read(req, query, params));
      const signal = signalOf(res);
      const data = await callTRPCProcedure({
        router,
        path,
        type,
        ctx,
        getRawInput: async () => input,
        signal,
        batchIndex: 0,
      });
      const { requestId, reply } = ctx;
      if (meta.produces) {
        const headers = { ...common(requestId), ...reply.headers };
        const chunks = data as Chunks; // the result of the builder `stream`
        return await sendChunks(res, { chunks, contentType: meta.produces, headers, signal, idleMs: streamIdleMs });
      }
      sendResult(res, { requestId, reply, status: reply.status ?? meta.status, isPage: item !== null, data });
    } catch (error) {
      fail(error, req, res, ctx, operation?.procedure);
    }
  }

  function refuseMethod(req: Request, res: Response, allow: string): void {
    res.setHeader("Allow", allow);
    if (req.method !== "OPTIONS") throw new ApiError("method_not_allowed", `This path accepts ${allow}.`);
    res.writeHead(204, { "X-Request-Id": requestIdOf(req) }).end();
  }

  function fail(thrown: unknown, req: Request, res: Response, ctx: Ctx | undefined, procedure: string | undefined) {
    if (thrown instanceof CallerGone) return;
    const requestId = ctx?.requestId ?? requestIdOf(req);
    const error = toApiError(thrown);
    onError?.({ fault: error, error: thrown, requestId, procedure, req });
    sendError(res, error, requestId, { reply: ctx?.reply });
  }

  return Router().use((req, res) => serve(req, res));
}

/** Aborts when the caller closes the connection before the response is complete, so that the work can stop. */
function signalOf(res: Response): AbortSignal {
  const controller = new AbortController();
  res.once("close", () => {
    if (!res.writableFinished) controller.abort();
  });
  return controller.signal;
}

function givenOrNew(req: Request): string {
  const given = req.headers["x-request-id"];
  return typeof given === "string" && /^[\w.:-]{1,128}$/.test(given) ? given : `req_${randomUUID()}`;
}
