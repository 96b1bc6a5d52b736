import { z } from "zod";

/** What a procedure can set in its response beside the data. REST maps it to status, headers and meta. */
export type Reply = {
  status?: number;
  headers: Record<string, string>;
  /** Set on a replay: the requestId of the first request. */
  firstRequestId?: string;
};

/** The output of a list procedure. REST moves the cursor to `meta`. */
export type Page<T> = { items: T[]; nextCursor: string | null; hasMore: boolean };

/** The output of a streaming procedure: its chunks, and the file name for browsers. */
export type Chunks = { chunks: AsyncIterable<string | Buffer>; fileName?: string };

/** The same for the typed client: each chunk is base64. `bytesOf` in `edge/client.ts` decodes them. */
export type Streamed = { chunks: AsyncIterable<string>; fileName?: string };

/**
 * The output schema of a streaming procedure: `meta(rest("GET", …, { produces: "text/csv" })).output(Chunks)` on the builder
 * `stream`. The cast is only for the client's types: the value is a `Chunks`, which the builder converts per transport.
 */
export const Chunks = z
  .custom<Chunks>((value) => isIterable((value as Partial<Chunks> | null)?.chunks))
  .transform((chunks) => chunks as unknown as Streamed);

const isIterable = (value: unknown) => typeof value === "object" && value !== null && Symbol.asyncIterator in value;
