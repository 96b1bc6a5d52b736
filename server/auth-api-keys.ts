import { createHmac, hash } from "node:crypto";
import { and, eq, gt, isNull, lt, or, sql } from "drizzle-orm";
import type { Logger } from "pino";
import type { Database, Tx } from "../db/client.ts";
import { apiKeys } from "../db/schema/clients.ts";
import { dbNow } from "../db/time.ts";
import { ApiError } from "../routers/core/errors.ts";
import { batchedLookup } from "./key-lookup.ts";

const keyPattern = /^pb_(live|test)_[A-Za-z0-9_-]{32}$/;
const recordUseMs = 60_000;
const unknownCacheMs = 5_000;
const maxCached = 10_000;

export const isApiKey = (token: string) => keyPattern.test(token);

type KeyFacts = { keyId: string; rootId: string; clientId: string; scopes: readonly string[] };
type Options = { db: Database; log: Logger; pepper: Buffer; now?: () => number };

/**
 * API keys, cached while there is room: a key's client and scopes never change. Every transaction checks again that the key
 * is valid (app.set_tenant), so a revocation takes effect immediately, in every process.
 */
export function openApiKeys({ db, log, pepper, now = () => performance.now() }: Options) {
  const cache = new Map<string, { facts: KeyFacts; used: number }>();
  /** Unknown keys are cached apart: however many are tried, none displaces a valid one. */
  const unknown = new Map<string, number>();
  const lookUp = batchedLookup((hashes) => db.asSystem((tx) => findKeys(tx, hashes), { mode: "read" }));
  const writes = new Set<Promise<unknown>>();
  const hashKey = (key: string) => createHmac("sha256", pepper).update(key).digest("hex");

  async function factsOf(key: string): Promise<KeyFacts> {
    const name = hash("sha256", key); // only in memory, where the pepper adds nothing and costs much
    const found = cache.get(name) ?? (await load(key, name));
    if (now() - found.used >= recordUseMs) {
      found.used = now();
      recordUse(found.facts);
    }
    return found.facts;
  }

  async function load(key: string, name: string) {
    if ((unknown.get(name) ?? 0) > now()) throw new ApiError("unauthenticated");
    const facts = await lookUp(hashKey(key));
    if (!facts) {
      keep(unknown, name, now() + unknownCacheMs);
      throw new ApiError("unauthenticated");
    }
    const loaded = { facts, used: Number.NEGATIVE_INFINITY };
    keep(cache, name, loaded);
    return loaded;
  }

  /** In the background: the request does not wait for it. */
  function recordUse(facts: KeyFacts) {
    const write = db
      .asClient({ clientId: facts.clientId }, (tx) => updateLastUsed(tx, facts.keyId))
      .catch((error) => log.warn({ err: error }, "last use of an API key not recorded"))
      .finally(() => writes.delete(write));
    writes.add(write);
  }

  return {
    factsOf,
    isKnown: (key: string) => cache.has(hash("sha256", key)),
    hashKey,
    settled: () => Promise.allSettled(writes),
  };
}

const updateLastUsed = (tx: Tx, keyId: string) =>
  tx
    .update(apiKeys)
    .set({ lastUsedAt: dbNow() })
    .where(
      and(
        eq(apiKeys.id, keyId),
        isNull(apiKeys.revokedAt),
        or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, sql`clock_timestamp() - interval '1 minute'`)),
      ),
    );

/** Adds an entry; the oldest is removed when there is no room. */
function keep<T>(entries: Map<string, T>, name: string, value: T) {
  entries.delete(name);
  const [oldest] = entries.keys();
  if (entries.size >= maxCached && oldest !== undefined) entries.delete(oldest);
  entries.set(name, value);
}

async function findKeys(tx: Tx, hashes: string[]): Promise<Map<string, KeyFacts>> {
  const rows = await tx
    .select({
      ...{ hash: apiKeys.hash, keyId: apiKeys.id, clientId: apiKeys.clientId, scopes: apiKeys.scopes },
      rootId: sql<string>`coalesce(${apiKeys.rootId}, ${apiKeys.id})`,
    })
    .from(apiKeys)
    .where(
      and(
        sql`${apiKeys.hash} = any(string_to_array(${hashes.join(",")}::text, ','))`,
        isNull(apiKeys.revokedAt),
        or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`clock_timestamp()`)),
      ),
    );
  return new Map(rows.map(({ hash, ...facts }) => [hash, facts]));
}
