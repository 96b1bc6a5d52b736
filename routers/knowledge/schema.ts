import { z } from "zod";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { createdFilter, metadataFilter, searchFilter } from "../core/list-filters.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { PresignedUpload, PresignFiles } from "../uploads/schema.ts";
import { fileStatuses, maxDocumentsPerSource } from "./transitions.ts";

const baseId = Id("knowledgeBase", examples.knowledgeBase);
const fileId = Id("knowledgeFile", examples.knowledgeFile);
const baseStatuses = ["provisioning", "empty", "ingesting", "ready", "failed"] as const;
const shownFileStatuses = fileStatuses.filter((status) => status !== "deleted");

const fields = {
  name: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .meta({ examples: ["Opening hours and prices"] }),
  description: z
    .string()
    .trim()
    .min(1)
    .max(1000)
    .nullable()
    .meta({
      description: "A description of the content, for people.",
      examples: ["Questions of the bakery's callers."],
    }),
};

export const CreateKnowledgeBase = z.strictObject({
  name: fields.name,
  description: fields.description.default(null),
  metadata: Metadata.default({}),
});
export type CreateKnowledgeBase = z.output<typeof CreateKnowledgeBase>;

export const UpdateKnowledgeBase = z.strictObject({
  id: baseId,
  ...z.object({ ...fields, metadata: Metadata }).partial().shape,
});
export type UpdateKnowledgeBase = z.output<typeof UpdateKnowledgeBase>;

export const KnowledgeBaseId = z.strictObject({ id: baseId });
export const RemoveKnowledgeBase = z.strictObject({
  id: baseId,
  force: z
    .boolean()
    .default(false)
    .meta({ description: "Delete it although agents use it. They then work without it.", examples: [true] }),
});
export type RemoveKnowledgeBase = z.output<typeof RemoveKnowledgeBase>;

export const ListKnowledgeBases = z.strictObject({
  ...PageInput,
  status: z
    .enum(baseStatuses)
    .optional()
    .meta({ description: "Only those with this status.", examples: ["ready"] }),
  ...searchFilter,
  ...createdFilter,
  ...metadataFilter,
});
export type ListKnowledgeBases = z.output<typeof ListKnowledgeBases>;

const statusReason = z
  .string()
  .nullable()
  .meta({ description: "Why it failed, or what is missing.", examples: [null] });

export const KnowledgeBase = z
  .object({
    id: baseId,
    ...fields,
    status: z.enum([...baseStatuses, "deleted"]).meta({
      description: "Follows from the files: `ingesting` while one is being ingested, else `ready` if one is ready.",
      examples: ["ready"],
    }),
    statusReason,
    isUsable: z.boolean().meta({
      description: "Whether agents can search it. It stays true while more files are being ingested.",
      examples: [true],
    }),
    readyFiles: z.int().meta({ description: "Number of ingested files and addresses.", examples: [3] }),
    metadata: Metadata,
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "KnowledgeBase" });
export type KnowledgeBase = z.output<typeof KnowledgeBase>;
export const KnowledgeBasePage = pageOf(KnowledgeBase);

export const PresignKnowledgeFiles = z.strictObject({ id: baseId, files: PresignFiles("knowledge_file") });
export type PresignKnowledgeFiles = z.output<typeof PresignKnowledgeFiles>;
export const PresignedKnowledgeFiles = z.object({ files: z.array(PresignedUpload) });

const distinct = (list: readonly string[]) => new Set(list).size === list.length;

export const IngestFiles = z.strictObject({
  id: baseId,
  fileIds: z
    .array(Id("upload", examples.upload))
    .min(1)
    .max(20)
    .refine(distinct, "Give each file only once.")
    .meta({ description: "Ids of uploads whose bytes are in storage.", examples: [[examples.upload]] }),
});
export type IngestFiles = z.output<typeof IngestFiles>;

