import { sql } from "drizzle-orm";
import { bigint, boolean, index, integer, jsonb, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { at, bytes, createdAt, id, systemPolicy } from "./columns.ts";

/**
 * Webhooks from providers, as received but without secrets. The body is empty if it was erased with its call. The client is
 * null until the webhook was read. Partitioned by month.
 */
export const ingressEvents = pgTable(
  "ingress_events",
  {
    id: id(),
    provider: text().notNull(),
    providerAccountId: text().notNull(),
    key: text().notNull(),
    /** The provider's event type; empty without one. */
    eventType: text().notNull().default(""),
    body: bytes().notNull(),
    headers: jsonb().$type<Record<string, string>>().notNull(),
    /** The secret of the account that matched. */
    verifiedBy: text().notNull(),
    /** A valid signature outside the time window. The event is not applied; the call is read from the provider instead. */
    stale: boolean().notNull().default(false),
    status: text({ enum: ["received", "applied", "ignored", "failed"] })
      .notNull()
      .default("received"),
    clientId: text(),
    subjectId: text(),
    note: text(),
    attempts: integer().notNull().default(0),
    receivedAt: createdAt(),
    appliedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.id, t.receivedAt] }),
    index().on(t.status, t.receivedAt),
    index().on(t.provider, t.status, t.id),
    index("ingress_events_subject").on(t.subjectId).where(sql`subject_id is not null`),
    systemPolicy(),
  ],
);

/** The deduplication keys of ingress events. They outlive the partition of the event. */
export const ingressKeys = pgTable(
  "ingress_keys",
  {
    provider: text().notNull(),
    providerAccountId: text().notNull(),
    key: text().notNull(),
    ingressId: text().notNull(),
    receivedAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.provider, t.providerAccountId, t.key] }), index().on(t.receivedAt), systemPolicy()],
);

/** The position of each event bus: all events up to here, in commit order, were published. */
export const busPositions = pgTable(
  "bus_positions",
  {
    bus: text().primaryKey(),
    position: bigint({ mode: "number" }).notNull(),
    sequence: integer().notNull().default(0),
    eventId: text().notNull(),
    /** The first of the consecutive failures; null when the last attempt succeeded. */
    failingSince: at(),
    error: text(),
    /** Consecutive failed attempts. */
    failures: integer().notNull().default(0),
    /** The worker that publishes at present. Only this worker may move the position. */
    holder: text(),
    /** When another worker may publish: after the lease, or after the pause that follows a failure. */
    freeAt: createdAt(),
    updatedAt: createdAt(),
  },
  () => [systemPolicy()],
);

/** Live worker pools. A pool without a recent heartbeat loses its locks. */
export const workerHeartbeats = pgTable(
  "worker_heartbeats",
  {
    poolId: text().primaryKey(),
    kind: text().notNull().default(""),
    /** The number of jobs that it runs concurrently. Deliveries reserve the slots of all live pools. */
    slots: integer().notNull().default(0),
    beatAt: createdAt(),
    startedAt: createdAt(),
  },
  () => [systemPolicy()],
);

/** Dead letters: jobs that used up their attempts. An operator can inspect and queue them again. */
export const deadJobs = pgTable(
  "dead_jobs",
  {
    id: id().primaryKey(),
    task: text().notNull(),
    clientId: text(),
    payload: jsonb().$type<unknown>().notNull(),
    error: text(),
    createdAt: createdAt(),
  },
  (t) => [index().on(t.createdAt), systemPolicy()],
);

/** Rows that a system loop could not process. It continues without them until an operator retries them. */
export const setApart = pgTable(
  "set_apart",
  {
    id: id().primaryKey(),
    /** The loop, such as `audit.chain`, and its own name of the row. */
    loop: text().notNull(),
    subject: text().notNull(),
    clientId: text(),
    reason: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [unique().on(t.loop, t.subject), systemPolicy()],
);

/** When each periodic loop last succeeded, on any worker. */
export const loopHeartbeats = pgTable(
  "loop_heartbeats",
  {
    loop: text().primaryKey(),
    periodSeconds: integer().notNull(),
    /** Since when a worker is running. A loop is not late while there was none. */
    watchedSince: createdAt(),
    lastSuccessAt: at(),
  },
  () => [systemPolicy()],
);
