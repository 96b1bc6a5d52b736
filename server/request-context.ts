import type { AnyTRPCRouter } from "@trpc/server";
import type { Request, Response } from "express";
import type { z } from "zod";
import { newId } from "../db/ids.ts";
import type { Caller, Context } from "../routers/core/context.ts";
import { ApiError } from "../routers/core/errors.ts";
import type { Reply } from "../routers/core/reply.ts";
import type { Turn } from "../routers/core/turn.ts";
import type { Deps } from "./deps.ts";

export const streamIdleMs = 60_000;

/** The caller of a request, found once. `anew` authenticates again: a token may expire during a stream. */
export const callerFinder =
  ({ auth }: Deps) =>
  (req: Request, fresh?: "fresh"): Promise<Caller> => {
    const facts = factsOf(req);
    if (fresh) delete facts.caller;
    facts.caller ??= auth.authenticate(req.headers.authorization);
    return facts.caller;
  };

type InTurn = <T>(req: Request, work: () => Promise<T>) => Promise<T>;

export type ContextOf = ReturnType<typeof contextMaker>;

export function contextMaker(deps: Deps, inputOf: Context["inputOf"], inTurn: InTurn) {
  const { auth, db, providers, limiter, live, streams, signingSecret, log } = deps;
  const validatesOutput = deps.env.OUTPUT_VALIDATION === "full";
  const callerOf = callerFinder(deps);
  return function contextOf(
    req: Request,
    res: Response,
    transport: Context["transport"],
    reply: Reply,
    calls = 1,
  ): Context {
    const requestId = requestIdOf(req);
    const takesStream = transport === "trpc" && firstOf(req.headers["trpc-accept"]) === "application/jsonl";
    if (takesStream) res.setTimeout(streamIdleMs, () => res.socket?.resetAndDestroy());
    let giveBack = () => {};
    return {
      requestId,
      publicUrl: res.locals.publicUrl as string,
      transport,
      takesStream,
      reply,
      idempotencyKey: () => readIdempotencyKey(req, calls),
      authenticate: (fresh) => callerOf(req, fresh),
      choosePrincipal: async (caller) => {
        const principal = await auth.choosePrincipal(caller, firstOf(req.headers["x-client-id"]));
        factsOf(req).clientId = principal.clientId;
        return principal;
      },
      spend: (principalId, limit, clientId) => {
        const spent = limiter.spend(principalId, limit, clientId);
        giveBack = spent.giveBack;
        // A stream on /trpc has sent its headers before authentication.
        if (!res.headersSent) for (const [name, value] of Object.entries(spent.headers)) res.setHeader(name, value);
        if (spent.refusal) throw spent.refusal;
      },
      unspend: () => giveBack(),
      inTurn: (work) => inTurn(req, work),
      inputOf,
      validatesOutput,
      db,
      providers,
      live,
      streams,
      signingSecret,
      hashKey: auth.hashKey,
      log: () => log.child({ request_id: requestId, client_id: factsOf(req).clientId ?? null }),
    };
  };
}

type Procedure = { _def: { inputs: z.ZodType[] } };

export function inputsOf(...routers: AnyTRPCRouter[]): Context["inputOf"] {
  const procedures = routers.flatMap(({ _def }) =>
    Object.entries(_def.procedures as unknown as Record<string, Procedure>),
  );
  const schemas = new Map(procedures.map(([path, { _def }]) => [path, _def.inputs[0]]));
  return (path) => schemas.get(path);
}

export const firstOf = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);

/** A key covers one mutation; in a batch it would be unclear which. */
function readIdempotencyKey(req: Request, calls: number): string | null {
  const [key, olderKey] = ["idempotency-key", "x-idempotency-key"].map((name) => unquoted(firstOf(req.headers[name])));
  if (key !== undefined && olderKey !== undefined && key !== olderKey)
    throw new ApiError("header_invalid", "Idempotency-Key and X-Idempotency-Key differ. Send one of them.");
  const given = key ?? olderKey;
  if (given === undefined) return null;
  if (!/^[\x21-\x7e]{1,255}$/.test(given))
    throw new ApiError("header_invalid", "Idempotency-Key: 1 to 255 visible ASCII characters, without spaces.");
  if (calls > 1) throw new ApiError("batch_not_allowed");
  return given;
}

/** The key may be a quoted string, as in the draft standard, or bare. */
const unquoted = (value: string | undefined) => value && (/^"(.*)"$/.exec(value)?.[1] ?? value);

type Facts = {
  requestId: string;
  clientId?: string;
  caller?: Promise<Caller>;
  /** Whose turns and memory the request uses. */
  owner?: string;
  /** The turn for reading the input, until a procedure takes it. */
  turn?: Turn;
  endsTurn?: boolean;
  onBody?: () => void;
};
const known = new WeakMap<Request, Facts>();

export function factsOf(req: Request): Facts {
  const found = known.get(req);
  if (found) return found;
  const given = firstOf(req.headers["x-request-id"]);
  const facts: Facts = { requestId: given && /^[\w.:-]{1,128}$/.test(given) ? given : newId("request") };
  known.set(req, facts);
  return facts;
}

/** The caller's own id if it is well-formed, so that their logs and ours can be matched. */
export const requestIdOf = (req: Request) => factsOf(req).requestId;
