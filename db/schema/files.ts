import { sql } from "drizzle-orm";
import { bigint, index, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

/** A file that a client can upload to our storage. We choose its key. */
export const uploads = pgTable(
  "uploads",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    purpose: text({ enum: ["voice_sample", "knowledge_file", "campaign_contacts"] }).notNull(),
    /** The resource that it is for, if known: a knowledge base or a campaign. */
    subjectId: text(),
    objectKey: text().notNull(),
    fileName: text().notNull(),
    contentType: text().notNull(),
    bytes: bigint({ mode: "number" }).notNull(),
    /** SHA-256 in base64. Storage refuses other bytes. */
    sha256: text().notNull(),
    /** `pending`: the link was issued. `used`: a resource uses the file, which is kept as long as that. `gone`: removed. */
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
