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
import { clients } from "./clients.ts";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy, xid8 } from "./columns.ts";

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
    // For who tails the events of all clients.
    index().on(t.txid, t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);

export const eventCounters = pgTable(
  "event_counters",
  {
    clientId: clientId().references(() => clients.id),
    subjectId: text().notNull(),
    sequence: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.subjectId] }), tenantPolicy()],
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
    /** What was stated between these two was not queued for it: it was off. Null when nothing was missed, or no more. */
    missedSince: at(),
    missedUntil: at(),
    /** `thin`: without `data`. */
    payload: text({ enum: ["full", "thin"] })
      .notNull()
      .default("full"),
    /** `v1`: HMAC-SHA256. `v1a`: Ed25519, and then the public key can be shown. */
    signing: text({ enum: ["v1", "v1a"] })
      .notNull()
      .default("v1"),
    publicKey: text(),
    secret: bytes().notNull(),
    /** Secrets that were replaced and still sign beside the present one, each until its time is over. */
    previousSecrets: jsonb().$type<{ sealed: string; until: string }[]>().notNull().default([]),
    /** The client's own headers: a JSON object, sealed, since they may hold his secrets. Their names can be shown. */
    headers: bytes(),
    headerNames: text().array().notNull().default([]),
    /** Attempts begun in a second at most; null: as many as there are places. */
    ratePerSecond: integer(),
    /** When the next attempt may begin by that rate. */
    rateDueAt: at(),
    /** When it last took longer than a quick receiver does: slow endpoints share a part of the slots. */
    slowAt: at(),
    /** Attempts that failed since one last succeeded, and since when there are any. */
    consecutiveFailures: integer().notNull().default(0),
    failingSince: at(),
    /** To the minute. */
    lastSuccessAt: at(),
    lastFailureAt: at(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    deletedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    // An operator names an endpoint without its client.
    index().on(t.id),
    index("webhook_endpoints_unwell")
      .on(t.clientId, t.id)
      .where(sql`deleted_at is null and (status = 'disabled' or failing_since is not null)`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** Events and deliveries sent once more, a piece at a time. */
export const webhookReplays = pgTable(
  "webhook_replays",
  {
    clientId: clientId(),
    id: id(),
    endpointId: text().notNull(),
    /** `dead`: its dead letters. `missed`: events that were never queued for it. `all`: every event that it wants. */
    which: text({ enum: ["dead", "missed", "all"] }).notNull(),
    createdAfter: at().notNull(),
    createdBefore: at().notNull(),
    eventTypes: text().array(),
    status: text({ enum: ["running", "completed", "cancelled"] })
      .notNull()
      .default("running"),
    /** The id of the last event that was looked at; null before the first. */
    position: text(),
    /** Deliveries that were queued by it so far. */
    queued: integer().notNull().default(0),
    /** Which transaction asked for it: the walk begins once all that were open then are over. */
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

/** Where the operator holds deliveries back: everywhere (`all`), for a client, or for an endpoint, by its id. */
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
    status: text({ enum: ["pending", "delivered", "dead"] })
      .notNull()
      .default("pending"),
    /** Attempts made so far. */
    attempts: integer().notNull().default(0),
    /** Attempts that were made when it was last sent anew: from there the schedule counts. */
    scheduleFrom: integer().notNull().default(0),
    /** By which replay it was last sent anew. */
    replayId: text(),
    nextAttemptAt: at(),
    /** Until then the row is in the queue or at work, and counts against its endpoint's and its client's places. */
    admittedUntil: at(),
    /** Names the admission: whoever records an attempt must still hold it. */
    claim: bigint({ mode: "number" }).notNull().default(0),
    /** Its endpoint counted as slow when it was last admitted. */
    slow: boolean().notNull().default(false),
    lastStatus: integer(),
    lastError: text(),
    createdAt: createdAt(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    // The event first, so that it serves whoever asks for the deliveries of one event too.
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
    // None on the due time alone: the planner would walk everybody's backlog by it to find the next of one endpoint.
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
    /** The HTTP status, or null when no answer came. */
    status: integer(),
    error: text(),
    latencyMs: integer().notNull(),
    /** The first bytes of the answer, as text. */
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
    index("audit_unchained_of_client").on(t.clientId, t.createdAt, t.id).where(sql`position is null`),
    index().on(t.clientId, t.position),
    tenantPolicy(),
    systemPolicy(),
  ],
);
