import type { Logger } from "pino";
import { openDatabase } from "../db/client.ts";
import type { Providers } from "../routers/providers.ts";
import { authenticator } from "./authenticate.ts";
import { jwtVerifier } from "./authenticate-jwt.ts";
import { derive, type Env, roleUrls } from "./env.ts";
import { limiter } from "./limiter.ts";
import { openLog } from "./log.ts";
import { closeConnections } from "./providers/http.ts";
import { ultravox } from "./providers/ultravox.ts";
import type { WebhookSecret } from "./providers/ultravox-webhook.ts";
import { localVault } from "./providers/vault-local.ts";
import { webhookSender } from "./providers/webhook-sender.ts";

/** The account that clients without one of their own share. */
const platformAccount = "pacc_platform";

/** Builds what the entry points need, once, and closes it in order. Only here is it known which provider is in use. */
export function openDeps(env: Env, given: { log?: Logger } = {}) {
  const log = given.log ?? openLog(env.LOG_LEVEL);
  const roles = roleUrls(env);
  const db = openDatabase({ ...roles, size: env.DATABASE_POOL_SIZE });
  const accounts = [
    { id: platformAccount, apiKey: env.ULTRAVOX_API_KEY, webhookSecrets: env.ULTRAVOX_WEBHOOK_SECRETS },
    ...env.ULTRAVOX_ACCOUNTS,
  ];
  const webhookSecrets: WebhookSecret[] = accounts.flatMap(({ id, webhookSecrets }) =>
    webhookSecrets.map((secret, index) => ({ accountId: id, secretId: `${id}#${index + 1}`, secret })),
  );
  const providers: Providers = {
    ultravox: ultravox({
      baseUrl: env.ULTRAVOX_BASE_URL,
      apiKeyOf: async (accountId) => {
        const account = accounts.find(({ id }) => id === accountId);
        if (!account) throw new Error(`No provider account ${accountId} is configured.`);
        return account.apiKey;
      },
      ...(env.SIP_TRUNK ? { sipTrunk: env.SIP_TRUNK } : {}),
      log: (attempt) => log.debug({ ...attempt }, "asked a provider"),
    }),
    vault: localVault({ db, masterKey: Buffer.from(env.VAULT_MASTER_KEY, "base64") }),
    webhooks: webhookSender({ allowPrivate: env.ALLOW_PRIVATE_WEBHOOKS }),
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
  });
  return {
    env,
    log,
    db,
    roles,
    providers,
    auth,
    limiter: limiter(),
    webhookSecrets,
    signingSecret: derive(env.APP_SECRET, "signing"),
    async close() {
      await auth.settled();
      await providers.webhooks.close();
      await closeConnections();
      await db.close();
    },
  };
}

export type Deps = ReturnType<typeof openDeps>;
