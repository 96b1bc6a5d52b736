import { command, providerCommand, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { verifyUploads } from "../uploads/service.ts";
import { createKnowledgeBase } from "./create.ts";
import {
  getKnowledgeFile,
  ingestFiles,
  ingestUrls,
  listKnowledgeFiles,
  presignKnowledgeFiles,
  removeKnowledgeFile,
  retryKnowledgeFile,
  uploadsOf,
} from "./files.ts";
import { queryKnowledge } from "./query.ts";
import {
  CreateKnowledgeBase,
  IngestFiles,
  Ingestion,
  IngestUrls,
  KnowledgeAnswer,
  KnowledgeBase,
  KnowledgeBaseId,
  KnowledgeBasePage,
  KnowledgeFile,
  KnowledgeFileId,
  KnowledgeFilePage,
  ListKnowledgeBases,
  ListKnowledgeFiles,
  PresignedKnowledgeFiles,
  PresignKnowledgeFiles,
  QueryKnowledge,
  RemoveKnowledgeBase,
  UpdateKnowledgeBase,
} from "./schema.ts";
import { getKnowledgeBase, listKnowledgeBases, removeKnowledgeBase, updateKnowledgeBase } from "./service.ts";

const page = {
  ...{ kind: "url", fileName: null, contentType: null, bytes: null },
  ...{ url: "https://example.com/prices", maxDepth: 1, maxDocuments: 20, status: "pending", documents: null },
};

export const knowledge = router({
  create: providerCommand
    .meta(
      rest("POST", "/kb", "knowledge:write", "Create a knowledge base", {
        description: "Creates an empty knowledge base. Ingest files and web pages next.",
        accepted: {
          description:
            "The voice provider did not respond in time. The knowledge base is `provisioning` until its creation is confirmed: minutes at most. Then it is `empty` or `failed`.",
          example: { status: "provisioning", isUsable: false, readyFiles: 0 },
        },
        errors: ["provider_rejected", "provider_unavailable"],
      }),
    )
    .input(CreateKnowledgeBase)
    .output(KnowledgeBase)
    .mutation(({ ctx, input }) => ctx.perform(createKnowledgeBase, input)),

  list: query
    .meta(
      rest("GET", "/kb", "knowledge:read", "List knowledge bases", {
        description: "Newest first, without deleted knowledge bases. Filters combine.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListKnowledgeBases)
    .output(KnowledgeBasePage)
    .query(({ ctx, input }) => listKnowledgeBases(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/kb/{id}", "knowledge:read", "Get a knowledge base", {
        description:
          "Returns the knowledge base. `status` follows from its files; `isUsable` is true if agents can search it.",
        errors: ["knowledge_base_not_found"],
      }),
    )
    .input(KnowledgeBaseId)
    .output(KnowledgeBase)
    .query(({ ctx, input }) => getKnowledgeBase(ctx.tx, input.id)),

  update: command
    .meta(
      rest("PATCH", "/kb/{id}", "knowledge:write", "Update a knowledge base", {
        description: "Changes the name, description and metadata. To change the content, add or delete files.",
        errors: ["knowledge_base_not_found"],
      }),
    )
    .input(UpdateKnowledgeBase)
    .output(KnowledgeBase)
    .mutation(({ ctx, input }) => updateKnowledgeBase(ctx.tx, input)),

  remove: command
    .meta(
      rest("DELETE", "/kb/{id}", "knowledge:write", "Delete a knowledge base", {
        description: "Deletes the knowledge base with its files, also those that are being ingested.",
        errors: ["knowledge_base_not_found", "knowledge_base_busy", "knowledge_base_in_use"],
      }),
    )
    .input(RemoveKnowledgeBase)
    .mutation(({ ctx, input }) => removeKnowledgeBase(ctx.tx, input)),

  query: providerQuery
    .meta(
      rest("POST", "/kb/{id}/query", "knowledge:read", "Query a knowledge base", {
        description: "Returns what an agent would find, for tests.",
        reads: true,
        errors: ["knowledge_base_not_found", "knowledge_base_not_ready", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(QueryKnowledge)
    .output(KnowledgeAnswer)
    .mutation(({ ctx, input }) => ctx.queryProvider(queryKnowledge(ctx.providers, input))),

  files: router({
    presign: command
      .meta(
        rest("POST", "/kb/{id}/files/presign", "knowledge:write", "Create upload links for files", {
          description: "Returns a link for each document of at most 10 MB. PUT each one to its link, then ingest them.",
          status: 201,
          signs: true,
          errors: ["knowledge_base_not_found", "provider_unavailable"],
        }),
      )
      .input(PresignKnowledgeFiles)
      .output(PresignedKnowledgeFiles)
      .mutation(({ ctx, input }) => presignKnowledgeFiles(ctx.tx, input)),

    ingest: providerQuery
      .meta(
        rest("POST", "/kb/{id}/files/ingest", "knowledge:write", "Ingest uploaded files into a knowledge base", {
          description: "Work continues after the response. Each file has its own status, and a reason if it failed.",
          status: 202,
          accepted: {
            description: "The files are queued for ingestion.",
            example: { files: [{ status: "pending", documents: null }] },
          },
          errors: [
            "knowledge_base_not_found",
            "knowledge_base_busy",
            "knowledge_base_not_ready",
            "knowledge_base_full",
            "upload_not_found",
            "upload_not_complete",
            "upload_mismatch",
            "provider_unavailable",
          ],
        }),
      )
      .input(IngestFiles)
      .output(Ingestion)
      .mutation(({ ctx, input }) =>
        ctx.queryProvider({
          read: (tx) => uploadsOf(tx, input),
          execute: (uploads, deadline) => verifyUploads(ctx.providers.files, uploads, deadline),
          record: (tx) => ingestFiles(tx, input),
        }),
      ),

    list: query
      .meta(
        rest("GET", "/kb/{id}/files", "knowledge:read", "List the files and pages of a knowledge base", {
          description: "Newest first, files and web addresses, each with its status and, if it failed, the reason.",
          errors: ["knowledge_base_not_found", "cursor_invalid"],
        }),
      )
      .input(ListKnowledgeFiles)
      .output(KnowledgeFilePage)
      .query(({ ctx, input }) => listKnowledgeFiles(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/kb/{id}/files/{fileId}", "knowledge:read", "Get a file of a knowledge base", {
          description: "Returns one file, or one web address with its pages, with its status.",
          errors: ["knowledge_base_not_found", "knowledge_file_not_found"],
        }),
      )
      .input(KnowledgeFileId)
      .output(KnowledgeFile)
      .query(({ ctx, input }) => getKnowledgeFile(ctx.tx, input)),

    remove: command
      .meta(
        rest("DELETE", "/kb/{id}/files/{fileId}", "knowledge:write", "Delete a file of a knowledge base", {
          description:
            "Deletes a file, or a web address with its pages. Its ingestion is cancelled. The voice provider's copy is removed within moments.",
          errors: ["knowledge_base_not_found", "knowledge_file_not_found"],
        }),
      )
      .input(KnowledgeFileId)
      .mutation(({ ctx, input }) => removeKnowledgeFile(ctx.tx, input)),

    retry: command
      .meta(
        rest("POST", "/kb/{id}/files/{fileId}/retry", "knowledge:write", "Retry the ingestion of a file or pages", {
          description: "For a file that failed, or web pages that may have changed. Pages stay usable meanwhile.",
          status: 202,
          accepted: {
            description: "The ingestion is queued. A file is `pending`; pages that were ready are `ingesting`.",
            example: { status: "pending", documents: null },
          },
          errors: [
            "knowledge_base_not_found",
            "knowledge_file_not_found",
            "knowledge_file_not_failed",
            "knowledge_base_full",
          ],
        }),
      )
      .input(KnowledgeFileId)
      .output(KnowledgeFile)
      .mutation(({ ctx, input }) => retryKnowledgeFile(ctx.tx, input)),
  }),

  urls: router({
    ingest: command
      .meta(
        rest("POST", "/kb/{id}/urls", "knowledge:write", "Ingest web pages into a knowledge base", {
          description: "Each address becomes a separate entry in the list of files.",
          status: 202,
          accepted: { description: "The pages are queued for ingestion.", example: { files: [page] } },
          errors: [
            "knowledge_base_not_found",
            "knowledge_base_busy",
            "knowledge_base_not_ready",
            "knowledge_base_full",
            "url_forbidden",
          ],
        }),
      )
      .input(IngestUrls)
      .output(Ingestion)
      .mutation(({ ctx, input }) => ingestUrls(ctx.tx, input)),
  }),
});
