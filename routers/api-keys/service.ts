import { randomBytes } from "node:crypto";
import { and, count, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { type Given, pages, type Wire } from "../../db/prepared.ts";
import { apiKeys } from "../../db/schema/clients.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { activeKeysPerClient } from "../core/limits.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { grants, type Scope } from "../core/scopes.ts";
import { type Held, isActive, lockCreator } from "./creators.ts";
import { emitApiKeyEvent } from "./events.ts";
import type { ApiKey, CreatedApiKey, ListApiKeys, NewApiKey, RotateApiKey } from "./schema.ts";

export type Creator = { id: string; scopes: readonly string[] };
type Row = Wire<typeof apiKeys.$inferSelect>;

/** The installation's HMAC. Only its result is stored, not the key. */
type Hash = (key: string) => string;

export async function createApiKey(tx: Tx, input: NewApiKey, creator: Creator, hash: Hash): Promise<CreatedApiKey> {
  const held = await requireScopes(tx, input.scopes, creator);
  if (input.expiresAt && new Date(input.expiresAt) <= new Date()) {
    throw ApiError.invalid("expiresAt", "This time is in the past.");
  }
  refuseLonger(input.expiresAt, held);
  await refuseTooMany(tx);
  return insertKey(tx, input, creator, hash);
}

/** A key can only have scopes that its creator has now: those of their credential, within those of their role. */
async function requireScopes(tx: Tx, scopes: readonly Scope[], creator: Creator): Promise<Held> {
  const held = await lockCreator(tx, creator.id);
  const missing = scopes.find((scope) => !grants(creator.scopes, scope) || !grants(held.scopes, scope));
  if (missing)
    throw new ApiError("scope_missing", `Missing scope: ${missing}. A key can only have scopes that you have.`);
  return held;
}

/** A key with an expiry would have none if it could create another without. */
function refuseLonger(expiresAt: string | undefined, { expiresAt: own }: Held) {
  if (!own || (expiresAt && new Date(expiresAt) <= own)) return;
  throw ApiError.invalid(
    "expiresAt",
    `Your own key expires at ${toIso(own)}. A key that it creates must not live longer.`,
  );
}

/** Counted under a lock, so that concurrent requests cannot exceed the limit. */
async function refuseTooMany(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('api_keys.create:' || current_setting('app.client_id'), 0))`,
  );
  const [active] = await tx.select({ n: count() }).from(apiKeys).where(isActive);
  if (active!.n < activeKeysPerClient) return;
  throw new ApiError(
    "api_key_limit_reached",
    `A client can have ${activeKeysPerClient} active API keys. Revoke one first.`,
  );
}

async function insertKey(
  tx: Tx,
  { name, scopes, expiresAt, rootId = null }: NewApiKey & { rootId?: string | null },
  creator: Creator,
  hash: Hash,
): Promise<CreatedApiKey> {
  const key = `pb_live_${randomBytes(24).toString("base64url")}`;
  const row = {
    id: newId("apiKey"),
    name,
    prefix: key.slice(0, 12),
    hash: hash(key),
    scopes: [...new Set<Scope>(scopes)].sort(),
    expiresAt: expiresAt ? new Date(expiresAt) : null,
    rootId,
    createdBy: creator.id,
  };
  const [created] = await tx.insert(apiKeys).values(row).returning();
  await emitApiKeyEvent(tx, "api_key.created", created!);
  return { ...toApiKey(created!), key };
}

export async function listApiKeys(tx: Tx, { limit, cursor, createdBy }: ListApiKeys, key: ListKey) {
  const rows = await keyPages(tx, { createdBy, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, rows.map(toApiKey), limit, ({ id }) => id);
}

const keyPages = pages((db, given: Given<"createdBy">) =>
  db
    .select()
    .from(apiKeys)
    .where(and(given.before && lt(apiKeys.id, given.before), given.createdBy && eq(apiKeys.createdBy, given.createdBy)))
    .orderBy(desc(apiKeys.id))
    .limit(sql.placeholder("limit")),
);

/**
 * Creates a key with the same name, scopes and expiry. The old key is revoked now, or expires after the grace period. The new
 * key shares the idempotency keys of the old one: a request of the old key, retried with the new one, is a replay.
 */
export async function rotateApiKey(
  tx: Tx,
  { id, graceSeconds }: RotateApiKey,
  creator: Creator,
  hash: Hash,
): Promise<CreatedApiKey> {
  const [old] = await tx.select().from(apiKeys).where(eq(apiKeys.id, id)).for("update");
  if (!old) throw apiKeyNotFound(id);
  const isOver = old.revokedAt !== null || (old.expiresAt !== null && old.expiresAt <= new Date());
  if (isOver || old.replacedBy) throw new ApiError("api_key_not_active");
  const scopes = old.scopes as Scope[];
  refuseLonger(old.expiresAt?.toISOString(), await requireScopes(tx, scopes, creator));
  if (graceSeconds === 0) await revokeApiKey(tx, id); // before the count, so that a client at its limit can rotate a key
  await refuseTooMany(tx);
  const copy = { name: old.name, scopes, expiresAt: old.expiresAt?.toISOString(), rootId: old.rootId ?? old.id };
  const created = await insertKey(tx, copy, creator, hash);
  const graceEnd = sql<Date>`least(${apiKeys.expiresAt}, clock_timestamp() + make_interval(secs => ${graceSeconds}::float8))`;
  await tx
    .update(apiKeys)
    .set({ replacedBy: created.id, expiresAt: graceSeconds > 0 ? graceEnd : undefined })
    .where(eq(apiKeys.id, id));
  return created;
}

const apiKeyNotFound = (id: string) =>
  new ApiError("api_key_not_found", `There is no API key ${id}, or it was revoked.`);

/** A key that is already revoked is not found. */
export async function revokeApiKey(tx: Tx, id: string) {
  const [revoked] = await tx
    .update(apiKeys)
    .set({ revokedAt: dbNow() })
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
    .returning();
  if (!revoked) throw apiKeyNotFound(id);
  await emitApiKeyEvent(tx, "api_key.revoked", revoked);
}

function toApiKey(row: Row): ApiKey {
  return {
    id: row.id,
    name: row.name,
    prefix: row.prefix,
    scopes: row.scopes as Scope[],
    createdBy: row.createdBy,
    createdAt: toIso(row.createdAt),
    expiresAt: toIsoOrNull(row.expiresAt),
    lastUsedAt: toIsoOrNull(row.lastUsedAt),
    revokedAt: toIsoOrNull(row.revokedAt),
    replacedBy: row.replacedBy,
  };
}
