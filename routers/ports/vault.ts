import { ProviderError } from "./provider-error.ts";

/** Seals and opens with the keys of one client and purpose, which are in memory. It makes no requests. */
export interface Cipher {
  /** `rowId` binds the sealed bytes to their row: they cannot be opened for another row. */
  seal(plain: Buffer | string, rowId: string): Buffer;
  open(sealed: Buffer, rowId: string): Buffer;
}

export type VaultPurpose = "idempotency" | "webhook_secret" | "provider_credential";

/** Seals secrets. `keys` can call a key service, so never use it in a transaction. Throws KeysUnavailable. */
export interface Vault {
  keys(clientId: string, purpose: VaultPurpose): Promise<Cipher>;
}

/** The key service is unreachable, or refuses the key. Nothing was done; a retry may succeed. */
export class KeysUnavailable extends ProviderError {
  constructor(message: string, extra: { cause?: unknown } = {}) {
    super("unavailable", message, extra);
    this.name = "KeysUnavailable";
  }
}

/** Wraps the data keys. It can call a key service, like the vault. */
export interface MasterKeys {
  /** The name, in rows, of the master key that wraps new data keys. */
  readonly present: string;
  /** Unwraps a data key with the master key of its row, and wraps it with the present one. Throws KeysUnavailable. */
  rewrap(key: { clientId: string; purpose: string; id: string; master: string; wrapped: string }): Promise<string>;
}
