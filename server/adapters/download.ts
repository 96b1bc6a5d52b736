import type { Dispatcher } from "undici";
import { request as dispatch } from "undici";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { type Attempt, before, connections, retryAfter } from "./http.ts";

/** A file as it comes in; `bytes` is null where nobody says how much it will be. */
export type Download = { chunks: AsyncIterable<Buffer>; bytes: number | null; contentType: string };

export type DownloadRequest = {
  /** The company's name, for sentences that people read. */
  provider: string;
  url: string;
  /** Sent to the provider alone, not to where it sends us on. */
  headers: Record<string, string>;
  /** The absolute instant after which nobody waits any more: reading to the end included. */
  deadline: AbortSignal;
  log?: ((attempt: Attempt) => void) | undefined;
};

/** Between one byte and the next: a line that has gone dead is not waited for until the deadline. */
const idleMs = 30_000;

/**
 * Opens a file of a provider, which may send us on to its storage, once. Throws ProviderError: `refused` with the
 * status for what the provider itself says no to, else `unavailable`, since nothing happens by reading. What breaks
 * later breaks in `chunks`, which then throw; they never end early as if that were all.
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
  const extra = { status, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
  const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
  if (!isRefusal) throw unavailable(request, `it answered with status ${status}`, extra);
  throw new ProviderError("refused", `${request.provider} refused: status ${status}`, extra);
}

async function open(request: DownloadRequest, url: string, headers: Record<string, string>) {
  const startedAt = performance.now();
  const note = (status: number | null, outcome: Attempt["outcome"]) =>
    request.log?.({
      ...{ provider: request.provider, method: "GET", path: new URL(url).pathname, attempt: 1 },
      ...{ status, outcome, milliseconds: Math.round(performance.now() - startedAt) },
    });
  try {
    const options = { headers, signal: request.deadline, headersTimeout: idleMs, bodyTimeout: idleMs };
    const answering = dispatch(url, { method: "GET", dispatcher: connections(), ...options });
    const answer = await before(request.deadline, answering);
    note(answer.statusCode, "answered");
    return answer;
  } catch (cause) {
    note(null, "unavailable");
    const why = request.deadline.aborted ? "it did not answer in time" : "the connection failed";
    throw unavailable(request, why, { cause });
  }
}

/** In plain text only where the provider itself is spoken to so: on a laptop. */
function linkIn(request: DownloadRequest, location: string | string[] | undefined): string {
  const text = typeof location === "string" ? location : "";
  const link = URL.canParse(text, request.url) ? new URL(text, request.url) : null;
  if (link && (link.protocol === "https:" || link.origin === new URL(request.url).origin)) return link.href;
  throw unavailable(request, "it sent us on to an address that cannot be used", {});
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
    const why = request.deadline.aborted ? "the file did not come in time" : "the connection was lost in mid-file";
    throw unavailable(request, why, { cause });
  }
}

/** What nobody reads holds its connection. */
async function discard({ body }: Dispatcher.ResponseData) {
  await body.dump({ limit: 64 * 1024 }).catch(() => {});
}

function unavailable(
  { provider }: DownloadRequest,
  why: string,
  extra: { status?: number; retryAfterSeconds?: number; cause?: unknown },
): ProviderError {
  return new ProviderError("unavailable", `No file from ${provider}: ${why}`, extra);
}
