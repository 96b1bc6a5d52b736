import { sql } from "drizzle-orm";
import { integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { clientId, createdAt, id, tenantPolicy } from "./columns.ts";

export const tools = pgTable(
  "tools",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** The tool's name for the model. It is unique among a client's tools that are not deleted. */
    name: text().notNull(),
    description: text().notNull(),
    kind: text({ enum: ["http", "client", "builtin"] }).notNull(),
    /** The whole public definition. Secrets are credentials, which it names by provider. */
    config: jsonb().$type<unknown>().notNull(),
    /** The definition that is being sent to the provider. It becomes live when the provider accepts it. */
    pending: jsonb().$type<unknown>(),
    version: integer().notNull().default(0),
    status: text({ enum: ["provisioning", "active", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    providerAccountId: text().notNull(),
    providerToolId: text(),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    uniqueIndex("tools_one_name").on(t.clientId, t.name).where(sql`status in ('provisioning', 'active')`),
    tenantPolicy(),
  ],
);
