import { sql } from "drizzle-orm";
import { bigint, foreignKey, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { clients } from "./clients.ts";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "./columns.ts";

export const knowledgeBases = pgTable(
  "knowledge_bases",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    description: text(),
    /** `provisioning` until the provider has created its corpus. The other values follow from the files. */
    status: text({ enum: ["provisioning", "empty", "ingesting", "ready", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    providerAccountId: text().notNull(),
    providerCorpusId: text(),
    /** The number of files with content. A file that is ingested again counts. */
    readyFiles: integer().notNull().default(0),
    /** The number of the present ingestion, which lasts from its first file to its last. Events are emitted once for each. */
    round: integer().notNull().default(0),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), tenantPolicy(), systemPolicy()],
);

/** A file or a set of web pages of a knowledge base: one source at the provider, with its own status. */
export const knowledgeFiles = pgTable(
  "knowledge_files",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    knowledgeBaseId: text().notNull(),
    kind: text({ enum: ["file", "url"] }).notNull(),
    uploadId: text(),
    fileName: text(),
    contentType: text(),
    bytes: bigint({ mode: "number" }),
    url: text(),
    maxDepth: integer(),
    maxDocuments: integer(),
    status: text({ enum: ["pending", "ingesting", "ready", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    /** The number of attempts. It is part of the source's name at the provider, so that an old source is not taken for the new one. */
    attempt: integer().notNull().default(1),
    /** The ingestion (`knowledge_bases.round`) that it was last part of. */
    round: integer().notNull(),
    /** When the request for the source was sent. It is not repeated before its response is overdue. */
    askedAt: at(),
    providerSourceId: text(),
    providerDocumentId: text(),
    /** The number of documents that the provider created from it. */
    documents: integer(),
    /** When polling ends. A file that is not ready by then has failed. */
    deadlineAt: at(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    foreignKey({
      columns: [t.clientId, t.knowledgeBaseId],
      foreignColumns: [knowledgeBases.clientId, knowledgeBases.id],
    }),
    index().on(t.clientId, t.knowledgeBaseId, t.id),
    index("knowledge_files_open").on(t.deadlineAt).where(sql`status in ('pending', 'ingesting')`),
    tenantPolicy(),
    systemPolicy(),
  ],
);
