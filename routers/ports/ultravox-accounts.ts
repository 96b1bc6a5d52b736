import type { Deadline } from "./provider-error.ts";

export interface UltravoxAccounts {
  /** The webhook URL for an account; null if this installation has no public URL. */
  webhookUrl(accountId: string): string | null;
  /**
   * The account of an API key, and whether it is one of the installation's. Called before the key is stored. Throws
   * ProviderError `refused` for an invalid key.
   */
  describeAccount(apiKey: string, deadline: Deadline): Promise<{ providerName: string; isInstallations: boolean }>;
  /** Creates our webhook in the account. An existing one with this URL gets the secret instead. */
  ensureWebhook(
    accountId: string,
    webhook: { url: string; secret: string },
    deadline: Deadline,
  ): Promise<{ providerWebhookId: string }>;
  removeWebhook(accountId: string, providerWebhookId: string, deadline: Deadline): Promise<void>;
}
