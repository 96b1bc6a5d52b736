import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, bytes, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

export const voices = pgTable(
  "voices",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    description: text(),
    language: text().notNull(),
    /** `clone`: trained from samples at the voice provider. `external`: a reference to another vendor's voice. */
    kind: text({ enum: ["clone", "external"] }).notNull(),
    provider: text().notNull(),
    /** For an external voice: the provider's definition of it. It contains no secret. */
    definition: jsonb().$type<Record<string, unknown>>(),
    /** For a generic voice: its headers as JSON, sealed for `provider_credential` and this row. */
    sealedHeaders: bytes(),
    /** For a clone: the uploads that it is trained from. */
    sampleIds: text().array().notNull().default([]),
    status: text({ enum: ["pending", "training", "active", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    providerAccountId: text().notNull(),
    providerVoiceId: text(),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    /** When an active voice was last found at the provider, or its check was last queued. */
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
