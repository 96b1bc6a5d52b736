import type { Logger } from "pino";
import type { Database } from "../db/client.ts";
import type { Providers } from "../routers/ports/index.ts";
import { eventBridge } from "./adapters/event-bus-eventbridge.ts";
import { type FileStore, noFiles, s3Files } from "./adapters/files-s3.ts";
import type { Attempt } from "./adapters/http/client.ts";
import { guardedFetch } from "./adapters/http/guarded-fetch.ts";
import { stripe } from "./adapters/stripe-webhook.ts";
import { telnyx } from "./adapters/telnyx-webhook.ts";
import { ultravox } from "./adapters/ultravox/index.ts";
import { openVault } from "./adapters/vault.ts";
import { openKms } from "./adapters/vault-kms.ts";
import { localMaster } from "./adapters/vault-local.ts";
import { vendors } from "./adapters/vendors.ts";
import { webhookSender } from "./adapters/webhook-sender.ts";
import type { ConfiguredAccount, OwnAccounts } from "./configured-accounts.ts";
import type { Env } from "./env.ts";

type Vaults = ReturnType<typeof openMasterVault>;
type Parts = { log: Logger; vaults: Vaults; accounts: readonly ConfiguredAccount[]; own: OwnAccounts };

/** Chooses the adapter of every port: no other file does. */
export function openProviders(env: Env, { log, vaults, accounts, own }: Parts) {
  const files = openFiles(env);
  const rules = { allowPrivate: env.ALLOW_PRIVATE_WEBHOOKS, allowed: env.PRIVATE_ADDRESSES_ALLOWED };
  const guarded = guardedFetch(rules);
  const webhooks = webhookSender(rules);
  const bus = openBus(env);
  const logAttempt = (attempt: Attempt) => log.debug({ ...attempt }, "provider request");
  const providers: Providers = {
    bus,
    ultravox: ultravox({
      baseUrl: env.ULTRAVOX_BASE_URL,
      apiKeyOf: async (accountId) => {
        const account = accounts.find(({ id }) => id === accountId);
        return account ? account.apiKey : own.apiKeyOf(accountId);
      },
      installationAccounts: accounts.map(({ id }) => id),
      publicUrl: env.PUBLIC_URL,
      sipTrunk: env.SIP_TRUNK,
      log: logAttempt,
    }),
    telnyx,
    stripe,
    vault: vaults.vault,
    masterKeys: vaults.masterKeys,
    webhooks,
    files,
    vendors: vendors({ baseUrls: env.VENDOR_BASE_URLS, log: logAttempt }),
    guarded,
  };
  const close = async () => {
    await webhooks.close();
    await guarded.close();
    files.close();
    vaults.close();
    bus?.close();
  };
  return { providers, close };
}

export function openMasterVault(env: Env, db: Database) {
  const { masters, kms } = openMasters(env);
  const [master, ...previous] = masters;
  return { ...openVault({ db, master, previous }), close: () => kms?.close() };
}

/** The present master key first, then the previous ones. */
function openMasters(env: Env) {
  const { VAULT_KMS_REGION: region, VAULT_KMS_ENDPOINT: endpoint, VAULT_KMS_KEY_ID: keyId } = env;
  const kms = region ? openKms({ region, ...(endpoint ? { endpoint } : {}) }) : null;
  const ofKms = [...(keyId ? [keyId] : []), ...env.VAULT_KMS_PREVIOUS_KEY_IDS].flatMap((id) => kms?.master(id) ?? []);
  const keys = [...(env.VAULT_MASTER_KEY ? [env.VAULT_MASTER_KEY] : []), ...env.VAULT_PREVIOUS_MASTER_KEYS];
  const local = keys.map((key) => localMaster(Buffer.from(key, "base64")));
  const [first, ...rest] = keyId ? [...ofKms, ...local] : [...local, ...ofKms];
  if (!first) throw new Error("No master key is configured. Set VAULT_MASTER_KEY or VAULT_KMS_KEY_ID.");
  return { masters: [first, ...rest] as const, kms };
}

/** null unless EVENT_BUS_NAME is set. */
function openBus({
  EVENT_BUS_NAME: name,
  EVENT_BUS_REGION: region,
  EVENT_BUS_SOURCE: source,
  EVENT_BUS_ENDPOINT: endpoint,
}: Env) {
  if (!name || !region) return null;
  return eventBridge({ name, region, source, ...(endpoint ? { endpoint } : {}) });
}

function openFiles(env: Env): FileStore {
  if (!env.S3_BUCKET) return noFiles();
  const { S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey } = env;
  return s3Files({
    bucket: env.S3_BUCKET,
    region: env.S3_REGION,
    endpoint: env.S3_ENDPOINT,
    publicEndpoint: env.S3_PUBLIC_ENDPOINT,
    credentials: accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : undefined,
    forcePathStyle: env.S3_FORCE_PATH_STYLE,
  });
}
