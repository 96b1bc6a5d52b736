import type { Logger } from "pino";
import { openDatabase } from "../db/client.ts";
import { eventsChannel } from "../db/events.ts";
import { openNotifications } from "../db/notifications.ts";
import { openEventFollowers } from "../routers/core/event-followers.ts";
import { openShares, streamLimits } from "../routers/core/shares.ts";
import { platformAccount } from "../routers/credentials/accounts.ts";
import type { Providers } from "../routers/ports/index.ts";
import { ownAccounts } from "./adapters/client-accounts.ts";
import { eventBridge } from "./adapters/event-bus-eventbridge.ts";
import { type FileStore, noFiles, s3Files } from "./adapters/files-s3.ts";
import { closeConnections } from "./adapters/http/connections.ts";
import { guardedFetch } from "./adapters/http/guarded-fetch.ts";
import { countUnknownWords } from "./adapters/shared/unknown-words.ts";
import { stripe } from "./adapters/stripe-webhook.ts";
import { publicKeyFrom, type TelnyxKey, telnyx } from "./adapters/telnyx-webhook.ts";
import { ultravox } from "./adapters/ultravox/index.ts";
import type { WebhookSecret } from "./adapters/ultravox/webhook.ts";
import { openVault } from "./adapters/vault.ts";
import { openKms } from "./adapters/vault-kms.ts";
import { localMaster } from "./adapters/vault-local.ts";
import { vendors } from "./adapters/vendors.ts";
import { webhookSender } from "./adapters/webhook-sender.ts";
import { authenticator } from "./auth.ts";
import { jwtVerifier } from "./auth-jwt.ts";
import { derive, type Env, roleUrls } from "./env.ts";
import { limiter } from "./limiter.ts";
import { openLog } from "./log.ts";

