import { sql } from "drizzle-orm";
import { boolean, foreignKey, index, integer, pgPolicy, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import {
  at,
  clientId,
  createdAt,
  currentClient,
  id,
  micros,
  systemPolicy,
  tenantPolicy,
  tenantRole,
} from "../columns.ts";
import { clients } from "./clients.ts";

/** What things cost, one row per version; the one in force is the newest whose time has come. Rows are never changed. */
export const prices = pgTable(
  "prices",
  {
    id: id().primaryKey(),
    effectiveFrom: at().notNull(),
    /** What one credit costs to buy, in millionths of a US dollar. */
    creditUsdMicros: micros().notNull(),
    /** Of a minute of conversation. */
    callMicrosPerMinute: micros().notNull(),
    /** Of a minute of telephone line, from dialling on. */
    telephoneMicrosPerMinute: micros().notNull(),
    /** Durations are rounded up to this many seconds. */
    roundingSeconds: integer().notNull(),
    /** Of a voice that is trained from samples. */
    voiceCloneMicros: micros().notNull().default(50_000_000),
    /** For one client alone; null: for everybody. */
    clientId: text().references(() => clients.id),
    /** From here on the client pays by the price book again. */
    inherits: boolean().notNull().default(false),
    createdAt: createdAt(),
  },
  (t) => [
    index().on(t.clientId, t.effectiveFrom),
    pgPolicy("everyone_reads", {
      to: [tenantRole],
      for: "select",
      using: sql`${t.clientId} is null or ${t.clientId} = ${currentClient}`,
    }),
    systemPolicy(),
  ],
);

export const accountNames = ["available", "held", "revenue", "purchases", "grants", "adjustments"] as const;
export type AccountName = (typeof accountNames)[number];

/** The sums of the entries, kept beside them so that a balance is one row. */
export const ledgerAccounts = pgTable(
  "ledger_accounts",
  {
    clientId: clientId().references(() => clients.id),
    name: text({ enum: accountNames }).notNull(),
    balanceMicros: micros().notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.name] }), tenantPolicy()],
);

export const ledgerTransactions = pgTable(
  "ledger_transactions",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    kind: text({ enum: ["grant", "purchase", "hold", "settlement", "release", "adjustment"] }).notNull(),
    /** What it is for: with the kind, unique, so that nothing is posted twice. */
    sourceId: text().notNull(),
    subjectId: text(),
    priceId: text().references(() => prices.id),
    memo: text(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    unique().on(t.clientId, t.kind, t.sourceId),
    index().on(t.clientId, t.subjectId, t.id),
    tenantPolicy(),
  ],
);

export const ledgerEntries = pgTable(
  "ledger_entries",
  {
    clientId: clientId().references(() => clients.id),
    transactionId: text().notNull(),
    account: text({ enum: accountNames }).notNull(),
    amountMicros: micros().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.transactionId, t.account] }),
    foreignKey({
      columns: [t.clientId, t.transactionId],
      foreignColumns: [ledgerTransactions.clientId, ledgerTransactions.id],
    }),
    foreignKey({ columns: [t.clientId, t.account], foreignColumns: [ledgerAccounts.clientId, ledgerAccounts.name] }),
    tenantPolicy(),
  ],
);

/** Credits set aside for something that has begun. */
export const holds = pgTable(
  "holds",
  {
    clientId: clientId().references(() => clients.id),
    subjectId: text().notNull(),
    priceId: text()
      .notNull()
      .references(() => prices.id),
    amountMicros: micros().notNull(),
    capturedMicros: micros().notNull().default(0),
    status: text({ enum: ["held", "settled", "released"] })
      .notNull()
      .default("held"),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.subjectId] }), tenantPolicy()],
);
