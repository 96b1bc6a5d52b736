import { ProviderError } from "./provider-error.ts";

/** The keys of one client and purpose, open in memory. Sealing and opening are local and synchronous. */
export interface Cipher {
  /** `rowId` ties the sealed bytes to their row: copied into another row they do not open. */
  seal(plain: Buffer | string, rowId: string): Buffer;
  open(sealed: Buffer, rowId: string): Buffer;
}

export type VaultPurpose = "idempotency" | "webhook_secret" | "provider_credential";

/** Keeps secrets sealed. `keys` may speak to a key service: never while a transaction is open. Throws KeysUnavailable. */
export interface Vault {
  keys(clientId: string, purpose: VaultPurpose): Promise<Cipher>;
}

/** The key service is away, or does not give the key: nothing was done, and it may work later. */
export class KeysUnavailable extends ProviderError {
  constructor(message: string, extra: { cause?: unknown } = {}) {
    super("unavailable", message, extra);
    this.name = "KeysUnavailable";
  }
}

/** What wraps the data keys. May speak to a key service, like the vault. */
export interface MasterKeys {
  /** The one that wraps new data keys, as rows name it. */
  readonly present: string;
  /** Opens a data key with the master that its row names, and wraps it by the present one. Throws KeysUnavailable. */
  rewrap(key: { clientId: string; purpose: string; id: string; master: string; wrapped: string }): Promise<string>;
}
