import { readFileSync } from "node:fs";
import { createServer, type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { AnyTRPCRouter } from "@trpc/server";
import express, { type NextFunction, type Request, type Response } from "express";
import type { Logger } from "pino";
import type { z } from "zod";
import { newId } from "../db/ids.ts";
import { docsRouter } from "../edge/openapi/docs.ts";
import { openApiJson } from "../edge/openapi/document.ts";
import type { BodyLimits } from "../edge/rest/body.ts";
import { openBodyRoom } from "../edge/rest/body-room.ts";
import { isAdmin, isInternal, type RestOperation } from "../edge/rest/operations.ts";
import { restRouter, sendError } from "../edge/rest/router.ts";
import { trpcHandler } from "../edge/trpc.ts";
import { requireComplete } from "../routers/core/complete-metadata.ts";
import type { Caller, Context } from "../routers/core/context.ts";
import { ApiError, docUrl, toApiError } from "../routers/core/errors.ts";
import type { Reply } from "../routers/core/reply.ts";
import { appRouter, internalRouter } from "../routers/index.ts";
import type { Deps } from "./deps.ts";
import { trackResponses } from "./drain.ts";
import { health } from "./health.ts";
import { ingressDoors } from "./ingress.ts";
import { scalarFile } from "./scalar.ts";

export const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const maxBodyBytes = 1_000_000;
const bodyDeadlineSeconds = 30;
const streamIdleMs = 60_000;

/** The whole application behind one port: both doors, what providers call, health and the reference. */
export function openHttp(deps: Deps, router: AnyTRPCRouter = appRouter): Server {
  requireComplete(router);
  const { env, log } = deps;
  const app = express();
  app.disable("x-powered-by");
  app.set("etag", false);
  const contextOf = contextMaker(deps, inputsOf(router, internalRouter));
  const callerOf = callerFinder(deps);
  const room = openBodyRoom((req) => facts(req as Request).owner ?? "");
  const takeRoom: BodyLimits["takeRoom"] = (req, bytes) =>
    room(req, bytes, (release) => (req as Request).res?.once("close", release));

  const lines = unredacted(log);
  app.use((req, res, next) => {
    res.setHeader("X-Request-Id", requestIdOf(req));
    logWhenDone(lines, req, res);
    next();
  });

  for (const [path, door] of ingressDoors(deps, requestIdOf)) app.all(path, door);

  const rest = (from: AnyTRPCRouter, only: (door: RestOperation) => boolean) =>
    restRouter({
      router: from,
      only,
      createContext: async ({ req, res, reply }) => {
        const context = contextOf(req, res, "rest", reply);
        await context.authenticate(); // before the body is read: a stranger's is not
        return context;
      },
      maxBodyBytes,
      bodyDeadlineSeconds,
      takeRoom,
      streamIdleMs,
      requestIdOf,
      onError: ({ fault, error, procedure, req }) => logBug(log, fault, error, req, procedure),
    });
  app.use(
    "/api/v1",
    rest(router, (door) => !isInternal(door)),
  );
  const admin = rest(router, isAdmin);
  const internal = rest(internalRouter, isInternal);
  app.use((req, res, next) => {
    if (req.path.startsWith("/admin/")) return admin(req, res, next);
    return req.path.startsWith("/internal/") ? internal(req, res, next) : next();
  });

  app.use(
    "/trpc",
    trpcHandler({
      router,
      maxBodyBytes,
      bodyDeadlineSeconds,
      takeRoom,
      authenticate: callerOf,
      createContext: ({ req, res, info }) => {
        if (info.type === "subscription") res.setTimeout(streamIdleMs, () => res.socket?.resetAndDestroy());
        return contextOf(req, res, "trpc", { headers: {} }, info.calls.length);
      },
      onError: ({ fault, error, procedure, req }) => logBug(log, fault, error, req, procedure),
    }),
  );

  app.use(health(deps, version));
  app.get("/openapi.json", (req, res) => {
    // Not by the Host header: that is the caller's to choose, and the document is kept per address.
    const origin = env.PUBLIC_URL ?? `http://${env.HOST}:${req.socket.localPort}`;
    res.type("application/json").send(openApiJson(router, { baseUrl: `${origin}/api/v1`, version }));
  });
  app.use(docsRouter({ scalarFile }));
  app.use((req, res) => sendError(res, new ApiError("route_not_found"), requestIdOf(req)));
  app.use((error: unknown, req: Request, res: Response, _next: NextFunction) => {
    const fault = toApiError(error);
    logBug(log, fault, error, req, undefined);
    sendError(res, fault, requestIdOf(req));
  });

  const server = createServer(app);
  trackResponses(server);
  server.on("clientError", answerUnreadable);
  server.requestTimeout = 60_000;
  server.headersTimeout = 15_000;
  server.keepAliveTimeout = 65_000; // above the usual 60 s of a balancer, which must be the one to hang up
  return server;
}

/** What Node's parser gives up on has no request and no response: the envelope is written on the line itself. */
function answerUnreadable(error: Error & { code?: string }, socket: Duplex) {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const fault = new ApiError(error.code === "HPE_HEADER_OVERFLOW" ? "headers_too_large" : "request_malformed");
  const requestId = newId("request");
  const { errorCode: code, message, status } = fault;
  const body = JSON.stringify({ error: { code, message, requestId, docUrl: docUrl(code) } });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}

/** Who sent the request. Found once per request, unless it is asked `anew`: a token may run out while a stream goes on. */
const callerFinder =
  ({ auth }: Deps) =>
  (req: Request, anew?: "anew"): Promise<Caller> => {
    const known = facts(req);
    if (anew) delete known.caller;
    known.caller ??= auth.authenticate(req.headers.authorization).then((caller) => {
      known.owner = ownerOf(caller);
      return caller;
    });
    return known.caller;
  };

/** Whose memory a request uses: all API keys of a client are one owner. */
function ownerOf(caller: Caller): string {
  if (caller.kind === "key") return caller.clientId;
  return caller.kind === "service" ? `service:${caller.name}` : caller.subject;
}

function contextMaker(deps: Deps, inputOf: Context["inputOf"]) {
  const { auth, db, providers, limiter, live, streams, signingSecret, log } = deps;
  const callerOf = callerFinder(deps);
  return function contextOf(
    req: Request,
    res: Response,
    transport: Context["transport"],
    reply: Reply,
    calls = 1,
  ): Context {
    const requestId = requestIdOf(req);
    const takesStream = transport === "trpc" && one(req.headers["trpc-accept"]) === "application/jsonl";
    if (takesStream) res.setTimeout(streamIdleMs, () => res.socket?.resetAndDestroy());
    let giveBack = () => {};
    return {
      requestId,
      transport,
      takesStream,
      reply,
      idempotencyKey: () => readIdempotencyKey(req, calls),
      authenticate: (anew) => callerOf(req, anew),
      choosePrincipal: async (caller) => {
        const principal = await auth.choosePrincipal(caller, one(req.headers["x-client-id"]));
        facts(req).clientId = principal.clientId;
        return principal;
      },
      spend: (principalId, limit, clientId) => {
        const spent = limiter.spend(principalId, limit, clientId);
        giveBack = spent.giveBack;
        // Of a stream on /trpc the head is out before anybody is asked.
        if (!res.headersSent) for (const [name, value] of Object.entries(spent.headers)) res.setHeader(name, value);
        if (spent.refusal) throw spent.refusal;
      },
      unspend: () => giveBack(),
      inputOf,
      db,
      providers,
      live,
      streams,
      signingSecret,
      hashKey: auth.hashKey,
      log: () => log.child({ request_id: requestId, client_id: facts(req).clientId ?? null }),
    };
  };
}

type Procedure = { _def: { inputs: z.ZodType[] } };

function inputsOf(...routers: AnyTRPCRouter[]): Context["inputOf"] {
  const procedures = routers.flatMap(({ _def }) =>
    Object.entries(_def.procedures as unknown as Record<string, Procedure>),
  );
  const schemas = new Map(procedures.map(([path, { _def }]) => [path, _def.inputs[0]]));
  return (path) => schemas.get(path);
}

const one = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);

