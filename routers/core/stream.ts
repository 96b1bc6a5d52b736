import type { Chunks, Streamed } from "./reply.ts";

/** Cuts a subscription instead of ending it: the reader reconnects by itself and resumes where it was. */
export class Cut extends Error {
  override name = "AbortError"; // tRPC sends no error for this name
}

/** The maximum duration of a stream. */
export const streamSeconds = 30 * 60;

/**
 * Yields the chunks until the signal aborts: then it stops the source and fails, so that the truncated stream does not look
 * complete. `asFailure` maps an error of the source for the reader. `ended` is called once, when reading ends for any reason.
 */
export async function* bounded(
  { chunks }: Chunks,
  signal: AbortSignal,
  asFailure: (error: unknown) => unknown,
  ended: () => void = () => {},
): AsyncGenerator<string | Buffer, void, void> {
  const source = chunks[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await unlessAborted(source.next(), signal);
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw asFailure(error);
  } finally {
    ended();
    source.return?.()?.catch(() => {}); // not awaited, because a source that hangs never settles
  }
}

async function unlessAborted<T>(next: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([next, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** For /trpc, which sends JSON: each chunk in base64, because a chunk of a file is not always valid text. */
export async function* inBase64(chunks: AsyncIterable<string | Buffer>): Streamed["chunks"] & AsyncGenerator<string> {
  for await (const chunk of chunks) yield Buffer.from(chunk as string).toString("base64");
}

/**
 * The same chunks, for a reader that can request the next chunk and then not await it, as tRPC does when the connection
 * closes: an unhandled rejection would end the process.
 */
export function safeToAbandon<T>(chunks: AsyncIterable<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const source = chunks[Symbol.asyncIterator]();
      return {
        next() {
          const next = source.next();
          next.catch(() => {}); // a reader that awaits it still gets the error
          return next;
        },
        return: async (value?: unknown) => (await source.return?.(value)) ?? { done: true, value },
      };
    },
  };
}
