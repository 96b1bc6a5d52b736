import { randomBytes } from "node:crypto";
import { and, count, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { apiKeys } from "../../db/schema/clients.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { activeKeysPerClient } from "../core/limits.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { grants, type Scope } from "../core/scopes.ts";
import { isActive, lockMaker } from "./creators.ts";
import { say } from "./events.ts";
import type { ApiKey, CreatedApiKey, ListApiKeys, NewApiKey, RotateApiKey } from "./schema.ts";

export type Creator = { id: string; scopes: readonly string[] };
type Row = typeof apiKeys.$inferSelect;

/** `hash` is the installation's HMAC: what it gives is kept, the key itself is not. */
type Hash = (key: string) => string;

export async function createApiKey(tx: Tx, wanted: NewApiKey, creator: Creator, hash: Hash): Promise<CreatedApiKey> {
  await refuseBeyond(tx, wanted.scopes, creator);
  if (wanted.expiresAt && new Date(wanted.expiresAt) <= new Date()) {
    throw new ApiError("input_invalid", "expiresAt: This lies in the past.", {
      details: [{ path: "expiresAt", message: "This lies in the past." }],
    });
  }
  await refuseTooMany(tx);
  return insertKey(tx, wanted, creator, hash);
}

/** A key has at most the scopes that its maker has at this moment: those of the credential, within those of the role. */
async function refuseBeyond(tx: Tx, scopes: readonly Scope[], creator: Creator) {
  const held = await lockMaker(tx, creator.id);
  const beyond = scopes.find((scope) => !grants(creator.scopes, scope) || !grants(held, scope));
  if (beyond)
    throw new ApiError("scope_missing", `You do not have ${beyond} yourself, so a key of yours cannot have it.`);
}

/** Counted under a lock, so that two at the same moment do not both become the last. */
async function refuseTooMany(tx: Tx) {
  await tx.execute(
    sql`select pg_advisory_xact_lock(hashtextextended('api_keys.create:' || current_setting('app.client_id'), 0))`,
  );
  const [active] = await tx.select({ n: count() }).from(apiKeys).where(isActive);
  if (active!.n < activeKeysPerClient) return;
  throw new ApiError(
    "api_key_limit_reached",
    `A client has at most ${activeKeysPerClient} API keys that are neither revoked nor expired. Revoke one first.`,
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
  await say(tx, "api_key.created", created!);
  return { ...onTheWire(created!), key };
}

export async function listApiKeys(tx: Tx, { limit, cursor, createdBy }: ListApiKeys, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(apiKeys)
    .where(
      and(
        before === null ? undefined : lt(apiKeys.id, before),
        createdBy === undefined ? undefined : eq(apiKeys.createdBy, createdBy),
      ),
    )
    .orderBy(desc(apiKeys.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/**
 * A new key of the same name, scopes and expiry; the old one goes at once, or runs out after the grace. The new one goes on
 * with the old one's idempotency keys: a request that was made by the old key and is repeated by the new one is a replay.
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
  await refuseBeyond(tx, scopes, creator);
  if (graceSeconds === 0) await revokeApiKey(tx, id); // before they are counted: a client with all its keys can rotate one
  await refuseTooMany(tx);
  const wanted = { name: old.name, scopes, expiresAt: old.expiresAt?.toISOString(), rootId: old.rootId ?? old.id };
  const created = await insertKey(tx, wanted, creator, hash);
  const runsOut = sql`least(${apiKeys.expiresAt}, clock_timestamp() + make_interval(secs => ${graceSeconds}::float8))`;
  await tx
    .update(apiKeys)
    .set({ replacedBy: created.id, ...(graceSeconds > 0 ? { expiresAt: runsOut as unknown as Date } : {}) })
    .where(eq(apiKeys.id, id));
  return created;
}

const apiKeyNotFound = (id: string) => new ApiError("api_key_not_found", `There is no API key ${id}.`);

/** Revoking it again changes nothing. */
export async function revokeApiKey(tx: Tx, id: string) {
  const [revoked] = await tx
    .update(apiKeys)
    .set({ revokedAt: sql`clock_timestamp()` as unknown as Date })
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
    .returning();
  if (revoked) return say(tx, "api_key.revoked", revoked);
  const [known] = await tx.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.id, id));
  if (!known) throw apiKeyNotFound(id);
}

function onTheWire(row: Row): ApiKey {
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
