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

/** The telephony settings of a client; without a row, the installation's settings apply. */
export const telephonyConfigs = pgTable(
  "telephony_configs",
  {
    clientId: clientId()
      .references(() => clients.id)
      .primaryKey(),
    defaultCarrier: text({ enum: ["sip", "twilio", "telnyx", "plivo"] }),
    /** E.164. The default `from` of a call. */
    defaultFrom: text(),
    allowedCidrRanges: text().array().notNull().default([]),
    settings: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    updatedAt: createdAt(),
  },
  () => [tenantPolicy(), systemPolicy()],
);

/** A SIP account that the voice provider registers with, to receive calls there. The password is not stored. */
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
    /** As the provider reports it; null while unknown. */
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
 * The numbers, or prefixes of numbers, that an operator assigned to a client on a shared provider account. The assignments of
 * different clients never overlap. A route on that account must be within the assignments of its client.
 */
export const assignedNumbers = pgTable(
  "assigned_numbers",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    providerAccountId: text().notNull(),
    /** As the pattern of an inbound route. */
    pattern: text().notNull(),
    /** The maximum number of routes within this assignment, because the provider allows few in total. */
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

/** Which agent takes an inbound call. `rank` decides between routes of a client that match the same number. */
export const inboundRoutes = pgTable(
  "inbound_routes",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** An E.164 number, or the user part of a SIP address. A trailing `*` matches any rest. */
    pattern: text().notNull(),
    agentId: text().notNull(),
    rank: integer().notNull().default(0),
    enabled: boolean().notNull().default(true),
    description: text(),
    providerAccountId: text().notNull(),
    /** Whether the voice provider has the route. */
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
