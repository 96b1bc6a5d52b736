import { once } from "node:events";
import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Chunks } from "../../routers/core/reply.ts";
import { CallerGone } from "./body.ts";

/** A line on which nothing moves for so long is cut, whichever side stands still. */
const idleMs = 60_000;

type Stream = {
  chunks: Chunks;
  contentType: string;
  headers: OutgoingHttpHeaders;
  idleMs?: number;
  signal: AbortSignal;
};

/**
 * The answer of a streaming door. The first piece is waited for before anything goes out, so that a failure until then has
 * its status and its envelope. One that comes later resets the line: a reader must not take what he has for the whole.
 */
export async function sendChunks(res: ServerResponse, stream: Stream): Promise<void> {
  const pieces = stream.chunks.chunks[Symbol.asyncIterator]();
  try {
    const first = await pieces.next();
    res.setTimeout(stream.idleMs ?? idleMs, () => res.socket?.resetAndDestroy());
    res.writeHead(200, headersOf(stream));
    if (res.req.method !== "HEAD") {
      for (let piece = first; !piece.done; piece = await pieces.next()) {
        if (!res.write(piece.value)) await once(res, "drain", { signal: stream.signal });
      }
    }
    res.end();
  } catch (error) {
    if (stream.signal.aborted && res.destroyed) throw new CallerGone();
    // Not a plain end: to a reader of HTTP/1.0, such as many a proxy, that would be the end of the file.
    if (res.headersSent) res.socket?.resetAndDestroy();
    throw error;
  } finally {
    await pieces.return?.();
  }
}

const charsets: Record<string, string> = { "text/csv": "text/csv; charset=utf-8" };

function headersOf({ chunks: { fileName }, contentType, headers }: Stream): OutgoingHttpHeaders {
  const type = { ...headers, "Content-Type": charsets[contentType] ?? contentType };
  return fileName === undefined
    ? type
    : { ...type, "Content-Disposition": `attachment; filename="${plain(fileName)}"` };
}

/** Names that we make ourselves are plain already; whatever else comes cannot break out of its quotes or its line. */
const plain = (fileName: string) => fileName.replace(/[^\x20-\x7e]|["\\%]/g, "_");
