import { readFileSync } from "node:fs";
import { type Server, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { AnyTRPCRouter } from "@trpc/server";
import express, { type NextFunction, type Request, type RequestHandler, type Response } from "express";
import { newId } from "../db/ids.ts";
import { docsRouter } from "../edge/openapi/docs.ts";
import { openApiJson } from "../edge/openapi/document.ts";
import type { BodyLimits } from "../edge/rest/body.ts";
import { openBodyRoom } from "../edge/rest/body-room.ts";
import { isAdmin, isInternal, type RestOperation } from "../edge/rest/operations.ts";
import { type Admit, restRouter, sendError } from "../edge/rest/router.ts";
import { trpcHandler } from "../edge/trpc.ts";
import { requireComplete } from "../routers/core/complete-metadata.ts";
import { ApiError, docUrl, toApiError } from "../routers/core/errors.ts";
import { appRouter, internalRouter } from "../routers/index.ts";
import { openAdmission } from "./admission.ts";
import type { Deps } from "./deps.ts";
import type { Env } from "./env.ts";
import { health } from "./health.ts";
import { ingressEndpoints } from "./ingress.ts";
import { answered, trackingServer } from "./open-responses.ts";
import { type ContextOf, contextMaker, factsOf, inputsOf, requestIdOf, streamIdleMs } from "./request-context.ts";
import { logBug, logWhenDone, unredacted } from "./request-log.ts";
import { scalarFile } from "./scalar.ts";

export const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const maxBodyBytes = 1_000_000;
const bodyDeadlineSeconds = 30;

/** How both transports read an input. */
type Reading = BodyLimits & { admit: Admit };

/** The whole application on one port: REST, tRPC, provider webhooks, health and the API reference. */
export function openHttp(
  deps: Deps,
  router: AnyTRPCRouter = appRouter,
  internal: AnyTRPCRouter = internalRouter,
): Server {
  requireComplete(router);
  requireComplete(internal);
  const { env, log } = deps;
  const app = express();
  app.disable("x-powered-by");
  app.enable("case sensitive routing");
  app.set("etag", false);
  const admission = openAdmission(deps);
  const contextOf = contextMaker(deps, inputsOf(router, internal), admission.inTurn);

  const room = openBodyRoom((req) => factsOf(req as Request).owner ?? "");
  const reading: Reading = {
    ...{ maxBodyBytes, bodyDeadlineSeconds, admit: admission.read },
    takeRoom: (req, bytes) => room(req, bytes, (release) => (req as Request).res?.once("close", release)),
    onArrived: (req) => admission.bodyArrived(req as Request, (req as Request).res!),
  };

  const requestLog = unredacted(log);
  app.use((req, res, next) => {
    res.setHeader("X-Request-Id", requestIdOf(req));
    res.locals.publicUrl = publicUrlOf(env, req.socket);
    logWhenDone(requestLog, req, res);
    const repeated = repeatedHeader(req);
    next(repeated && new ApiError("header_invalid", `The header ${repeated} occurs twice. Send it once.`));
  });
  for (const [path, endpoint] of ingressEndpoints(deps, requestIdOf)) app.all(path, endpoint);
  mountRest(app, deps, { router, internal, reading }, contextOf);
  app.use("/trpc", trpc(deps, router, reading, contextOf));
  app.use(health(deps, version));
  app.get("/openapi.json", openApi(deps, router));
  app.use(docsRouter({ scalarFile }));
  app.use((req, res) => sendError(res, new ApiError("route_not_found"), requestIdOf(req)));
  app.use((thrown: unknown, req: Request, res: Response, _next: NextFunction) => {
    const error = toApiError(thrown);
    logBug(log, error, thrown, req, undefined);
    sendError(res, error, requestIdOf(req));
  });
  return configured(trackingServer(app), env);
}

/** The public API at /api/v1; /admin and /internal at the root. */
function mountRest(
  app: express.Express,
  deps: Deps,
  { router, internal, reading }: { router: AnyTRPCRouter; internal: AnyTRPCRouter; reading: Reading },
  contextOf: ContextOf,
) {
  const rest = (from: AnyTRPCRouter, only: (operation: RestOperation) => boolean) =>
    restRouter({
      router: from,
      only,
      createContext: ({ req, res, reply }) => contextOf(req, res, "rest", reply),
      ...reading,
      streamIdleMs,
      requestIdOf,
      onError: ({ fault, error, procedure, req }) => logBug(deps.log, fault, error, req, procedure),
    });
  app.use(
    "/api/v1",
    rest(router, (operation) => !isInternal(operation)),
  );
  const admin = rest(router, isAdmin);
  const internalRest = rest(internal, isInternal);
  app.use((req, res, next) => {
    if (req.path.startsWith("/admin/")) return admin(req, res, next);
    return req.path.startsWith("/internal/") ? internalRest(req, res, next) : next();
  });
}

const trpc = (deps: Deps, router: AnyTRPCRouter, reading: Reading, contextOf: ContextOf): RequestHandler =>
  trpcHandler({
    router,
    ...reading,
    createContext: ({ req, res, info }) => {
      if (info.type === "subscription") res.setTimeout(streamIdleMs, () => res.socket?.resetAndDestroy());
      return contextOf(req, res, "trpc", { headers: {} }, info.calls.length);
    },
    onError: ({ fault, error, procedure, req }) => logBug(deps.log, fault, error, req, procedure),
  });

/** Node keeps the first of these, a proxy may have read the last: they would see two different requests. */
const once = new Set(["host", "authorization", "content-type", "content-length", "x-client-id"]);

function repeatedHeader({ rawHeaders, headers }: Request): string | undefined {
  if (rawHeaders.length <= 2 * Object.keys(headers).length) return;
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    if (seen.has(name) && once.has(name)) return name;
    seen.add(name);
  }
}

