import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { ownPosition } from "../event-position.ts";
import { clients } from "./clients.ts";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy, xid8 } from "./columns.ts";

/** Events, written in the transaction that made them true. Partitioned by month. */
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
    /**
     * Its place in the order of commits: (position, sequence, id). Whoever follows the events reads only below
     * `eventHorizon`, and so skips no late commit. `emit` sets it.
     */
    position: bigint({ mode: "number" }).notNull().default(sql`${ownPosition}`),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id, t.createdAt] }),
    index().on(t.clientId, t.position, t.sequence, t.id),
    index().on(t.clientId, t.subjectId, t.sequence),
    // For the bus, which follows the events of all clients.
    index().on(t.position, t.sequence, t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);

export const eventCounters = pgTable(
  "event_counters",
  {
    clientId: clientId().references(() => clients.id),
    subjectId: text().notNull(),
    /** Of the last event. */
    sequence: integer().notNull(),
    position: bigint({ mode: "number" }).notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.subjectId] }), tenantPolicy()],
);

/** Events whose deliveries are not written yet. The workers remove a row in the commit that writes its deliveries. */
export const eventFanOuts = pgTable(
  "event_fan_outs",
  {
    clientId: clientId(),
    eventId: text().notNull(),
    /** So that only one partition of `events` is read. */
    eventCreatedAt: at().notNull(),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.eventId] }), tenantPolicy(), systemPolicy()],
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
    disabledCode: text({ enum: ["request", "gone", "failures", "days"] }),
    disabledAt: at(),
    /** Events between these two were not queued, because the endpoint was disabled. Null: nothing is missed. */
    missedSince: at(),
    missedUntil: at(),
    /** `thin`: without `data`. */
    payload: text({ enum: ["full", "thin"] })
      .notNull()
      .default("full"),
    /** `v1`: HMAC-SHA256. `v1a`: Ed25519, with a public key that can be shown. */
    signing: text({ enum: ["v1", "v1a"] })
      .notNull()
      .default("v1"),
    publicKey: text(),
    secret: bytes().notNull(),
    /** Replaced secrets that still sign beside the present one, each until it expires. */
    previousSecrets: jsonb().$type<{ sealed: string; until: string }[]>().notNull().default([]),
    /** The client's own headers: a JSON object, sealed because they can contain secrets. Their names can be shown. */
    headers: bytes(),
    headerNames: text().array().notNull().default([]),
    /** The maximum number of attempts started per second; null: limited by the slots only. */
    ratePerSecond: integer(),
    /** When that rate allows the next attempt. */
    rateDueAt: at(),
    /** When it last responded slowly. Slow endpoints share a part of the slots. */
    slowAt: at(),
    /** Consecutive failed attempts, and the time of the first of them. */
    consecutiveFailures: integer().notNull().default(0),
    failingSince: at(),
    /** Updated at most once a minute. */
    lastSuccessAt: at(),
    lastFailureAt: at(),
    /** A person (`user_…`) or a key (`key_…`). Null: created before this was stored. */
    createdBy: text(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    deletedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    // Operators name an endpoint without its client.
    index().on(t.id),
    index("webhook_endpoints_unwell")
      .on(t.clientId, t.id)
      .where(sql`deleted_at is null and (status = 'disabled' or failing_since is not null)`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** Replays of events and deliveries, which run in batches. */
export const webhookReplays = pgTable(
  "webhook_replays",
  {
    clientId: clientId(),
    id: id(),
    endpointId: text().notNull(),
    /** `dead`: the dead letters. `missed`: events that were never queued. `all`: every event that the endpoint subscribes to. */
    which: text({ enum: ["dead", "missed", "all"] }).notNull(),
    createdAfter: at().notNull(),
    createdBefore: at().notNull(),
    eventTypes: text().array(),
    status: text({ enum: ["running", "completed", "cancelled"] })
      .notNull()
      .default("running"),
    /** The id of the last event that was examined; null before the first. */
    position: text(),
    /** Deliveries queued by it so far. */
    queued: integer().notNull().default(0),
    /** The transaction that created it. The replay starts once all transactions that were open then have ended. */
    txid: xid8().notNull().default(sql`pg_current_xact_id()`),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    foreignKey({
      columns: [t.clientId, t.endpointId],
      foreignColumns: [webhookEndpoints.clientId, webhookEndpoints.id],
    }),
    index().on(t.clientId, t.endpointId, t.id),
    uniqueIndex("webhook_replays_running").on(t.clientId, t.endpointId).where(sql`status = 'running'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** The operator's pauses of deliveries. The scope is `all`, a client id or an endpoint id. */
export const deliveryPauses = pgTable(
  "delivery_pauses",
  {
    scope: text().primaryKey(),
    reason: text().notNull(),
    pausedBy: text().notNull(),
    pausedAt: createdAt(),
  },
  () => [systemPolicy()],
);

/** The delivery of one event to one endpoint. `nextAttemptAt` is the due time; a reserved slot is a lease that expires. */
export const deliveries = pgTable(
  "deliveries",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    endpointId: text().notNull(),
    eventId: text().notNull(),
    eventType: text().notNull(),
    eventCreatedAt: at().notNull(),
    status: text({ enum: ["pending", "delivered", "dead"] })
      .notNull()
      .default("pending"),
    /** Attempts made so far. */
    attempts: integer().notNull().default(0),
    /** The number of attempts when it was last redelivered or replayed: the retry schedule counts from there. */
    scheduleFrom: integer().notNull().default(0),
    /** The replay that last queued it. */
    replayId: text(),
    nextAttemptAt: at(),
    /** Until then it is queued or running, and uses a slot of its endpoint and of its client. */
    admittedUntil: at(),
    /** The number of the reservation. An attempt is recorded only if it still holds this number. */
    claim: bigint({ mode: "number" }).notNull().default(0),
    /** Whether its endpoint counted as slow when the slot was reserved. */
    slow: boolean().notNull().default(false),
    lastStatus: integer(),
    lastError: text(),
    createdAt: createdAt(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    // The event first, so that the index also serves the deliveries of one event.
    unique().on(t.clientId, t.eventId, t.endpointId),
    foreignKey({
      columns: [t.clientId, t.endpointId],
      foreignColumns: [webhookEndpoints.clientId, webhookEndpoints.id],
    }),
    index().on(t.clientId, t.endpointId, t.id),
    index("deliveries_dead").on(t.clientId, t.id).where(sql`status = 'dead'`),
    index("deliveries_dead_since").on(t.clientId, t.finishedAt).where(sql`status = 'dead'`),
    index("deliveries_dead_of_endpoint").on(t.clientId, t.endpointId, t.id).where(sql`status = 'dead'`),
    index("deliveries_of_replay").on(t.clientId, t.replayId, t.status).where(sql`replay_id is not null`),
    // No index on the due time alone: the planner would scan the backlog of all clients for the next one of an endpoint.
    index("deliveries_waiting")
      .on(t.clientId, t.endpointId, t.nextAttemptAt)
      .where(sql`status = 'pending' and admitted_until is null`),
    index("deliveries_in_flight")
      .on(t.clientId, t.endpointId, t.admittedUntil, t.slow)
      .where(sql`status = 'pending' and admitted_until is not null`),
    tenantPolicy(),
    systemPolicy(),
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
    /** The HTTP status; null without a response. */
    status: integer(),
    error: text(),
    latencyMs: integer().notNull(),
    /** The first bytes of the response body, as text. */
    response: text(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id, t.createdAt] }),
    index().on(t.clientId, t.deliveryId, t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** The audit log. Partitioned by month. Written in the commit of the command; chained by a job. */
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
    /** The position in the client's chain, and the hash over this row and the previous hash; null until chained. */
    position: bigint({ mode: "number" }),
    hash: text(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id, t.createdAt] }),
    index("audit_unchained_of_client").on(t.clientId, t.createdAt, t.id).where(sql`position is null`),
    index().on(t.clientId, t.position),
    tenantPolicy(),
    systemPolicy(),
  ],
);
