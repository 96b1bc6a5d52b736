/** What a procedure may say about its answer beside the data: the REST door turns it into status, headers and meta. */
export type Reply = {
  status?: number;
  headers: Record<string, string>;
  /** Set when a stored answer is given again: the requestId of the first. */
  firstRequestId?: string;
};

/** How many rows follow, and where. A list procedure returns `Page`; REST moves the cursor into `meta`. */
export type Page<T> = { items: T[]; nextCursor: string | null; hasMore: boolean };
