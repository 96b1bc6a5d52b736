import { z } from "zod";

/** What a procedure may say about its answer beside the data: the REST door turns it into status, headers and meta. */
export type Reply = {
  status?: number;
  headers: Record<string, string>;
  /** Set when a stored answer is given again: the requestId of the first. */
  firstRequestId?: string;
};

/** How many rows follow, and where. A list procedure returns `Page`; REST moves the cursor into `meta`. */
export type Page<T> = { items: T[]; nextCursor: string | null; hasMore: boolean };

/** What a streaming door gives: its pieces in order, and the name that a browser saves them under. */
export type Chunks = { chunks: AsyncIterable<string | Buffer>; fileName?: string };

/** The same as the typed client reads it: each piece is base64. `bytesOf` of `edge/client.ts` makes bytes of them. */
export type Streamed = { chunks: AsyncIterable<string>; fileName?: string };

/**
 * The output of a streaming door: `meta(rest("GET", …, { produces: "text/csv" })).output(Chunks)` on the builder `stream`.
 * The cast is for the client's types alone: what passes here is a `Chunks`, which the builder turns into what its door needs.
 */
export const Chunks = z
  .custom<Chunks>((value) => isIterable((value as Partial<Chunks> | null)?.chunks))
  .transform((given) => given as unknown as Streamed);

const isIterable = (value: unknown) => typeof value === "object" && value !== null && Symbol.asyncIterator in value;
