import { sql } from "drizzle-orm";
import { boolean, foreignKey, index, integer, pgPolicy, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
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
} from "./columns.ts";

/** Prices, one row per version. The present one is the newest that is effective. Rows are immutable. */
export const prices = pgTable(
  "prices",
  {
    id: id().primaryKey(),
    effectiveFrom: at().notNull(),
    /** The price of one credit, in millionths of a US dollar. */
    creditUsdMicros: micros().notNull(),
    /** The cost of a minute of conversation. */
    callMicrosPerMinute: micros().notNull(),
    /** The cost of a minute of telephone line, counted from dialling. */
    telephoneMicrosPerMinute: micros().notNull(),
    /** Durations are rounded up to this many seconds. */
    roundingSeconds: integer().notNull(),
    /** The cost of a voice that is trained from samples. */
    voiceCloneMicros: micros().notNull().default(50_000_000),
    /** The client that this price is for; null: all clients without their own. */
    clientId: text().references(() => clients.id),
    /** Ends the client's own price: from then on the general price applies. */
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

/** The sums of the entries, stored so that a balance is one row. */
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
    /** The source of the posting. It is unique per kind, so that nothing is posted twice. */
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

/** Credits that are held for an operation in progress. */
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
