import type { Dispatcher } from "undici";
import { request as dispatch } from "undici";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import { before } from "./abort.ts";
import type { Attempt } from "./client.ts";
import { connections } from "./connections.ts";
import { retryAfter } from "./retry-after.ts";

/** A file that is streamed; `bytes` is null when its length is not announced. */
export type Download = { chunks: AsyncIterable<Buffer>; bytes: number | null; contentType: string };

export type DownloadRequest = {
  /** The provider's name, for messages. */
  provider: string;
  url: string;
  /** Sent only to the provider, not to the target of its redirect. */
  headers: Record<string, string>;
  /** Aborts at an absolute instant: reading to the end included. */
  deadline: AbortSignal;
  log?: ((attempt: Attempt) => void) | undefined;
};

/** Between two bytes: a dead connection is closed before the deadline. */
const idleMs = 30_000;

/**
 * Opens a file of a provider, which may redirect once to its storage. Throws ProviderError: `refused` with the status when
 * the provider itself refuses, otherwise `unavailable`, because a read changes nothing. A later failure makes `chunks`
 * throw; they never end early as if the file were complete.
 */
export async function download(request: DownloadRequest): Promise<Download> {
  const first = await open(request, request.url, request.headers);
  if (first.statusCode === 200) return fileOf(request, first);
  const { statusCode: status, headers } = first;
  await discard(first);
  if (status === 301 || status === 302 || status === 303 || status === 307 || status === 308) {
    const stored = await open(request, linkIn(request, headers.location), {});
    if (stored.statusCode === 200) return fileOf(request, stored);
    await discard(stored);
    throw unavailable(request, `its storage answered with status ${stored.statusCode}`, { status: stored.statusCode });
  }
  const retryAfterSeconds = retryAfter(headers["retry-after"], Date.now());
  const extra = { status, retryAfterSeconds };
  const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
  if (!isRefusal) throw unavailable(request, `it answered with status ${status}`, extra);
  throw new ProviderError("refused", `${request.provider} refused: status ${status}`, extra);
}

async function open(request: DownloadRequest, url: string, headers: Record<string, string>) {
  const startedAt = performance.now();
  const logAttempt = (status: number | null, outcome: Attempt["outcome"]) =>
    request.log?.({
      ...{ provider: request.provider, method: "GET", path: new URL(url).pathname, attempt: 1 },
      ...{ status, outcome, milliseconds: Math.round(performance.now() - startedAt) },
    });
  try {
    const options = { headers, signal: request.deadline, headersTimeout: idleMs, bodyTimeout: idleMs };
    const responding = dispatch(url, { method: "GET", dispatcher: connections(), ...options });
    const response = await before(request.deadline, responding);
    logAttempt(response.statusCode, "answered");
    return response;
  } catch (cause) {
    logAttempt(null, "unavailable");
    const why = request.deadline.aborted ? "it did not answer in time" : "the connection failed";
    throw unavailable(request, why, { cause });
  }
}

/** Plain HTTP only to the provider's own origin, for development. */
function linkIn(request: DownloadRequest, location: string | string[] | undefined): string {
  const text = typeof location === "string" ? location : "";
  const link = URL.canParse(text, request.url) ? new URL(text, request.url) : null;
  if (link && (link.protocol === "https:" || link.origin === new URL(request.url).origin)) return link.href;
  throw unavailable(request, "its redirect cannot be followed", {});
}

function fileOf(request: DownloadRequest, { headers, body }: Dispatcher.ResponseData): Download {
  const length = Number(headers["content-length"]);
  const type = headers["content-type"];
  return {
    chunks: chunksOf(request, body),
    bytes: Number.isSafeInteger(length) && headers["content-length"] !== undefined ? length : null,
    contentType:
      (typeof type === "string" ? type.split(";")[0]!.trim().toLowerCase() : "") || "application/octet-stream",
  };
}

async function* chunksOf(request: DownloadRequest, body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* body;
  } catch (cause) {
    const why = request.deadline.aborted
      ? "the file did not arrive in time"
      : "the connection was lost during the file";
    throw unavailable(request, why, { cause });
  }
}

/** An unread body holds its connection. */
async function discard({ body }: Dispatcher.ResponseData) {
  await body.dump({ limit: 64 * 1024 }).catch(() => {});
}

function unavailable(
  { provider }: DownloadRequest,
  why: string,
  extra: { status?: number; retryAfterSeconds?: number | undefined; cause?: unknown },
): ProviderError {
  return new ProviderError("unavailable", `No file from ${provider}: ${why}`, extra);
}
