import { randomBytes } from "node:crypto";
import { and, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { apiKeys } from "../../db/schema/clients.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { grants, type Scope } from "../core/scopes.ts";
import type { ApiKey, CreatedApiKey, ListApiKeys, NewApiKey, RotateApiKey } from "./schema.ts";

export type Creator = { id: string; scopes: readonly string[] };
type Row = typeof apiKeys.$inferSelect;

/** `hash` is the installation's HMAC: what it gives is kept, the key itself is not. */
export async function createApiKey(
  tx: Tx,
  { name, scopes, expiresAt }: NewApiKey,
  creator: Creator,
  hash: (key: string) => string,
): Promise<CreatedApiKey> {
  const beyond = scopes.find((scope) => !grants(creator.scopes, scope));
  if (beyond)
    throw new ApiError("scope_missing", `You do not have ${beyond} yourself, so a key of yours cannot have it.`);
  if (expiresAt && new Date(expiresAt) <= new Date()) {
    throw new ApiError("input_invalid", "expiresAt: This lies in the past.", {
      details: [{ path: "expiresAt", message: "This lies in the past." }],
    });
  }
  const key = `pb_live_${randomBytes(24).toString("base64url")}`;
  const row = {
    id: newId("apiKey"),
    name,
    prefix: key.slice(0, 12),
    hash: hash(key),
    scopes: [...new Set<Scope>(scopes)].sort(),
    expiresAt: expiresAt ? new Date(expiresAt) : null,
    createdBy: creator.id,
  };
  const [created] = await tx.insert(apiKeys).values(row).returning();
  await say(tx, "api_key.created", created!);
  return { ...onTheWire(created!), key };
}

export async function listApiKeys(tx: Tx, { limit, cursor }: ListApiKeys, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(apiKeys)
    .where(before === null ? undefined : lt(apiKeys.id, before))
    .orderBy(desc(apiKeys.id))
    .limit(limit + 1);
  return toPage(key, rows.map(onTheWire), limit, ({ id }) => id);
}

/** A new key of the same name, scopes and expiry; the old one goes at once, or runs out after the grace. */
export async function rotateApiKey(
  tx: Tx,
  { id, graceSeconds }: RotateApiKey,
  creator: Creator,
  hash: (key: string) => string,
): Promise<CreatedApiKey> {
  const [old] = await tx.select().from(apiKeys).where(eq(apiKeys.id, id)).for("update");
  if (!old) throw apiKeyNotFound(id);
  const isOver = old.revokedAt !== null || (old.expiresAt !== null && old.expiresAt <= new Date());
  if (isOver || old.replacedBy) throw new ApiError("api_key_not_active");
  const { name, expiresAt } = old;
  const wanted = { name, scopes: old.scopes as Scope[], expiresAt: expiresAt?.toISOString() };
  const created = await createApiKey(tx, wanted, creator, hash);
  const runsOut = sql`least(${apiKeys.expiresAt}, clock_timestamp() + make_interval(secs => ${graceSeconds}::float8))`;
  await tx
    .update(apiKeys)
    .set({ replacedBy: created.id, ...(graceSeconds > 0 ? { expiresAt: runsOut as unknown as Date } : {}) })
    .where(eq(apiKeys.id, id));
  if (graceSeconds === 0) await revokeApiKey(tx, id);
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

async function say(tx: Tx, type: "api_key.created" | "api_key.revoked", { id, name, prefix, scopes }: Row) {
  await emit(tx, type, id, { id, name, prefix, scopes });
}

function onTheWire(row: Row): ApiKey {
  return {
    id: row.id,
    name: row.name,
    prefix: row.prefix,
    scopes: row.scopes as Scope[],
    createdAt: toIso(row.createdAt),
    expiresAt: toIsoOrNull(row.expiresAt),
    lastUsedAt: toIsoOrNull(row.lastUsedAt),
    revokedAt: toIsoOrNull(row.revokedAt),
    replacedBy: row.replacedBy,
  };
}
