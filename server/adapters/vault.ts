import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { eq } from "drizzle-orm";
import type { Database, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { dataKeys } from "../../db/schema/clients.ts";
import {
  type Cipher,
  KeysUnavailable,
  type MasterKeys,
  type Vault,
  type VaultPurpose,
} from "../../routers/ports/vault.ts";

/** What a wrapped data key is bound to: in another row it does not decrypt. */
export type KeyContext = { clientId: string; purpose: string; id: string };

/** A key that wraps data keys, and never leaves its store. Throws KeysUnavailable when the store is unreachable. */
export type Master = {
  /** The name in rows of `data_keys`. */
  name: string;
  generate(context: KeyContext): Promise<{ plain: Buffer; wrapped: string }>;
  wrap(plain: Buffer, context: KeyContext): Promise<string>;
  unwrap(wrapped: string, context: KeyContext): Promise<Buffer>;
};

const cacheMs = 5 * 60_000;
const cacheSize = 10_000;

type Options = {
  db: Database;
  master: Master;
  /** Earlier master keys: data keys that they wrapped still open, until they are wrapped again. */
  previous?: Master[];
  /** A monotonic clock, in milliseconds. */
  now?: (() => number) | undefined;
  size?: number;
};

/** Data keys, stored wrapped in rows of each client, and unwrapped in memory for at most five minutes. */
export function openVault({ db, master, previous = [], now = () => performance.now(), size = cacheSize }: Options) {
  const masters = new Map([...previous, master].map((each) => [each.name, each]));
  const cache = new Map<string, { cipher: Promise<Cipher>; until: number }>();
  let isSweeping = false;

  const masterOf = (name: string) => masters.get(name) ?? throwUnknown(name);

  async function open(clientId: string, purpose: VaultPurpose): Promise<Cipher> {
    const row = await db.asClient({ clientId }, (tx) => readKey(tx, purpose), { mode: "read" });
    const plain = row
      ? await masterOf(row.master).unwrap(row.wrapped, { clientId, purpose, id: row.id })
      : await make(clientId, purpose);
    return cipherOf(plain, clientId, purpose);
  }

  /** The first process creates the key; concurrent ones use that key. */
  async function make(clientId: string, purpose: VaultPurpose): Promise<Buffer> {
    const id = newId("dataKey");
    const { plain, wrapped } = await master.generate({ clientId, purpose, id });
    const stored = await db.asClient({ clientId }, async (tx) => {
      await tx.insert(dataKeys).values({ id, purpose, master: master.name, wrapped }).onConflictDoNothing();
      return readKey(tx, purpose);
    });
    if (!stored) throw new Error(`The data key of ${clientId} for ${purpose} was not stored.`);
    if (stored.id === id) return plain;
    return masterOf(stored.master).unwrap(stored.wrapped, { clientId, purpose, id: stored.id });
  }

  /** The map is ordered by age, and all entries have the same lifetime. */
  function forgetExpired() {
    for (const [name, { until }] of cache) {
      if (until > now()) break;
      cache.delete(name);
    }
  }

  function sweepLater() {
    if (isSweeping) return;
    isSweeping = true;
    setTimeout(() => {
      isSweeping = false;
      forgetExpired();
      if (cache.size > 0) sweepLater();
    }, cacheMs).unref();
  }

  function keys(clientId: string, purpose: VaultPurpose): Promise<Cipher> {
    forgetExpired();
    const name = `${clientId}|${purpose}`;
    const known = cache.get(name);
    if (known) return known.cipher;
    const cipher = open(clientId, purpose);
    if (cache.size >= size) cache.delete(cache.keys().next().value!);
    cache.set(name, { cipher, until: now() + cacheMs });
    sweepLater();
    cipher.catch(() => {
      if (cache.get(name)?.cipher === cipher) cache.delete(name); // a failure is not cached
    });
    return cipher;
  }

  /** The result is unwrapped once before it may replace the old one: a key lost here is lost for good. */
  const rewrap: MasterKeys["rewrap"] = async ({ master: name, wrapped, ...context }) => {
    const plain = await masterOf(name).unwrap(wrapped, context);
    const rewrapped = await master.wrap(plain, context);
    if (!plain.equals(await master.unwrap(rewrapped, context)))
      throw new Error("The rewrapped data key cannot be unwrapped.");
    return rewrapped;
  };

  return {
    vault: { keys } satisfies Vault,
    masterKeys: { present: master.name, rewrap } satisfies MasterKeys,
    /** How many keys are unwrapped in memory. */
    opened: () => cache.size,
  };
}

function throwUnknown(master: string): never {
  throw new KeysUnavailable(`A data key was wrapped by ${master}, which is not a configured master key.`);
}

async function readKey(tx: Tx, purpose: VaultPurpose) {
  const [row] = await tx.select().from(dataKeys).where(eq(dataKeys.purpose, purpose));
  return row;
}

/** The row id is part of the authenticated data: sealed bytes open in no other row. */
export function cipherOf(bytes: Buffer, clientId: string, purpose: VaultPurpose): Cipher {
  const key = createSecretKey(bytes); // created once: from bytes, the library would create it for each use
  const context = (rowId: string) => `${clientId}|${purpose}|${rowId}`;
  return {
    seal: (plain, rowId) => encrypt(key, Buffer.from(plain as string), context(rowId)),
    open: (sealed, rowId) => decrypt(key, sealed, context(rowId)),
  };
}

const version = 1;

/** One version byte, 12 nonce bytes, the ciphertext, 16 tag bytes. */
export function encrypt(key: Buffer | KeyObject, plain: Buffer, context: string): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([Buffer.of(version), nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

export function decrypt(key: Buffer | KeyObject, sealed: Buffer, context: string): Buffer {
  if (sealed[0] !== version || sealed.length < 29) throw new Error("These bytes were not sealed by this vault.");
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 13)).setAAD(Buffer.from(context));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(13, -16)), decipher.final()]);
}
