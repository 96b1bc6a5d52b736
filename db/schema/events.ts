import { sql } from "drizzle-orm";
import { bigint, foreignKey, index, integer, jsonb, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { at, bytes, clientId, createdAt, houseSees, id, wall, xid8 } from "../columns.ts";
import { clients } from "./clients.ts";

/** Facts, in the transaction that made them true. Partitioned by month. */
export const events = pgTable(
  "events",
  {
    clientId: clientId(),
    id: id(),
    type: text().notNull(),
    subjectType: text().notNull(),
    subjectId: text().notNull(),
    sequence: integer().notNull(),
    data: jsonb().$type<unknown>().notNull(),
    /** Which transaction wrote it: a tailer reads below the oldest one still running, so that late commits are not skipped. */
    txid: xid8().notNull().default(sql`pg_current_xact_id()`),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id, t.createdAt] }),
    index().on(t.clientId, t.txid, t.id),
    index().on(t.clientId, t.subjectId, t.sequence),
    wall(),
  ],
);

export const eventCounters = pgTable(
  "event_counters",
  {
    clientId: clientId().references(() => clients.id),
    subjectId: text().notNull(),
    sequence: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.subjectId] }), wall()],
);

export const webhookEndpoints = pgTable(
  "webhook_endpoints",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    url: text().notNull(),
    description: text(),
    /** Event types, or `call.*`, or `*`. */
    eventTypes: text().array().notNull(),
    status: text({ enum: ["enabled", "disabled"] })
      .notNull()
      .default("enabled"),
    disabledReason: text(),
    secret: bytes().notNull(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    deletedAt: at(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), wall(), houseSees()],
);

/** One event on its way to one endpoint. `nextAttemptAt` is the truth of when; an admission is a lease that expires. */
export const deliveries = pgTable(
  "deliveries",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    endpointId: text().notNull(),
    eventId: text().notNull(),
    eventType: text().notNull(),
    eventCreatedAt: at().notNull(),
    state: text({ enum: ["pending", "delivered", "dead"] })
      .notNull()
      .default("pending"),
    /** Attempts made so far. */
    attempts: integer().notNull().default(0),
    nextAttemptAt: at(),
    /** Until then the row is in the queue or at work, and counts against its endpoint's and its client's places. */
    admittedUntil: at(),
    /** Names the admission: whoever records an attempt must still hold it. */
    claim: bigint({ mode: "number" }).notNull().default(0),
    lastStatus: integer(),
    lastError: text(),
    createdAt: createdAt(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    unique().on(t.clientId, t.endpointId, t.eventId),
    foreignKey({
      columns: [t.clientId, t.endpointId],
      foreignColumns: [webhookEndpoints.clientId, webhookEndpoints.id],
    }),
    index().on(t.clientId, t.endpointId, t.id),
    // None on the due time alone: the planner would walk everybody's backlog by it to find the next of one endpoint.
    index("deliveries_waiting")
      .on(t.clientId, t.endpointId, t.nextAttemptAt)
      .where(sql`state = 'pending' and admitted_until is null`),
    index("deliveries_in_flight")
      .on(t.clientId, t.endpointId, t.admittedUntil)
      .where(sql`state = 'pending' and admitted_until is not null`),
    wall(),
    houseSees(),
  ],
);

/** Every attempt at a delivery. Partitioned by month. */
export const deliveryAttempts = pgTable(
  "delivery_attempts",
  {
    clientId: clientId(),
    id: id(),
    deliveryId: text().notNull(),
    endpointId: text().notNull(),
    attempt: integer().notNull(),
    /** The HTTP status, or null when no answer came. */
    status: integer(),
    error: text(),
    latencyMs: integer().notNull(),
    /** The first bytes of the answer, as text. */
    response: text(),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id, t.createdAt] }), index().on(t.clientId, t.deliveryId, t.id), wall()],
);

/** Who did what. Partitioned by month. Written in the commit of the command; chained afterwards. */
export const auditLog = pgTable(
  "audit_log",
  {
    clientId: clientId(),
    id: id(),
    actor: text().notNull(),
    action: text().notNull(),
    subjectId: text(),
    input: jsonb().$type<unknown>().notNull(),
    requestId: text().notNull(),
    createdAt: createdAt(),
    /** Its place in the client's chain, and the hash over the row and the one before; null until chained. */
    position: bigint({ mode: "number" }),
    hash: text(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id, t.createdAt] }),
    index("audit_unchained").on(t.createdAt).where(sql`position is null`),
    index().on(t.clientId, t.position),
    wall(),
    houseSees(),
  ],
);
