import type { Request, Response } from "express";
import { CallerGone, hasBody } from "../edge/rest/body.ts";
import type { Caller } from "../routers/core/context.ts";
import { ApiError } from "../routers/core/errors.ts";
import type { LimitClass } from "../routers/core/limits.ts";
import { type Turn, withTurn } from "../routers/core/turn.ts";
import { clientAddress } from "./client-address.ts";
import type { Deps } from "./deps.ts";
import { callerFinder, factsOf, firstOf } from "./request-context.ts";
import { addressOwner } from "./request-gate.ts";

/** A body that arrives slower than this does not hold a turn of its client while it arrives. */
const slowBodyMs = 50;

/** With the wait for a turn, the idle timeout of usual load balancers. Every deadline inside a procedure is shorter. */
const deadlineSeconds = 40;
const tooLate = `The request took longer than ${deadlineSeconds} s, and may still be carried out. Repeat it with the same Idempotency-Key.`;

/**
 * Admits requests before their bodies are read: it authenticates the caller, waits for a turn of its client, and refuses
 * what the rate limit refuses. `limit` null: the procedure does not exist.
 */
export function openAdmission(deps: Deps) {
  const { auth, gate, limiter, env } = deps;
  const callerOf = callerFinder(deps);

  /** Unverified credentials take turns by address, so that a stranger cannot fill the process with verifications. */
  async function authenticated(req: Request, res: Response): Promise<Caller> {
    if (!req.headers.authorization || auth.isKnown(req.headers.authorization)) return callerOf(req);
    const turn = await gate.enter(addressOwner(clientAddress(req, env.TRUSTED_PROXIES)), goneSignal(res));
    return withTurn(turn, () => callerOf(req));
  }

  function takeTurn(req: Request, res: Response, owner: string): Promise<Turn> | Turn {
    const entered = gate.enter(owner, goneSignal(res));
    return entered instanceof Promise ? entered.then((turn) => keepTurn(req, res, turn)) : keepTurn(req, res, entered);
  }

  function keepTurn(req: Request, res: Response, turn: Turn): Turn {
    const facts = factsOf(req);
    facts.turn = turn;
    if (res.closed) turn.end();
    else if (!facts.endsTurn) {
      facts.endsTurn = true;
      res.once("close", () => facts.turn?.end()); // a procedure that has begun has taken it
    }
    return turn;
  }

  return {
    /** Runs the reading of the input. One that cannot be read counts against the rate limit, as a request does. */
    async read<T>(req: Request, res: Response, limit: LimitClass | null, read: () => Promise<T>): Promise<T> {
      const caller = await authenticated(req, res);
      const owner = ownerOf(caller, firstOf(req.headers["x-client-id"]));
      const facts = factsOf(req);
      facts.owner = owner;
      const principal = principalOf(caller);
      const clientId = caller.kind === "key" ? caller.clientId : undefined;
      const count = (isFull: boolean) => {
        if (!limit) return;
        const { headers, refusal } = limiter[isFull ? "peek" : "spend"](principal, limit, clientId);
        if (isFull && !refusal) return;
        for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
        if (refusal) throw refusal;
      };
      count(true);
      await takeTurn(req, res, owner);
      const slow = hasBody(req) ? setTimeout(() => facts.turn?.end(), slowBodyMs) : undefined;
      facts.onBody = () => clearTimeout(slow);
      try {
        return await read();
      } catch (error) {
        if (error instanceof ApiError) count(false);
        throw error;
      } finally {
        clearTimeout(slow);
      }
    },

    /** Called when a body has arrived, before it is parsed. */
    async bodyArrived(req: Request, res: Response) {
      const facts = factsOf(req);
      facts.onBody?.();
      if (facts.turn && !facts.turn.isHeld()) await takeTurn(req, res, facts.owner ?? "");
    },

    /** Runs a procedure in the turn of its request. The other procedures of a batch wait for turns of their own. */
    async inTurn<T>(req: Request, work: () => Promise<T>): Promise<T> {
      const facts = factsOf(req);
      const own = facts.turn?.isHeld() ? facts.turn : undefined;
      delete facts.turn;
      return withinDeadline(withTurn(own ?? (await gate.enter(facts.owner ?? "")), work));
    },
  };
}

/** The work itself goes on, and holds its turn until it ends. A stream has begun by then. */
async function withinDeadline<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new ApiError("server_overloaded", tooLate)), deadlineSeconds * 1000);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function goneSignal(res: Response): AbortSignal {
  const gone = new AbortController();
  res.once("close", () => gone.abort(new CallerGone()));
  return gone.signal;
}

const principalOf = (caller: Caller): string => {
  if (caller.kind === "key") return caller.keyId;
  if (caller.kind === "user") return caller.userId;
  return caller.kind === "service" ? `service:${caller.name}` : caller.subject;
};

/** Whose turns and memory a request uses: all API keys of a client are one owner, and so are people who act for it. */
function ownerOf(caller: Caller, chosen: string | undefined): string {
  if (caller.kind === "key") return caller.clientId;
  if (caller.kind === "service") return `service:${caller.name}`;
  const own = caller.kind === "user" && !caller.platform ? caller.clientIds : [];
  const named = chosen ?? (own.length === 1 ? own[0] : undefined);
  return named !== undefined && own.includes(named) ? named : caller.subject;
}
