import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { ApiError } from "./errors.ts";
import type { Page } from "./reply.ts";

/** What every list takes. */
export const PageInput = {
  limit: z
    .int()
    .min(1)
    .max(100)
    .default(20)
    .meta({ description: "How many rows at most.", examples: [20] }),
  cursor: z.string().max(1024).optional().meta({ description: "`meta.nextCursor` of the page before." }),
};

/** What every list answers: REST moves all but the items into `meta`. */
export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable(), hasMore: z.boolean() });

/** A cursor is good for one list of one client with the same filters: a signature over all three says so. */
export type ListKey = { secret: Buffer; clientId: string; procedure: string; filters: unknown };

export function readCursor(key: ListKey, cursor: string | undefined): string | null {
  if (cursor === undefined) return null;
  const [position, signature, ...rest] = cursor.split(".");
  if (!position || !signature || rest.length > 0) throw new ApiError("cursor_invalid");
  const given = Buffer.from(signature, "base64url");
  const right = sign(key, position);
  if (given.length !== right.length || !timingSafeEqual(given, right)) throw new ApiError("cursor_invalid");
  return Buffer.from(position, "base64url").toString();
}

/** Cuts `limit + 1` rows to a page; `position` tells where a row stands in the order. */
export function toPage<T>(key: ListKey, rows: T[], limit: number, position: (row: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const hasMore = rows.length > limit;
  return { items, hasMore, nextCursor: hasMore && last ? writeCursor(key, position(last)) : null };
}

/** A position in a list, which only this list of this client reads again. */
export function writeCursor(key: ListKey, position: string): string {
  const text = Buffer.from(position).toString("base64url");
  return `${text}.${sign(key, text).toString("base64url")}`;
}

function sign({ secret, clientId, procedure, filters }: ListKey, position: string): Buffer {
  const text = JSON.stringify(["cursor", clientId, procedure, canonical(filters), position]);
  return createHmac("sha256", secret).update(text).digest().subarray(0, 18);
}

/** The same value always gives the same text: keys sorted, undefined left out. */
export function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (value instanceof Date) return value.toISOString();
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, canonical(v)]));
}
