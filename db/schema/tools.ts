import { sql } from "drizzle-orm";
import { integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from "drizzle-orm/pg-core";
import { clientId, createdAt, id, tenantPolicy } from "../columns.ts";
import { clients } from "./clients.ts";

export const tools = pgTable(
  "tools",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    /** What the model calls it; unique among a client's tools that are not deleted. */
    name: text().notNull(),
    description: text().notNull(),
    kind: text({ enum: ["http", "client", "builtin"] }).notNull(),
    /** The whole of it, as the world sees it. Secrets are credentials, named here by provider. */
    config: jsonb().$type<unknown>().notNull(),
    /** What the provider is being asked to make of it; live once it has. */
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
