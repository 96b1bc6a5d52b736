import { sql } from "drizzle-orm";
import {
  boolean,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { agents } from "./agents.ts";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

/** How a client telephones, one row each; without one, everything is the installation's. */
export const telephonyConfigs = pgTable(
  "telephony_configs",
  {
    clientId: clientId()
      .references(() => clients.id)
      .primaryKey(),
    defaultCarrier: text({ enum: ["sip", "twilio", "telnyx", "plivo"] }),
    /** E.164; what `from` is when a call names none. */
    defaultFrom: text(),
    allowedCidrRanges: text().array().notNull().default([]),
    settings: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    updatedAt: createdAt(),
  },
  () => [tenantPolicy(), systemPolicy()],
);

/** A SIP account that the voice provider registers with, so that it can be called there. The password is kept nowhere. */
export const sipRegistrations = pgTable(
  "sip_registrations",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    username: text().notNull(),
    proxy: text().notNull(),
    outboundProxy: text(),
    authUser: text(),
    status: text({ enum: ["provisioning", "active", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    /** What the provider says: null while it does not know. */
    registered: boolean(),
    registeredAt: at(),
    providerAccountId: text().notNull(),
    providerRegistrationId: text(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    uniqueIndex("sip_registrations_one")
      .on(t.providerAccountId, t.username, t.proxy)
      .where(sql`status in ('provisioning', 'active')`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/**
 * What an operator assigned to a client on an account that clients share: numbers, or the beginnings of numbers. Between
 * clients no two fit the same. A route of that account answers within its client's own, and nowhere else.
 */
export const assignedNumbers = pgTable(
  "assigned_numbers",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    providerAccountId: text().notNull(),
    /** As in a route. */
    pattern: text().notNull(),
    /** The provider takes few routes in all: so many of them may be within this one. */
    maxRoutes: integer().notNull().default(5),
    note: text(),
    assignedBy: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    uniqueIndex("assigned_numbers_one").on(t.providerAccountId, t.pattern),
    index().on(t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** Who answers a call that comes in. Of a client's own that fit the same, `rank` decides. */
export const inboundRoutes = pgTable(
  "inbound_routes",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** An E.164 number, or the user part of a SIP address; `*` at the end stands for the rest. */
    pattern: text().notNull(),
    agentId: text().notNull(),
    rank: integer().notNull().default(0),
    enabled: boolean().notNull().default(true),
    description: text(),
    providerAccountId: text().notNull(),
    /** Does the voice provider know of it? */
    status: text({ enum: ["pending", "waiting", "live", "failed"] })
      .notNull()
      .default("pending"),
    statusReason: text(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    foreignKey({ columns: [t.clientId, t.agentId], foreignColumns: [agents.clientId, agents.id] }),
    uniqueIndex("inbound_routes_one").on(t.clientId, t.providerAccountId, t.pattern),
    index().on(t.providerAccountId, t.id),
    index().on(t.clientId, t.rank, t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);
