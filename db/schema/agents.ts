import { sql } from "drizzle-orm";
import { foreignKey, index, integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

export const agents = pgTable(
  "agents",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    status: text({ enum: ["provisioning", "active", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    /** The version that calls use; 0 until the first is live. */
    version: integer().notNull().default(0),
    providerAccountId: text().notNull(),
    providerAgentId: text(),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    /** When the provider's copy was last compared with ours, and how often it had to be corrected. */
    comparedAt: createdAt(),
    drifts: integer().notNull().default(0),
    /** The variables that a call of the live version must have; null until they are computed. */
    requiredVariables: text().array(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    index("agents_provider").on(t.providerAccountId, t.providerAgentId),
    index("agents_compare").on(t.comparedAt).where(sql`status = 'active'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** The resources that the live version of an agent uses: checked before one of them is deleted. */
export const agentUses = pgTable(
  "agent_uses",
  {
    clientId: clientId().references(() => clients.id),
    agentId: text().notNull(),
    kind: text({ enum: ["voice", "knowledge_base", "tool", "credential"] }).notNull(),
    targetId: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.agentId, t.kind, t.targetId] }),
    foreignKey({ columns: [t.clientId, t.agentId], foreignColumns: [agents.clientId, agents.id] }),
    index().on(t.clientId, t.kind, t.targetId),
    tenantPolicy(),
  ],
);

/** Every version of an agent. They are never deleted, because calls refer to the one they used. */
export const agentVersions = pgTable(
  "agent_versions",
  {
    clientId: clientId().references(() => clients.id),
    agentId: text().notNull(),
    version: integer().notNull(),
    name: text().notNull(),
    config: jsonb().$type<unknown>().notNull(),
    status: text({ enum: ["pending", "live", "retired", "failed"] }).notNull(),
    /** The fields that differ from the version that was live when this one was created. */
    changed: text().array().notNull().default([]),
    /** The agent's metadata once this version is live; null: unchanged. */
    metadata: jsonb().$type<Record<string, string>>(),
    providerRevisionId: text(),
    createdBy: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.agentId, t.version] }),
    foreignKey({ columns: [t.clientId, t.agentId], foreignColumns: [agents.clientId, agents.id] }),
    tenantPolicy(),
  ],
);

/** A provider command, written before its request is sent. While it is open, its outcome is unknown. */
export const intents = pgTable(
  "intents",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    kind: text().notNull(),
    subjectId: text().notNull(),
    status: text({ enum: ["open", "settled"] })
      .notNull()
      .default("open"),
    outcome: text({ enum: ["accepted", "refused", "unavailable", "absent"] }),
    providerAccountId: text().notNull(),
    /** For the audit row and the stored response, independent of the process that settles the intent. */
    principal: text().notNull(),
    idempotencyKey: text(),
    /** The owner of the idempotency key, if not `principal`: the first API key of a chain of rotations. */
    idempotencyOwner: text(),
    requestId: text().notNull(),
    /** The redacted input, for the audit log. */
    auditInput: jsonb().$type<unknown>().notNull(),
    /** How often, and when last, a lookup at the provider found nothing. */
    absences: integer().notNull().default(0),
    absentAt: at(),
    deadlineAt: at().notNull(),
    createdAt: createdAt(),
    settledAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    uniqueIndex("intents_one_open").on(t.clientId, t.subjectId).where(sql`status = 'open'`),
    index("intents_open").on(t.deadlineAt).where(sql`status = 'open'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