/** `Idempotency-Key` may be a quoted string, as its draft standard says, or bare. It covers one mutation: in a batch it could not be said which. */
function readIdempotencyKey(req: Request, calls: number): string | null {
  const given = one(req.headers["idempotency-key"]) ?? one(req.headers["x-idempotency-key"]);
  if (given === undefined) return null;
  const key = /^"(.*)"$/.exec(given)?.[1] ?? given;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ApiError("header_invalid", "Idempotency-Key: 1 to 255 visible ASCII characters, without spaces.");
  }
  if (calls > 1) throw new ApiError("batch_not_allowed");
  return key;
}

type Facts = { requestId: string; clientId?: string; caller?: Promise<Caller>; owner?: string };
const known = new WeakMap<Request, Facts>();

function facts(req: Request): Facts {
  const found = known.get(req);
  if (found) return found;
  const given = one(req.headers["x-request-id"]);
  const made: Facts = { requestId: given && /^[\w.:-]{1,128}$/.test(given) ? given : newId("request") };
  known.set(req, made);
  return made;
}

/** Taken from the caller when it is well formed, so that his logs and ours can be laid side by side. */
export const requestIdOf = (req: Request) => facts(req).requestId;

/** Its fields are few and known, and none of them is secret: going through the list of secrets would cost more than the line. */
const unredacted = (log: Logger) => log.child({}, { redact: { paths: [] } });

/** Who holds an invitation's token may use it. */
const withoutToken = (path: string) => path.replace(/(\/invitations\/)[^/]+/, "$1[token]");

function logWhenDone(log: Logger, req: Request, res: Response) {
  if (!log.isLevelEnabled("info")) return;
  const began = performance.now();
  const path = withoutToken(req.originalUrl.split("?", 1)[0] ?? "");
  res.once("close", () => {
    const { requestId, clientId } = facts(req);
    const line = {
      request_id: requestId,
      client_id: clientId ?? null,
      method: req.method,
      path,
      status: res.statusCode,
    };
    log.info(
      { ...line, ms: Math.round(performance.now() - began), ...(res.writableFinished ? {} : { gone: true }) },
      "request",
    );
  });
}

function logBug(log: Logger, fault: ApiError, error: unknown, req: Request, procedure: string | undefined) {
  if (fault.status < 500) return;
  const { requestId, clientId } = facts(req);
  const cause = error instanceof Error && error.cause ? error.cause : error;
  log.error(
    { request_id: requestId, client_id: clientId ?? null, procedure, code: fault.errorCode, err: fault.cause ?? cause },
    "a request failed",
  );
}
