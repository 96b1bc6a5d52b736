import { sql } from "drizzle-orm";
import { foreignKey, index, integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

/** The progress of a workflow, whose steps each run as a job of their own. Operators can list it. */
export const workflowRuns = pgTable(
  "workflow_runs",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    subjectId: text().notNull(),
    status: text({ enum: ["running", "succeeded", "failed"] })
      .notNull()
      .default("running"),
    /** The input of the steps, beside the subject's row. */
    input: jsonb().$type<unknown>().notNull().default({}),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    index().on(t.clientId, t.subjectId, t.id),
    index("workflow_runs_by_id").on(t.id),
    index("workflow_runs_state").on(t.status, t.id),
    uniqueIndex("workflow_runs_one_running").on(t.clientId, t.name, t.subjectId).where(sql`status = 'running'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

export const workflowSteps = pgTable(
  "workflow_steps",
  {
    clientId: clientId().references(() => clients.id),
    runId: text().notNull(),
    position: integer().notNull(),
    name: text().notNull(),
    status: text({ enum: ["waiting", "running", "done", "failed"] })
      .notNull()
      .default("waiting"),
    /** Attempts made so far. */
    attempts: integer().notNull().default(0),
    error: text(),
    nextAt: at(),
    startedAt: at(),
    finishedAt: at(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.runId, t.position] }),
    foreignKey({ columns: [t.clientId, t.runId], foreignColumns: [workflowRuns.clientId, workflowRuns.id] }),
    index("workflow_steps_due").on(t.nextAt).where(sql`status = 'running'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
