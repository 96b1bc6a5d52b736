import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, text, unique, uniqueIndex } from "drizzle-orm/pg-core";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy } from "../columns.ts";
import { clients } from "./clients.ts";

/** What a client shows at other companies' doors, one per provider. The secret is kept only sealed. */
export const credentials = pgTable(
  "credentials",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** `ultravox`, `elevenlabs`, …, or `custom-<name>` for a tool's own. */
    provider: text().notNull(),
    /** How the secret begins, so that people recognise it. */
    prefix: text().notNull(),
    /** JSON of the secret fields, sealed for `provider_credential` and this row. */
    sealed: bytes().notNull(),
    /** What is not secret: an account's id, a trunk's host. */
    details: jsonb().$type<Record<string, string>>().notNull().default({}),
    status: text({ enum: ["unverified", "verified", "invalid"] })
      .notNull()
      .default("unverified"),
    statusReason: text(),
    verifiedAt: at(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), unique().on(t.clientId, t.provider), tenantPolicy()],
);

/**
 * An account at the voice provider that is a client's own. The account that all others share is in the environment,
 * and has no row.
 */
export const providerAccounts = pgTable(
  "provider_accounts",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    status: text({ enum: ["active", "retired"] })
      .notNull()
      .default("active"),
    /** The account as the provider names it: two clients with one account would move each other's calls. */
    providerName: text(),
    /** Sealed for `provider_credential` and this row; null once the account is given up and its webhook removed. */
    apiKey: bytes(),
    /** The webhook that was made there, and its secret, sealed for `webhook_secret` and this row. */
    providerWebhookId: text(),
    webhookSecret: bytes(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    index("provider_accounts_by_id").on(t.id),
    uniqueIndex("provider_accounts_one_active").on(t.clientId).where(sql`status = 'active'`),
    uniqueIndex("provider_accounts_one_owner").on(t.providerName).where(sql`status = 'active'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
