import { Resolver, lookup as systemLookup } from "node:dns/promises";
import type { LookupFunction } from "node:net";
import { performance } from "node:perf_hooks";
import { Agent, type Dispatcher, errors, request } from "undici";
import { SendFailed, type SendFailure, type WebhookAnswer, type WebhookSender } from "../../routers/webhooks/sender.ts";
import { type AddressRules, isPublicAddress, objectionTo } from "../../routers/webhooks/url.ts";

type Resolved = { address: string; family: number };

export type WebhookSenderOptions = AddressRules & {
  /** How names become addresses. Every address is vetted, whoever found it. */
  resolve?: (hostname: string) => Promise<Resolved[]>;
  connectTimeoutMs?: number;
};

/** Beyond this nothing is read: the line is cut, and the answer counts by its status. */
const maxReadBytes = 16 * 1024;
const keptBytes = 1024;
/** A connection is looked up and vetted when it is made; none lives so long that its address is somebody else's by now. */
const connectionLifeMs = 60_000;

/** A name led to an address that is not on the open internet. */
class Forbidden extends Error {}
class NotResolved extends Error {}

/**
 * Posts webhooks. The addresses are chosen by strangers: a literal address is vetted here, a name when it is resolved,
 * and the socket goes to the very addresses that were vetted. One signal ends it all; idle timers would let a slow drip
 * go on for ever. It knows no proxy and follows no redirect.
 */
export function webhookSender({
  allowPrivate,
  resolve,
  connectTimeoutMs = 5_000,
}: WebhookSenderOptions): WebhookSender {
  const vetted = vettedLookup(resolve ?? (allowPrivate ? fromSystem : fromDns), allowPrivate);
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    clientTtl: connectionLifeMs,
    connect: { lookup: vetted, timeout: connectTimeoutMs },
  });
  return {
    async send({ url, headers, body }, { signal }) {
      if (objectionTo(url, { allowPrivate })) throw new SendFailed("address_forbidden"); // literals are never looked up
      const began = performance.now();
      try {
        const answer = await request(url, { dispatcher: agent, method: "POST", headers, body, signal });
        const response = await readSome(answer.body);
        const latencyMs = Math.round(performance.now() - began);
        return {
          status: answer.statusCode,
          latencyMs,
          response,
          retryAfterSeconds: retryAfter(answer.headers["retry-after"]),
        };
      } catch (error) {
        throw new SendFailed(signal.aborted ? "timeout" : reasonOf(error), { cause: error });
      }
    },
    close: () => agent.close(),
  };
}

/** Refuses a name altogether when one of its addresses is forbidden, and gives the socket nothing but what was vetted. */
function vettedLookup(resolve: (hostname: string) => Promise<Resolved[]>, allowPrivate: boolean): LookupFunction {
  return (hostname, options, done) => {
    const vet = async () => {
      const found = await resolve(hostname);
      if (found.length === 0) throw new NotResolved(hostname);
      if (!allowPrivate && !found.every(({ address }) => isPublicAddress(address))) throw new Forbidden(hostname);
      return found;
    };
    vet().then(
      (found) => (options.all ? done(null, found) : done(null, found[0]!.address, found[0]!.family)),
      (error: Error) => done(error instanceof Forbidden ? error : new NotResolved(hostname, { cause: error }), []),
    );
  };
}

/** Asks name servers directly: the system's own lookup has four threads, and a slow name server would hold them all. */
async function fromDns(hostname: string): Promise<Resolved[]> {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  const addresses = (asked: typeof v4, family: number) =>
    asked.status === "fulfilled" ? asked.value.map((address) => ({ address, family })) : [];
  return [...addresses(v4, 4), ...addresses(v6, 6)];
}

/** Knows the names of the machine itself too: for development. */
const fromSystem = (hostname: string): Promise<Resolved[]> => systemLookup(hostname, { all: true });

/** The first bytes of the answer as text. A longer one is cut off, and its connection with it. */
async function readSome(body: Dispatcher.ResponseData["body"]): Promise<string> {
  const kept: Buffer[] = [];
  let read = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (read < keptBytes) kept.push(chunk);
    read += chunk.length;
    if (read > maxReadBytes) break; // leaving the loop destroys the stream
  }
  const text = new TextDecoder().decode(Buffer.concat(kept).subarray(0, keptBytes));
  return text.replaceAll("\u0000", "\uFFFD"); // Postgres keeps no NUL in text
}

function retryAfter(header: string | string[] | undefined): WebhookAnswer["retryAfterSeconds"] {
  const text = (Array.isArray(header) ? header[0] : header)?.trim();
  if (!text) return null;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

function reasonOf(error: unknown): SendFailure {
  const causes = causesOf(error);
  if (causes.some((cause) => cause instanceof Forbidden)) return "address_forbidden";
  if (causes.some((cause) => cause instanceof NotResolved)) return "name_not_resolved";
  if (causes.some((cause) => cause instanceof errors.ConnectTimeoutError)) return "timeout";
  if (causes.some((cause) => cause instanceof errors.HTTPParserError)) return "answer_malformed";
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
