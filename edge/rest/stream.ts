import { once } from "node:events";
import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Chunks } from "../../routers/core/reply.ts";
import { CallerGone } from "./body.ts";

/** A stream without progress for this time is closed, whether the reader or the source is slow. */
const idleMs = 60_000;

type Stream = {
  chunks: Chunks;
  contentType: string;
  headers: OutgoingHttpHeaders;
  idleMs?: number;
  signal: AbortSignal;
};

/**
 * Sends a stream. It waits for the first chunk before the headers, so that an early failure has its status and envelope. A
 * later failure resets the connection: a reader must not take the part they have for the whole.
 */
export async function sendChunks(res: ServerResponse, stream: Stream): Promise<void> {
  const iterator = stream.chunks.chunks[Symbol.asyncIterator]();
  try {
    const first = await iterator.next();
    res.setTimeout(stream.idleMs ?? idleMs, () => res.socket?.resetAndDestroy());
    res.writeHead(200, headersOf(stream));
    if (res.req.method !== "HEAD") {
      for (let chunk = first; !chunk.done; chunk = await iterator.next()) {
        if (!res.write(chunk.value)) await once(res, "drain", { signal: stream.signal });
      }
    }
    res.end();
  } catch (error) {
    if (stream.signal.aborted && res.destroyed) throw new CallerGone();
    // Not a normal end: for an HTTP/1.0 reader, such as many proxies, that would be the end of the file.
    if (res.headersSent) res.socket?.resetAndDestroy();
    throw error;
  } finally {
    await iterator.return?.();
  }
}

const charsets: Record<string, string> = { "text/csv": "text/csv; charset=utf-8" };

function headersOf({ chunks: { fileName }, contentType, headers }: Stream): OutgoingHttpHeaders {
  const type = { ...headers, "Content-Type": charsets[contentType] ?? contentType };
  return fileName === undefined
    ? type
    : { ...type, "Content-Disposition": `attachment; filename="${plain(fileName)}"` };
}

/** Our own names are plain ASCII; any other name cannot break out of its quotes or its line. */
const plain = (fileName: string) => fileName.replace(/[^\x20-\x7e]|["\\%]/g, "_");
