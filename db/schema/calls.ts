import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  doublePrecision,
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
import { agents } from "./agents.ts";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, micros, systemPolicy, tenantPolicy } from "./columns.ts";

export const calls = pgTable(
  "calls",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    agentId: text().notNull(),
    agentVersion: integer().notNull(),
    direction: text({ enum: ["outbound", "inbound", "web"] }).notNull(),
    medium: text({ enum: ["web", "sip", "twilio", "telnyx", "plivo"] }).notNull(),
    to: text(),
    from: text(),
    /** For an inbound call: the values exactly as the carrier sent them. */
    fromRaw: text(),
    toRaw: text(),
    fromStatus: text({ enum: ["known", "withheld", "unreadable"] }),
    status: text({ enum: ["queued", "ringing", "active", "ended", "failed", "unknown"] }).notNull(),
    outcome: text({
      enum: ["completed", "no_answer", "busy", "rejected", "voicemail", "invalid_number", "failed", "cancelled"],
    }),
    /** The outcome is provisional until the messages were read. */
    outcomeFinal: boolean().notNull().default(false),
    failureReason: text(),
    endReason: text(),
    variables: jsonb().$type<Record<string, string | number | boolean>>().notNull(),
    metadata: jsonb().$type<Record<string, string>>().notNull(),
    maxDurationSeconds: integer().notNull(),
    joinTimeoutSeconds: integer().notNull(),
    recordingEnabled: boolean().notNull(),
    joinUrl: text(),
    providerAccountId: text().notNull(),
    providerCallId: text(),
    joinedAt: at(),
    endedAt: at(),
    billedSeconds: integer(),
    sipBilledSeconds: integer(),
    /** How often the provider's bill changed. Part of each settlement's source id. */
    billingRevision: integer().notNull().default(0),
    costMicros: micros(),
    summary: text(),
    shortSummary: text(),
    /** Settings that replace the agent's for this call; null: none. */
    overrides: jsonb().$type<Record<string, unknown>>(),
    /** From answer to end, in whole seconds; null until it has ended. */
    durationSeconds: integer(),
    /** `none`: not recorded. `pending`: not yet copied from the provider. */
    recordingStatus: text({ enum: ["none", "pending", "ready", "missing", "erased"] })
      .notNull()
      .default("none"),
    recordingKey: text(),
    recordingBytes: bigint({ mode: "number" }),
    transcriptStatus: text({ enum: ["pending", "ready", "missing", "erased"] })
      .notNull()
      .default("pending"),
    /** What was extracted from the conversation by the agent's output schema. */
    output: jsonb().$type<Record<string, unknown>>(),
    outputStatus: text({ enum: ["none", "ready", "invalid"] })
      .notNull()
      .default("none"),
    outputProblems: jsonb().$type<{ path: string; message: string }[]>(),
    /** The final state that the provider's tools left. */
    finalState: jsonb().$type<Record<string, unknown>>(),
    /** When the retention of transcript and recording ends; null: unlimited. */
    transcriptUntil: at(),
    recordingUntil: at(),
    erasedAt: at(),
    /** Hang up once the call is answered: before that the provider cannot. */
    hangUpWhenJoined: boolean().notNull().default(false),
    /** When to read the call from the provider if no webhook has arrived; null: no more news is expected. */
    checkAt: at(),
    checks: integer().notNull().default(0),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    foreignKey({ columns: [t.clientId, t.agentId], foreignColumns: [agents.clientId, agents.id] }),
    index().on(t.clientId, t.agentId, t.id),
    index().on(t.clientId, t.status, t.id),
    index().on(t.clientId, t.outcome, t.id),
    index().on(t.clientId, t.direction, t.id),
    index().on(t.clientId, t.to, t.id),
    index().on(t.clientId, t.from, t.id),
    index("calls_artifacts")
      .on(t.endedAt)
      .where(sql`recording_status in ('pending', 'missing') or transcript_status in ('pending', 'missing')`),
    index("calls_retention_transcript").on(t.transcriptUntil).where(sql`transcript_until is not null`),
    index("calls_retention_recording").on(t.recordingUntil).where(sql`recording_until is not null`),
    index("calls_check").on(t.checkAt).where(sql`check_at is not null`),
    // A provider's call is one call here, even if two processes see it for the first time.
    uniqueIndex("calls_provider").on(t.providerAccountId, t.providerCallId),
    // Filters on these columns scan only the index, newest first.
    index("calls_duration").on(t.clientId, t.id, t.durationSeconds),
    index("calls_recorded").on(t.clientId, t.id).where(sql`recording_status = 'ready'`),
    index("calls_unrecorded").on(t.clientId, t.id).where(sql`recording_status <> 'ready'`),
    // A hash index, so that the planner cannot use it to sort a list through other clients' calls.
    index("calls_by_id").using("hash", t.id),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** The metadata of calls, one row per pair: a filter on a pair scans this index, newest first. */
export const callPairs = pgTable(
  "call_pairs",
  {
    clientId: clientId().references(() => clients.id),
    key: text().notNull(),
    value: text().notNull(),
    callId: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.key, t.value, t.callId] }),
    foreignKey({ columns: [t.clientId, t.callId], foreignColumns: [calls.clientId, calls.id] }),
    index().on(t.clientId, t.callId),
    tenantPolicy(),
  ],
);

