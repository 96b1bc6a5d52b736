import { Resolver, lookup as systemLookup } from "node:dns/promises";
import type { LookupFunction } from "node:net";
import { performance } from "node:perf_hooks";
import { Agent, type Dispatcher, errors } from "undici";
import { type AddressRules, mayReach, objectionTo } from "../../../routers/ports/addresses.ts";
import { SendFailed, type SendFailure } from "../../../routers/ports/webhook-sender.ts";

export type Resolved = { address: string; family: number };

export type GuardOptions = AddressRules & {
  /** Resolves names to addresses. Every result is checked against the rules. */
  resolve?: (hostname: string) => Promise<Resolved[]>;
  /** Used instead of the machine's own, as `address:port`. */
  nameServers?: readonly string[];
  connectTimeoutMs?: number;
};

type GuardedRequest = {
  method: Dispatcher.HttpMethod;
  url: string;
  headers: Record<string, string>;
  body?: string;
  /** So much of the response body is returned. */
  keptBytes: number;
  /** Beyond this the connection is closed, and the response counts by its status. */
  maxReadBytes: number;
};

export type GuardedResponse = {
  status: number;
  headers: Dispatcher.ResponseData["headers"];
  body: string;
  truncated: boolean;
  milliseconds: number;
};

/** The only way to send a request to an address that a client chose. */
export type Guard = {
  /** Throws SendFailed. */
  request(request: GuardedRequest, signal: AbortSignal): Promise<GuardedResponse>;
  close(): Promise<void>;
};

/** A connection's address is checked when it opens. It is closed before the address is likely to have a new owner. */
const connectionLifeMs = 60_000;

type Target = { origin: string; path: string };
const maxTargets = 1_000;

const decoder = new TextDecoder();

/** A name resolved to an address that is not on the public internet. */
class Forbidden extends Error {}
class NotResolved extends Error {}

/**
 * Checks a literal address here, and a name when it is resolved; the socket connects to exactly the checked addresses.
 * One signal ends the request: idle timeouts would let a slow drip continue without end. It uses no proxy and follows no
 * redirect.
 */
export function openGuard({ resolve, nameServers, connectTimeoutMs = 5_000, ...rules }: GuardOptions): Guard {
  const byName = resolve ?? (rules.allowPrivate && !nameServers ? fromSystem : fromDns(nameServers));
  const targetOf = checkedTargets(rules);
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    clientTtl: connectionLifeMs,
    connect: { lookup: guardedLookup(byName, rules), timeout: connectTimeoutMs },
  });
  return {
    async request({ method, url, headers, body, keptBytes, maxReadBytes }, signal) {
      const target = targetOf(url); // literals are never looked up
      const startedAt = performance.now();
      try {
        const options = { ...target, method, headers, body: body ?? null };
        const response = await exchange(agent, options, { keptBytes, maxReadBytes }, signal);
        return { ...response, milliseconds: Math.round(performance.now() - startedAt) };
      } catch (error) {
        throw new SendFailed(signal.aborted ? "timeout" : reasonOf(error), { cause: error });
      }
    },
    close: () => agent.close(),
  };
}

/** Parses a URL and checks its literal address. The result depends on the URL and the rules only, so it is kept. */
function checkedTargets(rules: AddressRules): (url: string) => Target {
  const targets = new Map<string, Target>();
  return (url) => {
    const known = targets.get(url);
    if (known) return known;
    if (objectionTo(url, rules)) throw new SendFailed("address_forbidden");
    const { origin, pathname, search } = new URL(url);
    const target = { origin, path: pathname + search };
    if (targets.size >= maxTargets) targets.delete(targets.keys().next().value!);
    targets.set(url, target);
    return target;
  };
}

