import { type Dispatcher, request as dispatch } from "undici";
import { z } from "zod";
import { outsideTurn } from "../../../routers/core/turn.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import { before, sleepUnlessAborted } from "./abort.ts";
import type { Breaker } from "./breaker.ts";
import { connections } from "./connections.ts";
import { withoutSecrets } from "./error-text.ts";
import { type Answer, doubted, doubtful, doubtKind, failureOf, type Judged, notSent, type Outcome } from "./outcome.ts";
import { retryAfter } from "./retry-after.ts";

/** One attempt, for the log. `path` has no query, and no field is secret. */
export type Attempt = {
  provider: string;
  method: string;
  path: string;
  attempt: number;
  status: number | null;
  outcome: "answered" | ProviderError["kind"];
  milliseconds: number;
};

/** Settings that tests shorten. Durations in milliseconds. */
export type Pace = {
  attemptTimeoutMs?: number;
  backoffBaseMs?: number;
  longestPauseMs?: number;
  random?: () => number;
};

export type ProviderRequest<T> = Judged & {
  url: string;
  headers: Record<string, string>;
  body?: string | Buffer;
  /** Aborts at an absolute instant: connecting, retries and reading the response included. */
  deadline: AbortSignal;
  breaker: Breaker;
  /** Reads the body of a 2xx. It throws when the response is not as expected. */
  read: (bytes: Buffer) => T;
  /** Reads the target of a 3xx, which is never followed. Without it, a redirect is an unexpected response. */
  readLocation?: ((location: string) => T) | undefined;
  maxResponseBytes?: number;
  log?: ((attempt: Attempt) => void) | undefined;
  pace?: Pace | undefined;
};

const maxAttempts = 3;
const maxPauseMs = 20_000;
const attemptTimeoutMs = 8_000;
const maxBodyBytes = 10 * 1024 * 1024;
/** How much of an error's body is read: enough for its message. */
const maxErrorBytes = 64 * 1024;

/**
 * Sends a request to a provider under one policy for all: what may be repeated, for how long, how often, and what a
 * failure means. Throws only ProviderError.
 */
export const send = <T>(request: ProviderRequest<T>): Promise<T> => outsideTurn(() => sendUnderPolicy(request));

async function sendUnderPolicy<T>(request: ProviderRequest<T>): Promise<T> {
  let inDoubt = false;
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await tryOnce(request, attempt);
    if (outcome.is === "answer") return readAnswer(request, outcome);
    inDoubt ||= outcome.inDoubt;
    const pauseMs = pauseAfter(request, outcome.error, attempt);
    const mayRepeat = outcome.again && attempt < maxAttempts && pauseMs <= (request.pace?.longestPauseMs ?? maxPauseMs);
    if (mayRepeat && (await sleepUnlessAborted(pauseMs, request.deadline))) continue;
    throw inDoubt ? doubted(request, outcome.error) : outcome.error;
  }
}

async function tryOnce<T>(request: ProviderRequest<T>, attempt: number): Promise<Outcome> {
  if (request.deadline.aborted) return notSent(request, "there was no time left for the request", { again: false });
  const startedAt = performance.now();
  const outcome = await request.breaker.run(() => exchange(request));
  if (outcome === null) {
    const retryAfterSeconds = request.breaker.retryAfterSeconds();
    return notSent(request, "it failed several times in a row, and requests are paused", {
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

/** One HTTP request. Never throws: the breaker counts the result. */
async function exchange<T>(request: ProviderRequest<T>): Promise<Outcome> {
  const stop = new AbortController();
  const abort = () => stop.abort();
  request.deadline.addEventListener("abort", abort, { once: true });
  // A create gets all the time there is: an early timeout would only make its outcome unknown.
  const limitMs = request.pace?.attemptTimeoutMs ?? attemptTimeoutMs;
  const timer = request.repeat === "safe" ? setTimeout(abort, limitMs) : undefined;
  const sent = watchSent(stop.signal);
  try {
    const responding = dispatch(request.url, {
      dispatcher: connections().compose(sent.interceptor),
      method: request.method,
      headers: request.headers,
      body: request.body ?? null,
      signal: stop.signal,
    });
    // undici obeys the signal only once it is connected. Until then we stop waiting ourselves, and it sends nothing later.
    return await readResponse(request, await before(stop.signal, responding));
  } catch (cause) {
    if (!sent.wasSent()) return notSent(request, "it cannot be reached", { again: true, cause });
    if (cause instanceof TooLarge) return doubtful(request, "its answer is too large", { again: false, cause });
    const why = stop.signal.aborted ? "it did not answer in time" : "the connection was lost";
    return doubtful(request, why, { again: request.repeat === "safe", cause });
  } finally {
    clearTimeout(timer);
    request.deadline.removeEventListener("abort", abort);
  }
}

/** undici starts a request when it writes it to a connected socket: before that, nothing can have happened. */
function watchSent(signal: AbortSignal) {
  let wasSent = false;
  const interceptor: Dispatcher.DispatcherComposeInterceptor = (next) => (options, handler) => {
    const start = handler.onRequestStart?.bind(handler);
    handler.onRequestStart = (controller, context) => {
      wasSent = !signal.aborted;
      start?.(controller, context);
    };
    return next(options, handler);
  };
  return { interceptor, wasSent: () => wasSent };
}

async function readResponse<T>(
  request: ProviderRequest<T>,
  { statusCode: status, headers, body }: Dispatcher.ResponseData,
): Promise<Outcome> {
  if (status >= 200 && status < 300) {
    return { is: "answer", status, bytes: await collect(body, request.maxResponseBytes ?? maxBodyBytes) };
  }
  const bytes = await collect(body, maxErrorBytes).catch(() => Buffer.alloc(0));
  const { location } = headers;
  if (request.readLocation && status >= 300 && status < 400 && typeof location === "string")
    return { is: "answer", status, bytes, location };
  return failureOf(request, status, bytes, retryAfter(headers["retry-after"], Date.now()));
}

function readAnswer<T>(request: ProviderRequest<T>, { status, bytes, location }: Answer): T {
  try {
    if (location !== undefined && request.readLocation) return request.readLocation(location);
    return request.read(bytes);
  } catch (error) {
    // JSON.parse quotes the text that it cannot read, so its error is not kept as a cause: causes are logged.
    const cause = error instanceof z.ZodError ? error : undefined;
    const issue = cause?.issues[0];
    const what = issue
      ? withoutSecrets(`${issue.path.join(".") || "its body"}: ${issue.message}`, request.secrets)
      : "it is not JSON";
    const message = `Unexpected response from ${request.provider}: ${what}`;
    throw new ProviderError(doubtKind(request), message, { status, cause });
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

/** Exponential with full jitter. The jitter is added to a Retry-After, so that clients do not all return together. */
function pauseAfter<T>(request: ProviderRequest<T>, error: ProviderError, attempt: number): number {
  const base = request.pace?.backoffBaseMs ?? 250;
  const jitter = (request.pace?.random ?? Math.random)() * base * 2 ** (attempt - 1);
  return (error.retryAfterSeconds ?? 0) * 1000 + jitter;
}
