import type { Chunks, Streamed } from "./reply.ts";

/** Not an end but a cut: the reader of a subscription comes back by himself, and goes on from where he was. */
export class Cut extends Error {
  override name = "AbortError"; // by this name tRPC knows that there is nothing to say
}

/** How long a stream may take at most, whoever sends and whoever reads. */
export const streamSeconds = 30 * 60;

/**
 * The pieces until the signal says that nobody waits for more: then the source is told to stop, and the stream fails, so
 * that what has come so far does not look whole. `asFailure` says what the source's error is to the reader. `ended` is
 * called when nothing more is read, for whatever reason.
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
      const { done, value } = await unlessOver(source.next(), signal);
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw asFailure(error);
  } finally {
    ended();
    source.return?.()?.catch(() => {}); // not awaited: a source that stands still never answers
  }
}

async function unlessOver<T>(next: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([next, over]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** For /trpc, which speaks JSON: every piece in base64, since a piece of a file need not be whole text. */
export async function* inBase64(pieces: AsyncIterable<string | Buffer>): Streamed["chunks"] & AsyncGenerator<string> {
  for await (const piece of pieces) yield Buffer.from(piece as string).toString("base64");
}

/**
 * The same pieces, for a reader that may ask for the next one and then never look at the answer, as tRPC does when the
 * connection closes: a failure that nobody awaits any more would end the whole process.
 */
export function safeToAbandon<T>(pieces: AsyncIterable<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const source = pieces[Symbol.asyncIterator]();
      return {
        next() {
          const next = source.next();
          next.catch(() => {}); // a reader that awaits it still sees the failure
          return next;
        },
        return: async (value?: unknown) => (await source.return?.(value)) ?? { done: true, value },
      };
    },
  };
}
