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
    /** When the provider's copy was last compared with ours, and how often it had to be put right. */
    comparedAt: createdAt(),
    drifts: integer().notNull().default(0),
    /** The variables without which the live version takes no call; null while that has not been looked at. */
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

/** What the live version of an agent is made of: asked before one of those things is deleted. */
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

/** Every change of an agent, kept for ever: calls name the one they used. */
export const agentVersions = pgTable(
  "agent_versions",
  {
    clientId: clientId().references(() => clients.id),
    agentId: text().notNull(),
    version: integer().notNull(),
    name: text().notNull(),
    config: jsonb().$type<unknown>().notNull(),
    status: text({ enum: ["pending", "live", "retired", "failed"] }).notNull(),
    /** The fields in which it differs from what was live when it was made. */
    changed: text().array().notNull().default([]),
    /** What the agent's metadata becomes when this goes live; null: what it is. */
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

/** Something asked of a provider, written down before the asking. While it is open, nobody knows what the provider did. */
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
    /** What the audit row and the stored answer need, whoever settles. */
    principal: text().notNull(),
    idempotencyKey: text(),
    /** Whose the key is, where that is not `principal`: of a rotated API key, the first of its chain. */
    idempotencyOwner: text(),
    requestId: text().notNull(),
    /** The input as the audit may keep it. */
    auditInput: jsonb().$type<unknown>().notNull(),
    /** How often, and when last, the provider was searched in vain. */
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
