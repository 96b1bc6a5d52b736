import { sql } from "drizzle-orm";
import { bigint, index, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "../columns.ts";
import { clients } from "./clients.ts";

/** A file that a client may put into our storage, under a key that is ours to choose. */
export const uploads = pgTable(
  "uploads",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    purpose: text({ enum: ["voice_sample", "knowledge_file", "campaign_contacts"] }).notNull(),
    /** What it is for, where that is known: a knowledge base, a campaign. */
    subjectId: text(),
    objectKey: text().notNull(),
    fileName: text().notNull(),
    contentType: text().notNull(),
    bytes: bigint({ mode: "number" }).notNull(),
    /** SHA-256, base64: storage refuses other bytes. */
    sha256: text().notNull(),
    /** `pending`: the link was given. `used`: something is made of it, and it stays as long as that. `gone`: removed. */
    status: text({ enum: ["pending", "verified", "used", "gone"] })
      .notNull()
      .default("pending"),
    expiresAt: at().notNull(),
    verifiedAt: at(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    index("uploads_stale").on(t.expiresAt).where(sql`status in ('pending', 'verified')`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
