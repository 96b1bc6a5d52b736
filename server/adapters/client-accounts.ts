import { eq } from "drizzle-orm";
import type { Database } from "../../db/client.ts";
import { providerAccounts } from "../../db/schema/credentials.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import type { Vault } from "../../routers/ports/vault.ts";
import { publicKeyFrom, type TelnyxKey } from "./telnyx-webhook.ts";
import type { WebhookSecret } from "./ultravox/webhook.ts";

const maxRemembered = 10_000;

/**
 * Clients' own accounts at the voice provider and at carriers: API keys, and the keys of their webhooks. They are read in
 * one statement whenever they are needed, so that a changed key takes effect immediately everywhere. Only the owner of an
 * account is remembered, because it never changes.
 */
export function ownAccounts({ db, vault }: { db: Database; vault: Vault }) {
  const owners = new Map<string, string>();

  async function ownerOf(accountId: string): Promise<string | null> {
    const known = owners.get(accountId);
    if (known) return known;
    const [row] = await db.asSystem(
      (tx) =>
        tx
          .select({ clientId: providerAccounts.clientId })
          .from(providerAccounts)
          .where(eq(providerAccounts.id, accountId)),
      { mode: "read" },
    );
    if (!row) return null;
    if (owners.size >= maxRemembered) owners.delete(owners.keys().next().value!);
    owners.set(accountId, row.clientId);
    return row.clientId;
  }

  async function open(accountId: string, column: "api_key" | "webhook_secret"): Promise<string | null> {
    const clientId = await ownerOf(accountId);
    if (!clientId) return null;
    const row = await db.readOne({ clientId }, column === "api_key" ? hotKey : hotSecret, [accountId]);
    const sealed = row?.[column];
    if (!(sealed instanceof Buffer)) return null;
    const cipher = await vault.keys(clientId, column === "api_key" ? "provider_credential" : "webhook_secret");
    return cipher.open(sealed, accountId).toString();
  }

  return {
    /** Throws ProviderError. */
    async apiKeyOf(accountId: string): Promise<string> {
      const key = await open(accountId, "api_key");
      if (key !== null) return key;
      throw new ProviderError("refused", "The Ultravox account of this resource is no longer connected");
    },

    /** Empty when there is no such account, or the account has no webhook. */
    async webhookSecretsOf(accountId: string): Promise<WebhookSecret[]> {
      const secret = await open(accountId, "webhook_secret");
      return secret === null ? [] : [{ accountId, secretId: `${accountId}#1`, secret }];
    },

    /** The public key of a client's own Telnyx account. Empty when there is none, or it is invalid. */
    async telnyxKeysOf(clientId: string): Promise<TelnyxKey[]> {
      const row = await db.readOne({ clientId }, hotCredential, ["telnyx"]);
      if (typeof row?.id !== "string" || !(row.sealed instanceof Buffer)) return [];
      const cipher = await vault.keys(clientId, "provider_credential");
      const fields = JSON.parse(cipher.open(row.sealed, row.id).toString()) as { publicKey?: string };
      const publicKey = publicKeyFrom(fields.publicKey ?? "");
      return publicKey ? [{ accountId: row.id, keyId: `${row.id}#1`, publicKey }] : [];
    },
  };
}

const hotKey = "select api_key from provider_accounts where id = $1";
const hotCredential = "select id, sealed from credentials where provider = $1";
const hotSecret = "select webhook_secret from provider_accounts where id = $1";
