import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { ApiError } from "./errors.ts";
import type { Page } from "./reply.ts";

/** The input of every list. */
export const PageInput = {
  limit: z
    .int()
    .min(1)
    .max(100)
    .default(20)
    .meta({ description: "The maximum number of rows.", examples: [20] }),
  cursor: z.string().max(1024).optional().meta({ description: "`meta.nextCursor` of the previous page." }),
};

/** The output of every list. REST moves everything but the items to `meta`. */
export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable(), hasMore: z.boolean() });

/** A cursor is valid for one list of one client with the same filters: it is signed with all three. */
export type ListKey = { secret: Buffer; clientId: string; procedure: string; filters: unknown };

export function readCursor(key: ListKey, cursor: string | undefined): string | null {
  if (cursor === undefined) return null;
  const [position, signature, ...rest] = cursor.split(".");
  if (!position || !signature || rest.length > 0) throw new ApiError("cursor_invalid");
  const actual = Buffer.from(signature, "base64url");
  const expected = sign(key, position);
  if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) throw new ApiError("cursor_invalid");
  return Buffer.from(position, "base64url").toString();
}

/** Makes a page of at most `limit + 1` rows. `position` returns the place of a row in the order of the list. */
export function toPage<T>(key: ListKey, rows: T[], limit: number, position: (row: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const hasMore = rows.length > limit;
  return { items, hasMore, nextCursor: hasMore && last ? writeCursor(key, position(last)) : null };
}

/** A cursor for a position, which only the same list of the same client can read. */
export function writeCursor(key: ListKey, position: string): string {
  const text = Buffer.from(position).toString("base64url");
  return `${text}.${sign(key, text).toString("base64url")}`;
}

function sign({ secret, clientId, procedure, filters }: ListKey, position: string): Buffer {
  const text = JSON.stringify(["cursor", clientId, procedure, canonical(filters), position]);
  return createHmac("sha256", keyOf(secret)).update(text).digest().subarray(0, 18);
}

/** Made once per secret: making it takes as long as signing. */
const keys = new WeakMap<Buffer, KeyObject>();

function keyOf(secret: Buffer): KeyObject {
  const key = keys.get(secret) ?? createSecretKey(secret);
  keys.set(secret, key);
  return key;
}

/** The canonical form of a value for JSON: keys sorted, undefined removed. */
export function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (value instanceof Date) return value.toISOString();
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, canonical(v)]));
}