/** Builds what the entry points need, once, and closes it in order. Only here is it known which provider is in use. */
export function openDeps(env: Env, given: { log?: Logger; laneWaitMs?: number } = {}) {
  const log = given.log ?? openLog(env.LOG_LEVEL);
  const roles = roleUrls(env);
  const db = openDatabase({
    ...roles,
    size: env.DATABASE_POOL_SIZE,
    ...(given.laneWaitMs === undefined ? {} : { maxWaitMs: given.laneWaitMs }),
  });
  const notices = openNotifications({
    url: roles.tenantUrl,
    channel: eventsChannel,
    onLoss: (reason) => log.warn({ reason }, "the connection that hears of events was lost"),
  });
  const live = openEventFollowers(notices);
  const unknownWords = countUnknownWords((word) =>
    log.warn({ ...word, alert: true }, "a provider used a word that is not known; it is kept, and mapped to other"),
  );
  const accounts = [
    { id: platformAccount, apiKey: env.ULTRAVOX_API_KEY, webhookSecrets: env.ULTRAVOX_WEBHOOK_SECRETS },
    ...env.ULTRAVOX_ACCOUNTS,
  ];
  const configured: WebhookSecret[] = accounts.flatMap(({ id, webhookSecrets }) =>
    webhookSecrets.map((secret, index) => ({ accountId: id, secretId: `${id}#${index + 1}`, secret })),
  );
  const telnyxKeys = env.TELNYX_PUBLIC_KEYS.flatMap(({ account = platformAccount, key }, index): TelnyxKey[] => {
    const publicKey = publicKeyFrom(key);
    return publicKey ? [{ accountId: account, keyId: `${account}#${index + 1}`, publicKey }] : [];
  });
  const { masters, kms } = openMasters(env);
  const [master, ...previous] = masters;
  const { vault, masterKeys } = openVault({ db, master, previous });
  const own = ownAccounts({ db, vault });
  const files = openFiles(env);
  const rules = { allowPrivate: env.ALLOW_PRIVATE_WEBHOOKS, allowed: env.PRIVATE_ADDRESSES_ALLOWED };
  const guarded = guardedFetch(rules);
  const bus = openBus(env);
  const providers: Providers = {
    bus,
    ultravox: ultravox({
      baseUrl: env.ULTRAVOX_BASE_URL,
      apiKeyOf: async (accountId) => {
        const account = accounts.find(({ id }) => id === accountId);
        return account ? account.apiKey : own.apiKeyOf(accountId);
      },
      installationAccounts: accounts.map(({ id }) => id),
      ...(env.PUBLIC_URL ? { publicUrl: env.PUBLIC_URL } : {}),
      ...(env.SIP_TRUNK ? { sipTrunk: env.SIP_TRUNK } : {}),
      log: (attempt) => log.debug({ ...attempt }, "asked a provider"),
    }),
    telnyx,
    stripe,
    vault,
    masterKeys,
    webhooks: webhookSender(rules),
    files,
    vendors: vendors({
      baseUrls: env.VENDOR_BASE_URLS,
      log: (attempt) => log.debug({ ...attempt }, "asked a provider"),
    }),
    guarded,
  };
  const auth = authenticator({
    db,
    log,
    verifyJwt: jwtVerifier({
      issuer: env.AUTH_ISSUER,
      audience: env.AUTH_AUDIENCE,
      ...(env.AUTH_JWKS_URL ? { jwksUri: env.AUTH_JWKS_URL } : {}),
    }),
    clientsClaim: env.AUTH_CLIENTS_CLAIM,
    pepper: derive(env.APP_SECRET, "api keys"),
    operators: env.PLATFORM_SUBJECTS,
    services: env.INTERNAL_SERVICE_TOKENS,
  });
  return {
    env,
    log,
    db,
    roles,
    providers,
    auth,
    limiter: limiter(),
    /** Who follows events. */
    live,
    /** Responses that are being streamed. */
    streams: openShares("streamed responses", streamLimits),
    /** Aborted as soon as the process is told to stop, while it still serves. */
    stopping: new AbortController(),
    /** Words of providers that are not in our lists, and how often this process has met each. */
    unknownWords: unknownWords.counts,
    /** Of the accounts of the environment; or of one account alone, by its id. Empty for an account that nobody knows. */
    async webhookSecretsOf(accountId: string | null): Promise<WebhookSecret[]> {
      if (accountId === null) return configured;
      const found = configured.filter((secret) => secret.accountId === accountId);
      return found.length > 0 ? found : own.webhookSecretsOf(accountId);
    },
    /** Of the accounts of the environment, and of the client's own, where the address names a client. */
    async telnyxKeysOf(clientId: string | null): Promise<TelnyxKey[]> {
      return clientId === null ? telnyxKeys : [...telnyxKeys, ...(await own.telnyxKeysOf(clientId))];
    },
    signingSecret: derive(env.APP_SECRET, "signing"),
    async close() {
      live.end();
      unknownWords.close();
      await notices.close();
      await auth.settled();
      await providers.webhooks.close();
      await guarded.close();
      await closeConnections();
      files.close();
      kms?.close();
      bus?.close();
      await db.close();
    },
  };
}

export type Deps = ReturnType<typeof openDeps>;

/** The present master key first, and those that came before. */
function openMasters(env: Env) {
  const { VAULT_KMS_REGION: region, VAULT_KMS_ENDPOINT: endpoint, VAULT_KMS_KEY_ID: keyId } = env;
  const kms = region ? openKms({ region, ...(endpoint ? { endpoint } : {}) }) : null;
  const ofKms = [...(keyId ? [keyId] : []), ...env.VAULT_KMS_PREVIOUS_KEY_IDS].flatMap((id) => kms?.master(id) ?? []);
  const keys = [...(env.VAULT_MASTER_KEY ? [env.VAULT_MASTER_KEY] : []), ...env.VAULT_PREVIOUS_MASTER_KEYS];
  const local = keys.map((key) => localMaster(Buffer.from(key, "base64")));
  const [first, ...rest] = keyId ? [...ofKms, ...local] : [...local, ...ofKms];
  if (!first) throw new Error("There is no master key.");
  return { masters: [first, ...rest] as const, kms };
}

/** Off unless it is named. */
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