/** The words of transcripts, each once per call: under row-level security a search cannot use a text index. */
export const callWords = pgTable(
  "call_words",
  {
    clientId: clientId().references(() => clients.id),
    word: text().notNull(),
    callId: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.word, t.callId] }),
    foreignKey({ columns: [t.clientId, t.callId], foreignColumns: [calls.clientId, calls.id] }),
    index().on(t.clientId, t.callId),
    tenantPolicy(),
  ],
);

/** The messages of ended conversations. Partitioned by month. */
export const callMessages = pgTable(
  "call_messages",
  {
    clientId: clientId(),
    callId: text().notNull(),
    index: integer().notNull(),
    role: text({ enum: ["user", "agent", "tool_call", "tool_result", "other"] }).notNull(),
    text: text().notNull(),
    toolName: text(),
    startSeconds: doublePrecision(),
    endSeconds: doublePrecision(),
    /** The creation time of the call, so that all its messages are in one partition. */
    createdAt: at().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.callId, t.index, t.createdAt] }),
    foreignKey({ columns: [t.clientId, t.callId], foreignColumns: [calls.clientId, calls.id] }),
    tenantPolicy(),
  ],
);

/** The telephone legs of calls, as a carrier reports them. Only reports that are newer by the carrier's clock are applied. */
export const callLegs = pgTable(
  "call_legs",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    callId: text().notNull(),
    carrier: text({ enum: ["telnyx"] }).notNull(),
    /** The account that reported it: `pacc_…` (an account at the voice provider) or `cred_…` (the client's own). */
    carrierAccountId: text().notNull(),
    /** The carrier's ids of this leg, and of the session that the legs share. */
    carrierLegId: text().notNull(),
    carrierSessionId: text(),
    direction: text({ enum: ["incoming", "outgoing"] }),
    from: text(),
    to: text(),
    status: text({ enum: ["initiated", "answered", "ended"] }).notNull(),
    /** Our own value, such as `busy` or `no_answer`. The carrier's values follow. */
    cause: text(),
    hangupCause: text(),
    hangupSource: text(),
    sipHangupCause: text(),
    startedAt: at(),
    answeredAt: at(),
    endedAt: at(),
    durationSeconds: integer(),
    /** The carrier's charge to its customer, in its currency: an exact decimal. */
    carrierCost: text(),
    carrierCurrency: text(),
    /** When the carrier reported the cost: a later report replaces an earlier one. */
    costedAt: at(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    foreignKey({ columns: [t.clientId, t.callId], foreignColumns: [calls.clientId, calls.id] }),
    index().on(t.clientId, t.callId, t.id),
    unique().on(t.clientId, t.carrier, t.carrierLegId),
    tenantPolicy(),
  ],
);
