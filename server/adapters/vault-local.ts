import { createHash, randomBytes } from "node:crypto";
import type { Database } from "../../db/client.ts";
import type { Vault } from "../../routers/ports/vault.ts";
import { decrypt, encrypt, type KeyContext, type Master, openVault } from "./vault.ts";

/** A master key from the environment: for development and small installations. */
export function localMaster(key: Buffer): Master {
  const wrap = (plain: Buffer, context: KeyContext) => encrypt(key, plain, textOf(context)).toString("base64");
  return {
    name: `local:${createHash("sha256").update(key).digest("hex").slice(0, 16)}`,
    async generate(context) {
      const plain = randomBytes(32);
      return { plain, wrapped: wrap(plain, context) };
    },
    wrap: async (plain, context) => wrap(plain, context),
    unwrap: async (wrapped, context) => decrypt(key, Buffer.from(wrapped, "base64"), textOf(context)),
  };
}

const textOf = ({ clientId, purpose, id }: KeyContext) => `${clientId}|${purpose}|${id}`;

/** The vault of an installation without a key service. */
export function localVault({ db, masterKey, now }: { db: Database; masterKey: Buffer; now?: () => number }): Vault {
  return openVault({ db, master: localMaster(masterKey), now }).vault;
}
