import { sql } from "drizzle-orm";
import { boolean, index, integer, jsonb, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { at, bytes, createdAt, id, systemPolicy, xid8 } from "./columns.ts";

/** What providers told us, word for word but for secrets; the body is empty where it was erased with its call. Partitioned by month. Of no client until it has been read. */
export const ingressEvents = pgTable(
  "ingress_events",
  {
    id: id(),
    provider: text().notNull(),
    providerAccountId: text().notNull(),
    key: text().notNull(),
    /** What the provider calls it; empty where it says nothing. */
    eventType: text().notNull().default(""),
    body: bytes().notNull(),
    headers: jsonb().$type<Record<string, string>>().notNull(),
    /** Which secret of the account matched. */
    verifiedBy: text().notNull(),
    /** A valid signature outside the time window: it changes nothing, the provider is asked instead. */
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

/** What makes an ingress event once: it outlives the partition that the event fell into. */
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

/** How far each bus has been told of events: everything up to here, in the order of commits, is there. */
export const busPositions = pgTable(
  "bus_positions",
  {
    bus: text().primaryKey(),
    txid: xid8().notNull(),
    eventId: text().notNull(),
    /** Of the present round of failures; null when the last attempt went through. */
    failingSince: at(),
    error: text(),
    /** Rounds that failed since one last went through. */
    failures: integer().notNull().default(0),
    /** The worker that tells it at present; whoever moves the position must still be it. */
    holder: text(),
    /** Nobody else begins before: it is being told, or is left in peace for a while after a failure. */
    freeAt: createdAt(),
    updatedAt: createdAt(),
  },
  () => [systemPolicy()],
);

/** Pools of workers that are alive. One that stays silent loses its locks. */
export const workerHeartbeats = pgTable(
  "worker_heartbeats",
  {
    poolId: text().primaryKey(),
    kind: text().notNull().default(""),
    /** Jobs that it runs at once. The admission of deliveries counts the slots of the pools that are alive. */
    slots: integer().notNull().default(0),
    beatAt: createdAt(),
    startedAt: createdAt(),
  },
  () => [systemPolicy()],
);

/** Jobs that came to the end of their attempts: kept for people to look at and queue again. */
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

/** Rows that a system loop could not process: it goes on without them until an operator has them retried. */
export const setApart = pgTable(
  "set_apart",
  {
    id: id().primaryKey(),
    /** The loop, such as `audit.chain`, and the row as that loop names it. */
    loop: text().notNull(),
    subject: text().notNull(),
    clientId: text(),
    reason: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [unique().on(t.loop, t.subject), systemPolicy()],
);

/** When each periodic loop last succeeded, whichever worker ran it. */
export const loopHeartbeats = pgTable(
  "loop_heartbeats",
  {
    loop: text().primaryKey(),
    periodSeconds: integer().notNull(),
    /** Since when a worker is there to run it: a loop is not late while none was. */
    watchedSince: createdAt(),
    lastSuccessAt: at(),
  },
  () => [systemPolicy()],
);
