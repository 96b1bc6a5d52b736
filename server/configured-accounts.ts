import { platformAccount } from "../routers/credentials/accounts.ts";
import type { ownAccounts } from "./adapters/client-accounts.ts";
import { publicKeyFrom, type TelnyxKey } from "./adapters/telnyx-webhook.ts";
import type { WebhookSecret } from "./adapters/ultravox/webhook.ts";
import type { Env } from "./env.ts";

export type ConfiguredAccount = { id: string; apiKey: string; webhookSecrets: string[] };
export type OwnAccounts = ReturnType<typeof ownAccounts>;

/** The accounts at the voice provider that the environment names. */
export const configuredAccounts = (env: Env): ConfiguredAccount[] => [
  { id: platformAccount, apiKey: env.ULTRAVOX_API_KEY, webhookSecrets: env.ULTRAVOX_WEBHOOK_SECRETS },
  ...env.ULTRAVOX_ACCOUNTS,
];

/** The keys that verify provider webhooks, from the environment and from clients' own accounts. */
export function webhookKeysOf(env: Env, accounts: readonly ConfiguredAccount[], own: OwnAccounts) {
  const configured: WebhookSecret[] = accounts.flatMap(({ id, webhookSecrets }) =>
    webhookSecrets.map((secret, index) => ({ accountId: id, secretId: `${id}#${index + 1}`, secret })),
  );
  const telnyxKeys = env.TELNYX_PUBLIC_KEYS.flatMap(({ account = platformAccount, key }, index): TelnyxKey[] => {
    const publicKey = publicKeyFrom(key);
    return publicKey ? [{ accountId: account, keyId: `${account}#${index + 1}`, publicKey }] : [];
  });
  return {
    /** null: the accounts of the environment. Otherwise of that account alone; empty if it is unknown. */
    async webhookSecretsOf(accountId: string | null): Promise<WebhookSecret[]> {
      if (accountId === null) return configured;
      const found = configured.filter((secret) => secret.accountId === accountId);
      return found.length > 0 ? found : own.webhookSecretsOf(accountId);
    },
    /** The keys of the environment, and those of the client that the URL names. */
    async telnyxKeysOf(clientId: string | null): Promise<TelnyxKey[]> {
      return clientId === null ? telnyxKeys : [...telnyxKeys, ...(await own.telnyxKeysOf(clientId))];
    },
  };
}
