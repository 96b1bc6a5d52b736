import type { Logger } from "pino";
import { type Database, openDatabase } from "../db/client.ts";
import { openNotifications } from "../db/notifications.ts";
import { eventsChannel } from "../db/notifier.ts";
import { openEventFollowers } from "../routers/core/event-followers.ts";
import { openShares, streamLimits } from "../routers/core/shares.ts";
import { ownAccounts } from "./adapters/client-accounts.ts";
import { closeConnections } from "./adapters/http/connections.ts";
import { countUnknownWords } from "./adapters/shared/unknown-words.ts";
import { authenticator } from "./auth.ts";
import { jwtVerifier } from "./auth-jwt.ts";
import { configuredAccounts, webhookKeysOf } from "./configured-accounts.ts";
import { derive, type Env, roleUrls } from "./env.ts";
import { limiter, multipliedLimits } from "./limiter.ts";
import { openLog } from "./log.ts";
import { openMasterVault, openProviders } from "./providers.ts";
import { RequestGate } from "./request-gate.ts";

/** Creates what the entry points need, once, and closes it in order. */
export function openDeps(env: Env, options: { log?: Logger; laneWaitMs?: number } = {}) {
  const log = options.log ?? openLog(env.LOG_LEVEL);
  const roles = roleUrls(env);
  const db = openDatabase({
    ...roles,
    size: env.DATABASE_POOL_SIZE,
    ...(options.laneWaitMs === undefined ? {} : { maxWaitMs: options.laneWaitMs }),
  });
  const notifications = openNotifications({
    url: roles.tenantUrl,
    channel: eventsChannel,
    onLoss: (reason) => log.warn({ reason }, "notification connection lost; will reconnect"),
  });
  const live = openEventFollowers(notifications);
  const unknownWords = countUnknownWords((word) =>
    log.warn({ ...word, alert: true }, "unknown provider value; stored as received and mapped to other"),
  );
  const vaults = openMasterVault(env, db);
  const accounts = configuredAccounts(env);
  const own = ownAccounts({ db, vault: vaults.vault });
  const { providers, close: closeProviders } = openProviders(env, { log, vaults, accounts, own });
  const auth = openAuth(env, db, log);
  return {
    env,
    log,
    db,
    roles,
    providers,
    auth,
    limiter: limiter(undefined, multipliedLimits(env.RATE_LIMIT_MULTIPLIER)),
    /** Of commits, by other processes and by this one. */
    notifications,
    /** The turns of clients in this process. */
    gate: new RequestGate(),
    /** Followers of events. */
    live,
    /** Responses that are being streamed. */
    streams: openShares("streamed responses", streamLimits),
    /** Aborted when the shutdown begins, while the process still serves. */
    stopping: new AbortController(),
    /** Unknown values of provider enums, and how often each occurred in this process. */
    unknownWords: unknownWords.counts,
    ...webhookKeysOf(env, accounts, own),
    signingSecret: derive(env.APP_SECRET, "signing"),
    async close() {
      live.end();
      unknownWords.close();
      await notifications.close();
      await auth.settled();
      await closeProviders();
      await closeConnections();
      await db.close();
    },
  };
}

export type Deps = ReturnType<typeof openDeps>;

const openAuth = (env: Env, db: Database, log: Logger) =>
  authenticator({
    db,
    log,
    verifyJwt: jwtVerifier({ issuer: env.AUTH_ISSUER, audience: env.AUTH_AUDIENCE, jwksUri: env.AUTH_JWKS_URL }),
    clientsClaim: env.AUTH_CLIENTS_CLAIM,
    pepper: derive(env.APP_SECRET, "api keys"),
    operators: env.PLATFORM_SUBJECTS,
    services: env.INTERNAL_SERVICE_TOKENS,
  });
