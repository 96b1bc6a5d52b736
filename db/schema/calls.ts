import { sql } from "drizzle-orm";
import {
  boolean,
  doublePrecision,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
} from "drizzle-orm/pg-core";
import { at, clientId, createdAt, houseSees, id, micros, wall } from "../columns.ts";
import { agents } from "./agents.ts";
import { clients } from "./clients.ts";

export const calls = pgTable(
  "calls",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    agentId: text().notNull(),
    agentVersion: integer().notNull(),
    direction: text({ enum: ["outbound", "web"] }).notNull(),
    medium: text({ enum: ["web", "sip", "twilio", "telnyx", "plivo"] }).notNull(),
    to: text(),
    from: text(),
    status: text({ enum: ["queued", "ringing", "active", "ended", "failed", "unknown"] }).notNull(),
    outcome: text({
      enum: ["completed", "no_answer", "busy", "rejected", "voicemail", "invalid_number", "failed", "cancelled"],
    }),
    /** An outcome is provisional until the messages have been read. */
    outcomeFinal: boolean().notNull().default(false),
    failureReason: text(),
    endReason: text(),
    variables: jsonb().$type<Record<string, string>>().notNull(),
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
    /** How often the provider's bill changed; part of each settlement's source. */
    billingRevision: integer().notNull().default(0),
    costMicros: micros(),
    summary: text(),
    shortSummary: text(),
    /** When the provider should be asked, should its webhooks stay away; null when nothing more is expected. */
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
    index("calls_check").on(t.checkAt).where(sql`check_at is not null`),
    index("calls_provider").on(t.providerAccountId, t.providerCallId),
    index("calls_by_id").on(t.id),
    wall(),
    houseSees(),
  ],
);

/** The conversation, once it is over. Partitioned by month. */
export const callMessages = pgTable(
  "call_messages",
  {
    clientId: clientId(),
    callId: text().notNull(),
    index: integer().notNull(),
    role: text({ enum: ["user", "agent", "tool_call", "tool_result"] }).notNull(),
    text: text().notNull(),
    toolName: text(),
    startSeconds: doublePrecision(),
    endSeconds: doublePrecision(),
    /** The creation time of the call, so that all its messages lie in one partition. */
    createdAt: at().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.callId, t.index, t.createdAt] }),
    foreignKey({ columns: [t.clientId, t.callId], foreignColumns: [calls.clientId, calls.id] }),
    wall(),
  ],
);
