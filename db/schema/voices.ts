import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy } from "../columns.ts";
import { clients } from "./clients.ts";

export const voices = pgTable(
  "voices",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    description: text(),
    language: text().notNull(),
    /** `clone`: trained from samples at the voice provider. `external`: another company's voice, by reference. */
    kind: text({ enum: ["clone", "external"] }).notNull(),
    provider: text().notNull(),
    /** Of an external voice: how the provider is asked to speak. Holds no secret. */
    definition: jsonb().$type<Record<string, unknown>>(),
    /** Of a generic voice: its headers as JSON, sealed for `provider_credential` and this row. */
    sealedHeaders: bytes(),
    /** Of a clone: the uploads it is trained from. */
    sampleIds: text().array().notNull().default([]),
    status: text({ enum: ["pending", "training", "active", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    providerAccountId: text().notNull(),
    providerVoiceId: text(),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    /** When an active voice was last seen at the provider, or was last to be looked for. */
    checkedAt: at(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    index("voices_by_id").on(t.id),
    index("voices_being_made").on(t.updatedAt).where(sql`status in ('pending', 'training')`),
    index("voices_to_check").on(t.checkedAt).where(sql`status = 'active'`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
