import { Resolver, lookup as systemLookup } from "node:dns/promises";
import type { LookupFunction } from "node:net";
import { performance } from "node:perf_hooks";
import { Agent, type Dispatcher, errors } from "undici";
import { type AddressRules, mayReach, objectionTo } from "../../routers/ports/addresses.ts";
import { SendFailed, type SendFailure } from "../../routers/ports/webhook-sender.ts";

export type Resolved = { address: string; family: number };

export type GuardOptions = AddressRules & {
  /** How names become addresses. Every address is vetted, whoever found it. */
  resolve?: (hostname: string) => Promise<Resolved[]>;
  /** Asked instead of the machine's own, as `address:port`. */
  nameServers?: readonly string[];
  connectTimeoutMs?: number;
};

type Asked = {
  method: Dispatcher.HttpMethod;
  url: string;
  headers: Record<string, string>;
  body?: string;
  /** Of the answer so much is kept. */
  keptBytes: number;
  /** Beyond this nothing is read: the line is cut, and the answer counts by its status. */
  maxReadBytes: number;
};

export type Heard = {
  status: number;
  headers: Dispatcher.ResponseData["headers"];
  body: string;
  truncated: boolean;
  milliseconds: number;
};

/** The one line to addresses that strangers chose. */
export type Guard = {
  /** Throws SendFailed. */
  ask(asked: Asked, signal: AbortSignal): Promise<Heard>;
  close(): Promise<void>;
};

/** A connection is looked up and vetted when it is made; none lives so long that its address is somebody else's by now. */
const connectionLifeMs = 60_000;

/** A name led to an address that is not on the open internet. */
class Forbidden extends Error {}
class NotResolved extends Error {}

/**
 * A literal address is vetted here, a name when it is resolved, and the socket goes to the very addresses that were
 * vetted. One signal ends it all; idle timers would let a slow drip go on for ever. It knows no proxy and follows no
 * redirect.
 */
export function openGuard({ resolve, nameServers, connectTimeoutMs = 5_000, ...rules }: GuardOptions): Guard {
  const byName = resolve ?? (rules.allowPrivate && !nameServers ? fromSystem : fromDns(nameServers));
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    clientTtl: connectionLifeMs,
    connect: { lookup: vettedLookup(byName, rules), timeout: connectTimeoutMs },
  });
  return {
    async ask({ method, url, headers, body, keptBytes, maxReadBytes }, signal) {
      if (objectionTo(url, rules)) throw new SendFailed("address_forbidden"); // literals are never looked up
      const began = performance.now();
      try {
        const { origin, pathname, search } = new URL(url);
        const sent = { origin, path: pathname + search, method, headers, body: body ?? null };
        const answer = await converse(agent, sent, { keptBytes, maxReadBytes }, signal);
        return { ...answer, milliseconds: Math.round(performance.now() - began) };
      } catch (error) {
        throw new SendFailed(signal.aborted ? "timeout" : reasonOf(error), { cause: error });
      }
    },
    close: () => agent.close(),
  };
}

/** Refuses a name altogether when one of its addresses is forbidden, and gives the socket nothing but what was vetted. */
function vettedLookup(resolve: (hostname: string) => Promise<Resolved[]>, rules: AddressRules): LookupFunction {
  return (hostname, options, done) => {
    const vet = async () => {
      const found = await resolve(hostname);
      if (found.length === 0) throw new NotResolved(hostname);
      if (!found.every(({ address }) => mayReach(address, rules))) throw new Forbidden(hostname);
      return found;
    };
    vet().then(
      (found) => (options.all ? done(null, found) : done(null, found[0]!.address, found[0]!.family)),
      (error: Error) => done(error instanceof Forbidden ? error : new NotResolved(hostname, { cause: error }), []),
    );
  };
}

/** Asks name servers directly: the system's own lookup has four threads, and a slow name server would hold them all. */
function fromDns(nameServers?: readonly string[]) {
  return async (hostname: string): Promise<Resolved[]> => {
    const resolver = new Resolver({ timeout: 2_000, tries: 2 });
    if (nameServers) resolver.setServers(nameServers);
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
    const addresses = (asked: typeof v4, family: number) =>
      asked.status === "fulfilled" ? asked.value.map((address) => ({ address, family })) : [];
    return [...addresses(v4, 4), ...addresses(v6, 6)];
  };
}

/** Knows the names of the machine itself too: for development. */
const fromSystem = (hostname: string): Promise<Resolved[]> => systemLookup(hostname, { all: true });

type Bounds = Pick<Asked, "keptBytes" | "maxReadBytes">;

/**
 * One request and its answer, of whose body the first bytes are kept as text. A longer one is cut off, and its connection
 * with it. Straight on the dispatcher: a stream for a body of a few bytes would cost as much as all the rest.
 */
function converse(
  agent: Agent,
  sent: Dispatcher.DispatchOptions,
  { keptBytes, maxReadBytes }: Bounds,
  signal: AbortSignal,
): Promise<Omit<Heard, "milliseconds">> {
  return new Promise((resolve, reject) => {
    let line: Dispatcher.DispatchController | undefined;
    let status = 0;
    let headers: Heard["headers"] = {};
    const kept: Buffer[] = [];
    let read = 0;
    const hangUp = () => {
      line?.abort(asError(signal.reason));
      reject(asError(signal.reason)); // also while it waits for a connection, when nobody has the line yet
    };
    const over = () => signal.removeEventListener("abort", hangUp);
    const answered = () => {
      over();
      const text = new TextDecoder().decode(Buffer.concat(kept).subarray(0, keptBytes));
      // Postgres keeps no NUL in text.
      resolve({ status, headers, body: text.replaceAll("\u0000", "\uFFFD"), truncated: read > keptBytes });
    };
    if (signal.aborted) return hangUp();
    signal.addEventListener("abort", hangUp, { once: true });
    agent.dispatch(sent, {
      onRequestStart(controller) {
        line = controller;
        if (signal.aborted) controller.abort(asError(signal.reason));
      },
      onResponseStart(_, statusCode, given) {
        status = statusCode; // the last word: a 1xx goes before it
        headers = given;
      },
      onResponseData(controller, chunk) {
        if (read < keptBytes) kept.push(chunk);
        read += chunk.length;
        if (read <= maxReadBytes) return;
        answered();
        controller.abort(new Error("Enough was read."));
      },
      onResponseEnd: answered,
      onResponseError(_, error) {
        over();
        reject(error); // after an answer it changes nothing
      },
    });
  });
}

const asError = (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason)));

function reasonOf(error: unknown): SendFailure {
  const causes = causesOf(error);
  if (causes.some((cause) => cause instanceof Forbidden)) return "address_forbidden";
  if (causes.some((cause) => cause instanceof NotResolved)) return "name_not_resolved";
  if (causes.some((cause) => cause instanceof errors.ConnectTimeoutError)) return "timeout";
  if (causes.some((cause) => cause instanceof errors.HTTPParserError)) return "answer_malformed";
  if (causes.some((cause) => cause instanceof errors.InvalidArgumentError)) return "request_malformed";
  return causes.some((cause) => tlsCodes.test(codeOf(cause))) ? "tls_failed" : "connection_failed";
}

const tlsCodes = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|UNABLE_TO|SELF_SIGNED|EPROTO)/;
const codeOf = (error: Error) => ("code" in error ? String(error.code) : "");

/** An error, what lies beneath it, and the parts of one that has several. */
function causesOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const parts: unknown[] = error instanceof AggregateError ? error.errors : [];
  return [error, ...causesOf(error.cause), ...parts.flatMap(causesOf)];
}
