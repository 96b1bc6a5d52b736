import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, text, unique, uniqueIndex } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

/** A client's credentials at other companies, one per provider. Secrets are stored sealed. */
export const credentials = pgTable(
  "credentials",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** `ultravox`, `elevenlabs`, …, or `custom-<name>` for a secret of a tool. */
    provider: text().notNull(),
    /** The beginning of the secret, so that people recognise it. */
    prefix: text().notNull(),
    /** JSON of the secret fields, sealed for `provider_credential` and this row. */
    sealed: bytes().notNull(),
    /** The fields that are not secret, such as an account id or a trunk's host. */
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
 * A client's own account at the voice provider. The account that all other clients share is configured in the environment
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
    /** The provider's name of the account. It is unique: two clients with one account would affect each other's calls. */
    providerName: text(),
    /** Sealed for `provider_credential` and this row; null once the account is retired and its webhook removed. */
    apiKey: bytes(),
    /** Our webhook at the provider, and its secret, sealed for `webhook_secret` and this row. */
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
