import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { and, eq } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { dataKeys } from "../../db/schema/clients.ts";
import type { KeyRing, Vault, VaultPurpose } from "../../routers/providers.ts";

const cacheMs = 5 * 60_000;
const cacheSize = 10_000;

/**
 * Data keys wrapped by one master key of the environment: for a laptop and for small installations.
 * An opened data key stays in memory for five minutes at most.
 */
export function localVault({
  db,
  masterKey,
  now = () => Date.now(),
}: {
  db: Database;
  masterKey: Buffer;
  now?: () => number;
}): Vault {
  const master = `local:${createHash("sha256").update(masterKey).digest("hex").slice(0, 16)}`;
  const cache = new Map<string, { ring: Promise<KeyRing>; until: number }>();

  async function open(clientId: string, purpose: VaultPurpose): Promise<KeyRing> {
    const found = await db.asClient({ clientId }, (tx) => readKey(tx, purpose), { mode: "read" });
    const row = found ?? (await make(clientId, purpose));
    if (row.master !== master)
      throw new Error(`The data keys of ${clientId} were wrapped by another master key, ${row.master}.`);
    const plain = decrypt(masterKey, Buffer.from(row.wrapped, "base64"), `${clientId}|${purpose}|${row.id}`);
    return ringOf(plain, clientId, purpose);
  }

  async function make(clientId: string, purpose: VaultPurpose) {
    const id = newId("dataKey");
    const wrapped = encrypt(masterKey, randomBytes(32), `${clientId}|${purpose}|${id}`).toString("base64");
    return db.asClient({ clientId }, async (tx) => {
      await tx.insert(dataKeys).values({ id, purpose, master, wrapped }).onConflictDoNothing();
      return (await readKey(tx, purpose))!; // ours, or that of whoever was faster
    });
  }

  return {
    keys(clientId, purpose) {
      const name = `${clientId}|${purpose}`;
      const known = cache.get(name);
      if (known && known.until > now()) return known.ring;
      const ring = open(clientId, purpose);
      if (cache.size >= cacheSize) cache.delete(cache.keys().next().value!);
      cache.delete(name);
      cache.set(name, { ring, until: now() + cacheMs });
      ring.catch(() => cache.delete(name)); // a failure is not remembered
      return ring;
    },
  };
}

async function readKey(tx: Parameters<Parameters<Database["asClient"]>[1]>[0], purpose: VaultPurpose) {
  const [row] = await tx
    .select()
    .from(dataKeys)
    .where(and(eq(dataKeys.purpose, purpose)));
  return row;
}

/** The row that a secret belongs to is part of what is authenticated: a sealed secret opens nowhere else. */
export function ringOf(key: Buffer, clientId: string, purpose: VaultPurpose): KeyRing {
  const context = (rowId: string) => `${clientId}|${purpose}|${rowId}`;
  return {
    seal: (plain, rowId) => encrypt(key, Buffer.from(plain as string), context(rowId)),
    open: (sealed, rowId) => decrypt(key, sealed, context(rowId)),
  };
}

const version = 1;

/** One byte of version, 12 of nonce, the text, 16 of tag. */
function encrypt(key: Buffer, plain: Buffer, context: string): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([Buffer.of(version), nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(key: Buffer, sealed: Buffer, context: string): Buffer {
  if (sealed[0] !== version || sealed.length < 29) throw new Error("These bytes were not sealed by this vault.");
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 13)).setAAD(Buffer.from(context));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(13, -16)), decipher.final()]);
}
