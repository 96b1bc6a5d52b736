import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhenResult, isBrokenCircuitError } from "cockatiel";
import { Agent, type Dispatcher, request as dispatch } from "undici";
import { z } from "zod";
import { maskSecrets, secretForms } from "../../../routers/core/mask-secrets.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";

/** What one attempt came to. `path` has no query, and nothing here is secret: it may be logged as it is. */
export type Attempt = {
  provider: string;
  method: string;
  path: string;
  attempt: number;
  status: number | null;
  outcome: "answered" | ProviderError["kind"];
  milliseconds: number;
};

/** What tests shorten. Durations in milliseconds. */
export type Pace = {
  attemptTimeoutMs?: number;
  backoffBaseMs?: number;
  longestPauseMs?: number;
  random?: () => number;
};

export type ProviderRequest<T> = {
  /** The company's name, for sentences that people read. */
  provider: string;
  method: Dispatcher.HttpMethod;
  url: string;
  headers: Record<string, string>;
  body?: string | Buffer;
  /** The absolute instant after which nobody waits any more: connecting, repeats and reading the answer included. */
  deadline: AbortSignal;
  /** `create`: doing it twice does harm, so it is repeated only when nothing can have happened. */
  repeat: "safe" | "create";
  breaker: Breaker;
  /** Reads the body of a 2xx. What it throws means that we do not understand the answer. */
  read: (bytes: Buffer) => T;
  /** Of a 3xx: where it points. Nobody goes there by himself; without this it is an answer that we do not understand. */
  readLocation?: ((location: string) => T) | undefined;
  /** Values that may not appear in an error's message, even if the provider echoes them. */
  secrets?: string[];
  maxResponseBytes?: number;
  log?: ((attempt: Attempt) => void) | undefined;
  pace?: Pace | undefined;
};

type Outcome =
  | { is: "answer"; status: number; bytes: Buffer; location?: string }
  | { is: "failure"; error: ProviderError; again: boolean; inDoubt: boolean; isDown: boolean };

/** Stops asking a provider that keeps failing. One per account: the trouble of one is not the trouble of another. */
export type Breaker = {
  /** Does the work, or returns null when it did not start. */
  run(work: () => Promise<Outcome>): Promise<Outcome | null>;
  retryAfterSeconds(): number;
};

const tries = 3;
const megabyte = 1024 * 1024;

/** How much of an error's body is read: enough for its sentence. */
const maxErrorBytes = 64 * 1024;

let agent: Agent | undefined;

/**
 * An agent of our own: it knows no proxy from the environment and follows no redirect, so a key goes only where it is
 * sent. HTTP/1.1, because one broken HTTP/2 connection would leave every call on it in doubt. No timeouts of its own
 * except for connecting: the others restart with each byte, and a slow drip outlives them.
 */
export function connections(): Agent {
  agent ??= new Agent({ allowH2: false, connect: { timeout: 5_000 }, headersTimeout: 0, bodyTimeout: 0 });
  return agent;
}

export async function closeConnections(): Promise<void> {
  const open = agent;
  agent = undefined;
  await open?.close();
}

export function openBreaker(options: { failures?: number; halfOpenAfterMs?: number } = {}): Breaker {
  const halfOpenAfter = options.halfOpenAfterMs ?? 10_000;
  let halfOpenAt = 0; // monotonic
  const closed = () => {
    const breaker = new ConsecutiveBreaker(options.failures ?? 10);
    const made = circuitBreaker(handleWhenResult(isDown), { halfOpenAfter, breaker });
    made.onBreak(() => {
      halfOpenAt = performance.now() + halfOpenAfter;
    });
    return made;
  };
  let policy = closed();
  return {
    async run(work) {
      // While one request probes, cockatiel would hold the others back, past their deadlines and into a late send.
      if (policy.state === CircuitState.HalfOpen) return null;
      try {
        return await policy.execute(work);
      } catch (error) {
        if (!isBrokenCircuitError(error)) throw error;
        // cockatiel reads the wall clock: where that was set back, it would stay open for as long as that.
        if (performance.now() > halfOpenAt + 1_000) policy = closed();
        return null;
      }
    },
    retryAfterSeconds: () => Math.max(1, Math.ceil((halfOpenAt - performance.now()) / 1000)),
  };
}

/** A refusal, and being told to slow down, are signs of life. */
function isDown(outcome: unknown): boolean {
  return typeof outcome === "object" && outcome !== null && "isDown" in outcome && outcome.isDown === true;
}

/**
 * Speaks to a provider under the one policy of the house: what may be repeated, how long, how often, and what a failure
 * means. Throws only ProviderError.
 */
export async function send<T>(request: ProviderRequest<T>): Promise<T> {
  let inDoubt = false;
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await tryOnce(request, attempt);
    if (outcome.is === "answer") return understand(request, outcome);
    inDoubt ||= outcome.inDoubt;
    const pause = pauseMs(request, outcome.error, attempt);
    const mayRepeat = outcome.again && attempt < tries && pause <= (request.pace?.longestPauseMs ?? 20_000);
    if (mayRepeat && (await sleep(pause, request.deadline))) continue;
    throw inDoubt ? doubted(request, outcome.error) : outcome.error;
  }
}

