import { sql } from "drizzle-orm";
import { bigint, foreignKey, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { at, clientId, createdAt, id, systemPolicy, tenantPolicy } from "../columns.ts";
import { clients } from "./clients.ts";

export const knowledgeBases = pgTable(
  "knowledge_bases",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    description: text(),
    /** `provisioning` only until the provider has made its corpus; the rest follows from the files. */
    status: text({ enum: ["provisioning", "empty", "ingesting", "ready", "failed", "deleted"] }).notNull(),
    statusReason: text(),
    providerAccountId: text().notNull(),
    providerCorpusId: text(),
    /** How many of its files have something in them; one that is being read again counts. */
    readyFiles: integer().notNull().default(0),
    /** From the first file that is being read to the last that settles: what is told of at the end. */
    round: integer().notNull().default(0),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), tenantPolicy(), systemPolicy()],
);

/** One file, or one set of web pages, of a knowledge base: a source at the provider, with a status of its own. */
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
    /** How often it was begun: part of the source's name at the provider, so that an old one is not taken for the new. */
    attempt: integer().notNull().default(1),
    /** The round of its knowledge base that it was last read in. */
    round: integer().notNull(),
    /** When the provider was asked for the source: until its answer would have come, nobody asks again. */
    askedAt: at(),
    providerSourceId: text(),
    providerDocumentId: text(),
    /** How many documents the provider made of it. */
    documents: integer(),
    /** When polling ends, and what is not ready by then has failed. */
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
