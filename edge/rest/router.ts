import { randomUUID } from "node:crypto";
import { type AnyTRPCRouter, callTRPCProcedure } from "@trpc/server";
import { type Request, type Response, Router } from "express";
import { ApiError, toApiError } from "../../routers/core/errors.ts";
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

export type RestOptions<Ctx extends RestContext> = {
  router: AnyTRPCRouter;
  /** Which doors stand here; all, if left out. */
  only?(door: RestOperation): boolean;
  createContext(request: { req: Request; res: Response; transport: "rest"; reply: Reply }): Ctx | Promise<Ctx>;
  maxBodyBytes?: number;
  bodyDeadlineSeconds?: number;
  takeRoom?: BodyLimits["takeRoom"];
  /** How long the line of a stream may stand still. */
  streamIdleMs?: number;
  /** The id of a request that failed before it had a context. */
  requestIdOf?(req: Request): string;
  /** Hears of every failure, also of those that are the caller's own doing. */
  onError?(failure: Failure): void;
};

type Route = RestOperation & { read: InputReader };

/** The public REST door: every procedure with REST metadata, at its method and path. Mount it at /api/v1. */
export function restRouter<Ctx extends RestContext>(options: RestOptions<Ctx>): Router {
  const { router, createContext, requestIdOf = givenOrNew, onError, only = () => true } = options;
  const { maxBodyBytes = 1_000_000, bodyDeadlineSeconds = 30, takeRoom, streamIdleMs } = options;
  const table = routes<Route>();
  for (const door of operationsOf(router).filter(only)) {
    const read = inputReader(door, { maxBodyBytes, bodyDeadlineSeconds, takeRoom });
    table.add(door.rest.method, door.rest.path, { ...door, read });
  }

  async function serve(req: Request, res: Response): Promise<void> {
    let ctx: Ctx | undefined;
    let door: Route | undefined;
    try {
      const mark = req.url.indexOf("?");
      const found = table.find(mark < 0 ? req.url : req.url.slice(0, mark));
      if (!found) throw new ApiError("route_not_found");
      const stop = found.place.byMethod.get(req.method);
      if (!stop) return refuseMethod(req, res, found.place.allow);
      door = stop.target;
      ctx = await createContext({ req, res, transport: "rest", reply: { headers: {} } });
      const params = new Map(stop.params.map((name, place) => [name, found.values[place]!]));
      const input = await door.read(req, mark < 0 ? "" : req.url.slice(mark + 1), params);
      const { procedure: path, type, meta, item } = door;
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
        const chunks = data as Chunks; // what the builder `stream` gives
        return await sendChunks(res, { chunks, contentType: meta.produces, headers, signal, idleMs: streamIdleMs });
      }
      sendResult(res, { requestId, reply, status: reply.status ?? meta.status, isPage: item !== null, data });
    } catch (error) {
      fail(error, req, res, ctx, door?.procedure);
    }
  }

  function refuseMethod(req: Request, res: Response, allow: string): void {
    res.setHeader("Allow", allow);
    if (req.method !== "OPTIONS") throw new ApiError("method_not_allowed", `This path takes ${allow}.`);
    res.writeHead(204, { "X-Request-Id": requestIdOf(req) }).end();
  }

  function fail(error: unknown, req: Request, res: Response, ctx: Ctx | undefined, procedure: string | undefined) {
    if (error instanceof CallerGone) return;
    const requestId = ctx?.requestId ?? requestIdOf(req);
    const fault = toApiError(error);
    onError?.({ fault, error, requestId, procedure, req });
    sendError(res, fault, requestId, { reply: ctx?.reply });
  }

  return Router().use((req, res) => serve(req, res));
}

/** Fires when the caller hangs up before the answer is out, so that work for nobody can stop. */
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