/** A repeat that surely did nothing does not settle what an earlier attempt may have done. A refusal does. */
function doubted<T>(request: ProviderRequest<T>, error: ProviderError): ProviderError {
  const kind = doubtKind(request);
  if (error.kind !== "unavailable" || kind === "unavailable") return error;
  const { status, retryAfterSeconds, cause } = error;
  return new ProviderError(kind, error.message, { ...defined({ status, retryAfterSeconds }), cause });
}

async function tryOnce<T>(request: ProviderRequest<T>, attempt: number): Promise<Outcome> {
  if (request.deadline.aborted) return notSent(request, "there was no time left to ask it", { again: false });
  const startedAt = performance.now();
  const outcome = await request.breaker.run(() => exchange(request));
  if (outcome === null) {
    const retryAfterSeconds = request.breaker.retryAfterSeconds();
    return notSent(request, "it failed several times in a row, so we leave it alone", {
      again: false,
      retryAfterSeconds,
    });
  }
  request.log?.({
    provider: request.provider,
    method: request.method,
    path: new URL(request.url).pathname,
    attempt,
    status: (outcome.is === "answer" ? outcome.status : outcome.error.status) ?? null,
    outcome: outcome.is === "answer" ? "answered" : outcome.error.kind,
    milliseconds: Math.round(performance.now() - startedAt),
  });
  return outcome;
}

/** One request on the wire. Never throws: the breaker counts what comes back. */
async function exchange<T>(request: ProviderRequest<T>): Promise<Outcome> {
  const stop = new AbortController();
  const giveUp = () => stop.abort();
  request.deadline.addEventListener("abort", giveUp, { once: true });
  // A create gets all the time there is: giving up early would only trade an answer for a doubt.
  const limit = request.repeat === "safe" ? setTimeout(giveUp, request.pace?.attemptTimeoutMs ?? 8_000) : undefined;

  let wasSent = false;
  const noteSent: Dispatcher.DispatcherComposeInterceptor = (next) => (options, handler) => {
    // undici starts a request at the moment it writes it to a connected socket; before that nothing can have happened.
    const start = handler.onRequestStart?.bind(handler);
    handler.onRequestStart = (controller, context) => {
      wasSent = !stop.signal.aborted;
      start?.(controller, context);
    };
    return next(options, handler);
  };

  try {
    const answering = dispatch(request.url, {
      dispatcher: connections().compose(noteSent),
      method: request.method,
      headers: request.headers,
      body: request.body ?? null,
      signal: stop.signal,
    });
    // undici hears the signal only once it is connected; until then we stop waiting by ourselves, and it sends
    // nothing later.
    const answer = await before(stop.signal, answering);
    const status = answer.statusCode;
    if (status >= 200 && status < 300) {
      return { is: "answer", status, bytes: await collect(answer.body, request.maxResponseBytes ?? 10 * megabyte) };
    }
    const bytes = await collect(answer.body, maxErrorBytes).catch(() => Buffer.alloc(0));
    const { location } = answer.headers;
    if (request.readLocation && status >= 300 && status < 400 && typeof location === "string")
      return { is: "answer", status, bytes, location };
    return judge(request, status, bytes, retryAfter(answer.headers["retry-after"], Date.now()));
  } catch (cause) {
    if (!wasSent) return notSent(request, "it cannot be reached", { again: true, cause });
    if (cause instanceof TooLarge) return doubtful(request, "its answer is too large", { again: false, cause });
    const why = stop.signal.aborted ? "it did not answer in time" : "the connection was lost";
    return doubtful(request, why, { again: request.repeat === "safe", cause });
  } finally {
    clearTimeout(limit);
    request.deadline.removeEventListener("abort", giveUp);
  }
}

function judge<T>(
  request: ProviderRequest<T>,
  status: number,
  bytes: Buffer,
  retryAfterSeconds: number | undefined,
): Outcome {
  const reason = clean(explain(bytes), request);
  const extra = defined({ status, retryAfterSeconds });
  if (status === 429) {
    const message = `${request.provider} asks us to slow down${reason && `: ${reason}`}`;
    const error = new ProviderError("unavailable", message, extra);
    return { is: "failure", error, again: true, inDoubt: false, isDown: false };
  }
  // Whoever answered may have come after the work was done (a proxy, a full response queue): 503 proves nothing either.
  if (status === 503) {
    const message = `${request.provider} is not available: it is overloaded`;
    const error = new ProviderError(doubtKind(request), message, extra);
    return { is: "failure", error, again: request.repeat === "safe", inDoubt: true, isDown: true };
  }
  // 408 comes from something in between that lost patience: like a timeout it proves nothing.
  if (status >= 400 && status < 500 && status !== 408) {
    const error = new ProviderError("refused", `${request.provider} refused: ${reason || `status ${status}`}`, {
      status,
    });
    return { is: "failure", error, again: false, inDoubt: false, isDown: false };
  }
  const again = request.repeat === "safe" && [408, 500, 502, 504].includes(status);
  return doubtful(request, `it answered with status ${status}`, { again, status });
}