export const IngestUrls = z.strictObject({
  id: baseId,
  urls: z
    .array(z.string().min(1).max(2048))
    .min(1)
    .max(10)
    .refine(distinct, "Give each address only once.")
    .meta({
      description: "Public http or https addresses. The voice provider reads them.",
      redact: "none",
      examples: [["https://example.com/prices"]],
    }),
  maxDepth: z
    .int()
    .min(0)
    .max(3)
    .default(0)
    .meta({ description: "How many links deep the provider follows an address. 0: none.", examples: [1] }),
  maxDocuments: z
    .int()
    .min(1)
    .max(maxDocumentsPerSource)
    .default(20)
    .meta({ description: "The most pages to read per address.", examples: [20] }),
});
export type IngestUrls = z.output<typeof IngestUrls>;

export const KnowledgeFileId = z.strictObject({
  id: baseId,
  fileId: fileId.meta({
    description: "The id from the list of files (`kbf_…`), not the id of the upload.",
    examples: [examples.knowledgeFile],
  }),
});
export type KnowledgeFileId = z.output<typeof KnowledgeFileId>;
export const ListKnowledgeFiles = z.strictObject({
  ...PageInput,
  id: baseId,
  status: z
    .enum(shownFileStatuses)
    .optional()
    .meta({ description: "Only those with this status.", examples: ["failed"] }),
  ...createdFilter,
});
export type ListKnowledgeFiles = z.output<typeof ListKnowledgeFiles>;

export const KnowledgeFile = z
  .object({
    id: fileId,
    knowledgeBaseId: baseId,
    kind: z.enum(["file", "url"]).meta({ examples: ["file"] }),
    fileName: z
      .string()
      .nullable()
      .meta({ examples: ["opening-hours.pdf"] }),
    contentType: z
      .string()
      .nullable()
      .meta({ examples: ["application/pdf"] }),
    bytes: z
      .int()
      .nullable()
      .meta({ examples: [48_000] }),
    url: z
      .string()
      .nullable()
      .meta({ description: "The address where reading begins. Only for pages.", examples: [null] }),
    maxDepth: z
      .int()
      .nullable()
      .meta({ examples: [null] }),
    maxDocuments: z
      .int()
      .nullable()
      .meta({ examples: [null] }),
    status: z.enum(fileStatuses).meta({ examples: ["ready"] }),
    statusReason,
    documents: z
      .int()
      .nullable()
      .meta({ description: "Number of documents that the provider extracted.", examples: [1] }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "KnowledgeFile" });
export type KnowledgeFile = z.output<typeof KnowledgeFile>;
export const KnowledgeFilePage = pageOf(KnowledgeFile);
export const Ingestion = z.object({ files: z.array(KnowledgeFile) }).meta({ id: "Ingestion" });
export type Ingestion = z.output<typeof Ingestion>;

export const QueryKnowledge = z.strictObject({
  id: baseId,
  query: z
    .string()
    .trim()
    .min(1)
    .max(1000)
    .meta({ redact: "none", examples: ["What does rye bread cost?"] }),
  maxResults: z
    .int()
    .min(1)
    .max(20)
    .default(5)
    .meta({ examples: [5] }),
});
export type QueryKnowledge = z.output<typeof QueryKnowledge>;

export const KnowledgeAnswer = z
  .object({
    results: z.array(
      z.object({
        content: z.string().meta({ examples: ["Rye bread: 4.20"] }),
        score: z.number().meta({ description: "Relevance: higher is better.", examples: [0.83] }),
        fileId: fileId.nullable(),
        title: z
          .string()
          .nullable()
          .meta({ examples: ["opening-hours.pdf"] }),
        url: z
          .string()
          .nullable()
          .meta({ examples: [null] }),
      }),
    ),
  })
  .meta({ id: "KnowledgeAnswer" });
export type KnowledgeAnswer = z.output<typeof KnowledgeAnswer>;
