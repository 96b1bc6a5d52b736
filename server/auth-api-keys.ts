import { createHmac, hash } from "node:crypto";
import { and, eq, gt, isNull, lt, or, sql } from "drizzle-orm";
import type { Logger } from "pino";
import type { Database, Tx } from "../db/client.ts";
import { apiKeys } from "../db/schema/clients.ts";
import { dbNow } from "../db/time.ts";
import { ApiError } from "../routers/core/errors.ts";

const keyPattern = /^pb_(live|test)_[A-Za-z0-9_-]{32}$/;
const cacheMs = 60_000;
const refusedCacheMs = 5_000;
const maxCached = 10_000;

export const isApiKey = (token: string) => keyPattern.test(token);

type KeyFacts = { keyId: string; rootId: string; clientId: string; scopes: readonly string[] };
type Options = { db: Database; log: Logger; pepper: Buffer; now?: () => number };

/**
 * API keys, cached for a minute: a key's client and scopes never change. Every transaction checks again that the key is
 * valid (app.enter), so a revocation takes effect immediately, in every process.
 */
export function openApiKeys({ db, log, pepper, now = () => performance.now() }: Options) {
  const cache = new Map<string, { facts: KeyFacts | null; until: number; used: number }>();
  const writes = new Set<Promise<unknown>>();
  const hashKey = (key: string) => createHmac("sha256", pepper).update(key).digest("hex");

  async function factsOf(key: string): Promise<KeyFacts> {
    const name = hash("sha256", key); // only in memory, where the pepper adds nothing and costs much
    let found = cache.get(name);
    if (!found || found.until <= now()) {
      const facts = await db.asSystem((tx) => findKey(tx, hashKey(key)), { mode: "read" });
      if (cache.size >= maxCached) cache.delete(cache.keys().next().value!);
      const until = now() + (facts ? cacheMs : refusedCacheMs);
      found = { facts, until, used: found?.used ?? Number.NEGATIVE_INFINITY };
      cache.set(name, found);
    }
    if (!found.facts) throw new ApiError("unauthenticated");
    if (now() - found.used >= cacheMs) {
      found.used = now();
      recordUse(found.facts);
    }
    return found.facts;
  }

  /** In the background: the request does not wait for it. */
  function recordUse(facts: KeyFacts) {
    const write = db
      .asClient({ clientId: facts.clientId }, (tx) => updateLastUsed(tx, facts.keyId))
      .catch((error) => log.warn({ err: error }, "last use of an API key not recorded"))
      .finally(() => writes.delete(write));
    writes.add(write);
  }

  return { factsOf, hashKey, settled: () => Promise.allSettled(writes) };
}

const updateLastUsed = (tx: Tx, keyId: string) =>
  tx
    .update(apiKeys)
    .set({ lastUsedAt: dbNow() })
    .where(
      and(
        eq(apiKeys.id, keyId),
        or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, sql`clock_timestamp() - interval '1 minute'`)),
      ),
    );

async function findKey(tx: Tx, hash: string): Promise<KeyFacts | null> {
  const [row] = await tx
    .select({
      ...{ keyId: apiKeys.id, clientId: apiKeys.clientId, scopes: apiKeys.scopes },
      rootId: sql<string>`coalesce(${apiKeys.rootId}, ${apiKeys.id})`,
    })
    .from(apiKeys)
    .where(
      and(
        eq(apiKeys.hash, hash),
        isNull(apiKeys.revokedAt),
        or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`clock_timestamp()`)),
      ),
    );
  return row ?? null;
}