/** Never the Host header: the caller chooses that, and the document is cached per address. */
const publicUrlOf = (env: Env, { localPort }: Pick<Socket, "localPort">) =>
  env.PUBLIC_URL ?? `http://${env.HOST}:${localPort}`;

const openApi =
  ({ env }: Deps, router: AnyTRPCRouter): RequestHandler =>
  (req, res) => {
    const baseUrl = `${publicUrlOf(env, req.socket)}/api/v1`;
    res.type("application/json").send(openApiJson(router, { baseUrl, version }));
  };

function configured(server: Server, env: Env): Server {
  /** Sent earlier, the refusal would be taken for the answer to a request before it. */
  const refuse = (socket: Duplex, code?: string) =>
    answered(server, socket).then(() => refuseUnreadable(env, code, socket));
  const refused = new WeakSet<Duplex>();
  server.on("clientError", (error: Error & { code?: string }, socket) => {
    if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
    if (refused.has(socket)) return; // what follows is unreadable too
    refused.add(socket);
    void refuse(socket, error.code);
  });
  // Without a listener Node closes the connection, with the answers that are still to come.
  server.on("connect", (_req, socket) => void refuse(socket));
  server.requestTimeout = 60_000;
  server.headersTimeout = 15_000;
  server.keepAliveTimeout = 65_000; // above the usual 60 s of a load balancer, which must close the connection first
  return server;
}

/** Node's parser error has no request and no response: the envelope is written directly to the socket. */
function refuseUnreadable(env: Env, parserError: string | undefined, socket: Duplex) {
  if (!socket.writable) return void socket.destroy();
  const error = new ApiError(parserError === "HPE_HEADER_OVERFLOW" ? "headers_too_large" : "request_malformed");
  const requestId = newId("request");
  const { errorCode: code, message, status } = error;
  const body = JSON.stringify({
    error: { code, message, requestId, docUrl: docUrl(publicUrlOf(env, socket as Socket), code) },
  });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