type Circumstances = { again: boolean; status?: number; retryAfterSeconds?: number; cause?: unknown };

/** Nothing happened. */
function notSent<T>(request: ProviderRequest<T>, why: string, { again, ...extra }: Circumstances): Outcome {
  const error = new ProviderError("unavailable", `${request.provider} is not available: ${why}`, extra);
  return { is: "failure", error, again, inDoubt: false, isDown: true };
}

/** It may have happened. */
function doubtful<T>(request: ProviderRequest<T>, why: string, { again, ...extra }: Circumstances): Outcome {
  const error = new ProviderError(doubtKind(request), `No clear answer from ${request.provider}: ${why}`, extra);
  return { is: "failure", error, again, inDoubt: true, isDown: true };
}

/** A read that failed changed nothing; anything else may have. */
function doubtKind<T>(request: ProviderRequest<T>): "unavailable" | "unknown" {
  return request.method === "GET" && request.repeat === "safe" ? "unavailable" : "unknown";
}

function understand<T>(request: ProviderRequest<T>, answer: { status: number; bytes: Buffer; location?: string }): T {
  try {
    if (answer.location !== undefined && request.readLocation) return request.readLocation(answer.location);
    return request.read(answer.bytes);
  } catch (cause) {
    // JSON.parse quotes the text that it cannot read, so its error is no cause to keep: causes are logged.
    const unread = cause instanceof z.ZodError ? cause : undefined;
    const issue = unread?.issues[0];
    const what = issue ? clean(`${issue.path.join(".") || "its answer"}: ${issue.message}`, request) : "it is not JSON";
    const message = `${request.provider} gave an answer that we do not understand: ${what}`;
    throw new ProviderError(doubtKind(request), message, { status: answer.status, cause: unread });
  }
}

class TooLarge extends Error {}

async function collect(body: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) throw new TooLarge(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Seconds or an HTTP date (RFC 9110, 10.2.3); in whole seconds from now, at most a day. */
export function retryAfter(header: string | string[] | undefined, now: number): number | undefined {
  const text = (Array.isArray(header) ? header[0] : header)?.trim();
  if (!text) return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.ceil(Math.min(Math.max(seconds, 0), 86_400));
}

/** Exponential with full jitter; after a Retry-After the jitter comes on top, so that not everybody returns at once. */
function pauseMs<T>(request: ProviderRequest<T>, error: ProviderError, attempt: number): number {
  const base = request.pace?.backoffBaseMs ?? 250;
  const jitter = (request.pace?.random ?? Math.random)() * base * 2 ** (attempt - 1);
  return (error.retryAfterSeconds ?? 0) * 1000 + jitter;
}

/** Stops waiting when the deadline comes; the work itself goes on unheard. */
export async function before<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(signal.reason);
  if (signal.aborted) giveUp();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([work, late]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** False when the deadline came first. */
function sleep(ms: number, deadline: AbortSignal): Promise<boolean> {
  if (deadline.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const finish = (slept: boolean) => {
      clearTimeout(timer);
      deadline.removeEventListener("abort", interrupt);
      resolve(slept);
    };
    const interrupt = () => finish(false);
    const timer = setTimeout(() => finish(true), ms);
    deadline.addEventListener("abort", interrupt, { once: true });
  });
}

/** The sentence in an error's body: `detail`, or the first field with its complaint, or short plain text. */
function explain(bytes: Buffer): string {
  const text = bytes.toString("utf8").trim();
  try {
    return complaint(JSON.parse(text), []);
  } catch {
    return text.startsWith("<") ? "" : text;
  }
}

function complaint(value: unknown, path: string[]): string {
  if (typeof value === "string") return [...path, value].join(": ");
  if (typeof value !== "object" || value === null) return "";
  if (Array.isArray(value)) return value.map((item) => complaint(item, path)).find(Boolean) ?? "";
  for (const [key, inner] of Object.entries(value)) {
    const isHeading = ["detail", "error", "message", "non_field_errors"].includes(key);
    const found = complaint(inner, isHeading ? path : [...path, key]);
    if (found) return found;
  }
  return "";
}

function clean<T>(text: string, request: ProviderRequest<T>): string {
  const forms = new Set((request.secrets ?? []).filter(Boolean).flatMap(secretForms));
  const longestFirst = [...forms].toSorted((a, b) => b.length - a.length);
  const line = maskSecrets(text, longestFirst).replace(/\s+/g, " ");
  return line.length > 300 ? `${line.slice(0, 299)}…` : line;
}

function defined(values: { status?: number | undefined; retryAfterSeconds?: number | undefined }) {
  return {
    ...(values.status === undefined ? {} : { status: values.status }),
    ...(values.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: values.retryAfterSeconds }),
  };
}