/** Refuses a name if any of its addresses is forbidden, and returns only checked addresses to the socket. */
function guardedLookup(resolve: (hostname: string) => Promise<Resolved[]>, rules: AddressRules): LookupFunction {
  return (hostname, options, done) => {
    const check = async () => {
      const found = await resolve(hostname);
      if (found.length === 0) throw new NotResolved(hostname);
      if (!found.every(({ address }) => mayReach(address, rules))) throw new Forbidden(hostname);
      return found;
    };
    check().then(
      (found) => (options.all ? done(null, found) : done(null, found[0]!.address, found[0]!.family)),
      (error: Error) => done(error instanceof Forbidden ? error : new NotResolved(hostname, { cause: error }), []),
    );
  };
}

/** Queries name servers directly: the system's own lookup has four threads, and a slow name server would block them all. */
function fromDns(nameServers?: readonly string[]) {
  return async (hostname: string): Promise<Resolved[]> => {
    const resolver = new Resolver({ timeout: 2_000, tries: 2 });
    if (nameServers) resolver.setServers(nameServers);
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
    const addresses = (result: typeof v4, family: number) =>
      result.status === "fulfilled" ? result.value.map((address) => ({ address, family })) : [];
    return [...addresses(v4, 4), ...addresses(v6, 6)];
  };
}

/** Also resolves the names of the machine itself: for development. */
const fromSystem = (hostname: string): Promise<Resolved[]> => systemLookup(hostname, { all: true });

type Limits = Pick<GuardedRequest, "keptBytes" | "maxReadBytes">;

/**
 * One request and its response, of whose body the first bytes are returned as text. A longer body is cut off, and its
 * connection closed. It uses the dispatcher directly: a stream for a body of a few bytes would cost as much as the rest.
 */
function exchange(
  agent: Agent,
  options: Dispatcher.DispatchOptions,
  { keptBytes, maxReadBytes }: Limits,
  signal: AbortSignal,
): Promise<Omit<GuardedResponse, "milliseconds">> {
  return new Promise((resolve, reject) => {
    let connection: Dispatcher.DispatchController | undefined;
    let status = 0;
    let headers: GuardedResponse["headers"] = {};
    const kept: Buffer[] = [];
    let readBytes = 0;
    const abort = () => {
      connection?.abort(asError(signal.reason));
      reject(asError(signal.reason)); // also before there is a connection
    };
    const removeListener = () => signal.removeEventListener("abort", abort);
    const complete = () => {
      removeListener();
      const text = decoder.decode(Buffer.concat(kept).subarray(0, keptBytes));
      // Postgres text has no NUL.
      resolve({ status, headers, body: text.replaceAll("\u0000", "\uFFFD"), truncated: readBytes > keptBytes });
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    agent.dispatch(options, {
      onRequestStart(controller) {
        connection = controller;
        if (signal.aborted) controller.abort(asError(signal.reason));
      },
      onResponseStart(_, statusCode, responseHeaders) {
        status = statusCode; // the last one: a 1xx comes before it
        headers = responseHeaders;
      },
      onResponseData(controller, chunk) {
        if (readBytes < keptBytes) kept.push(chunk);
        readBytes += chunk.length;
        if (readBytes <= maxReadBytes) return;
        complete();
        controller.abort(new Error("The response body is longer than the limit."));
      },
      onResponseEnd: complete,
      onResponseError(_, error) {
        removeListener();
        reject(error); // no effect after the response is complete
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
  if (causes.some((cause) => cause instanceof errors.HTTPParserError)) return "response_malformed";
  if (causes.some((cause) => cause instanceof errors.InvalidArgumentError)) return "request_malformed";
  return causes.some((cause) => tlsCodes.test(codeOf(cause))) ? "tls_failed" : "connection_failed";
}

const tlsCodes = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|UNABLE_TO|SELF_SIGNED|EPROTO)/;
const codeOf = (error: Error) => ("code" in error ? String(error.code) : "");

/** An error, its causes, and the parts of an aggregate error. */
function causesOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const parts: unknown[] = error instanceof AggregateError ? error.errors : [];
  return [error, ...causesOf(error.cause), ...parts.flatMap(causesOf)];
}
