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
        description: "It is empty at first; then files and web pages are read into it.",
        accepted: {
          says: "The voice provider has not answered in time. The knowledge base is `provisioning` until it is known whether it is there: minutes at most; then it is `empty` or `failed`.",
          shows: { status: "provisioning", isUsable: false, readyFiles: 0 },
        },
        faults: ["provider_rejected", "provider_unavailable"],
      }),
    )
    .input(CreateKnowledgeBase)
    .output(KnowledgeBase)
    .mutation(({ ctx, input }) => ctx.perform(createKnowledgeBase, input)),

  list: query
    .meta(
      rest("GET", "/kb", "knowledge:read", "List knowledge bases", {
        description: "Newest first, without those that were deleted.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListKnowledgeBases)
    .output(KnowledgeBasePage)
    .query(({ ctx, input }) => listKnowledgeBases(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/kb/{id}", "knowledge:read", "Get a knowledge base", {
        description: "How it stands. `status` follows from its files; `isUsable` says whether agents can ask it.",
        faults: ["knowledge_base_not_found"],
      }),
    )
    .input(KnowledgeBaseId)
    .output(KnowledgeBase)
    .query(({ ctx, input }) => getKnowledgeBase(ctx.tx, input.id)),

  update: command
    .meta(
      rest("PATCH", "/kb/{id}", "knowledge:write", "Change a knowledge base", {
        description: "Its name, description and metadata: what is in it changes by its files.",
        faults: ["knowledge_base_not_found"],
      }),
    )
    .input(UpdateKnowledgeBase)
    .output(KnowledgeBase)
    .mutation(({ ctx, input }) => updateKnowledgeBase(ctx.tx, input)),

  remove: command
    .meta(
      rest("DELETE", "/kb/{id}", "knowledge:write", "Delete a knowledge base", {
        description: "With its files, and with what is being read in.",
        faults: ["knowledge_base_not_found", "knowledge_base_busy", "knowledge_base_in_use"],
      }),
    )
    .input(RemoveKnowledgeBase)
    .mutation(({ ctx, input }) => removeKnowledgeBase(ctx.tx, input)),

  query: providerQuery
    .meta(
      rest("POST", "/kb/{id}/query", "knowledge:read", "Ask a knowledge base", {
        description: "What an agent would find there; for trying it out.",
        reads: true,
        faults: ["knowledge_base_not_found", "knowledge_base_not_ready", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(QueryKnowledge)
    .output(KnowledgeAnswer)
    .mutation(({ ctx, input }) => ctx.queryProvider(queryKnowledge(ctx.providers, input))),

  files: router({
    presign: command
      .meta(
        rest("POST", "/kb/{id}/files/presign", "knowledge:write", "Get links to upload files by", {
          description: "Documents of at most 10 MB. PUT each one to its link, then ingest them.",
          signs: true,
          faults: ["knowledge_base_not_found", "provider_unavailable"],
        }),
      )
      .input(PresignKnowledgeFiles)
      .output(PresignedKnowledgeFiles)
      .mutation(({ ctx, input }) => presignKnowledgeFiles(ctx.tx, input)),

    ingest: providerQuery
      .meta(
        rest("POST", "/kb/{id}/files/ingest", "knowledge:write", "Read uploaded files into a knowledge base", {
          description: "Goes on after the answer: each file has a status of its own, and a reason where it failed.",
          status: 202,
          accepted: {
            says: "The files are queued to be read in.",
            shows: { files: [{ status: "pending", documents: null }] },
          },
          faults: [
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
          description:
            "Newest first, files and web addresses alike, each with a status and, where it failed, the reason.",
          faults: ["knowledge_base_not_found", "cursor_invalid"],
        }),
      )
      .input(ListKnowledgeFiles)
      .output(KnowledgeFilePage)
      .query(({ ctx, input }) => listKnowledgeFiles(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/kb/{id}/files/{fileId}", "knowledge:read", "Get a file of a knowledge base", {
          description: "One file, or one web address with its pages: how far it has been read in.",
          faults: ["knowledge_base_not_found", "knowledge_file_not_found"],
        }),
      )
      .input(KnowledgeFileId)
      .output(KnowledgeFile)
      .query(({ ctx, input }) => getKnowledgeFile(ctx.tx, input)),

    remove: command
      .meta(
        rest("DELETE", "/kb/{id}/files/{fileId}", "knowledge:write", "Delete a file of a knowledge base", {
          description:
            "A file, or a web address with its pages; one that is being read in is given up. What the voice provider made of it is removed within moments.",
          faults: ["knowledge_base_not_found", "knowledge_file_not_found"],
        }),
      )
      .input(KnowledgeFileId)
      .mutation(({ ctx, input }) => removeKnowledgeFile(ctx.tx, input)),

    retry: command
      .meta(
        rest("POST", "/kb/{id}/files/{fileId}/retry", "knowledge:write", "Read a file or pages in again", {
          description: "A file that has failed, or web pages that may have changed: these stay until they are read.",
          status: 202,
          accepted: {
            says: "It is queued to be read in. A file is `pending`, pages that were ready before are `ingesting`.",
            shows: { status: "pending", documents: null },
          },
          faults: [
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
        rest("POST", "/kb/{id}/urls", "knowledge:write", "Read web pages into a knowledge base", {
          description: "Each address becomes an entry of its own among the files.",
          status: 202,
          accepted: { says: "The pages are queued to be read in.", shows: { files: [page] } },
          faults: [
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
