import { z } from "zod";
import { type Deadline, ProviderError } from "../../../routers/ports/provider-error.ts";
import type { UltravoxKnowledge } from "../../../routers/ports/ultravox.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";
import { Allowance, Corpus, Hit, Source, Upload } from "./knowledge-schema.ts";

const corpusPath = (corpusId: string) => `/api/corpora/${encodeURIComponent(corpusId)}`;
const sourcePath = (corpusId: string, sourceId: string) =>
  `${corpusPath(corpusId)}/sources/${encodeURIComponent(sourceId)}`;

export const knowledgeOf = (client: UltravoxClient): UltravoxKnowledge => ({
  ...corporaOf(client),
  ...sourcesOf(client),
  uploadDocument: (accountId, corpusId, file, deadline) => uploadDocument(client, accountId, corpusId, file, deadline),
});

type Corpora = "createCorpus" | "findCorpora" | "getCorpus" | "deleteCorpus" | "queryCorpus";

function corporaOf(client: UltravoxClient): Pick<UltravoxKnowledge, Corpora> {
  const { request, remove } = client;
  return {
    async createCorpus(accountId, { id, description }, deadline) {
      const body = { name: id, description: description ?? undefined };
      const create = { method: "POST", repeat: "create", path: "/api/corpora", body, read: json(Corpus).from } as const;
      try {
        return await request(accountId, create, deadline);
      } catch (error) {
        if (error instanceof ProviderError && error.kind === "refused")
          throw await explained(client, error, accountId, deadline);
        throw error;
      }
    },

    async findCorpora(accountId, knowledgeBaseId, deadline) {
      return (await listCorpora(client, accountId, [knowledgeBaseId], deadline)).filter(
        ({ name }) => name === knowledgeBaseId,
      );
    },

    getCorpus: (accountId, corpusId, deadline) =>
      unless(404, null, read(client, accountId, corpusPath(corpusId), Corpus, deadline)),

    deleteCorpus: (accountId, corpusId, deadline) => remove(accountId, corpusPath(corpusId), deadline),

    queryCorpus(accountId, corpusId, { text, maxResults }, deadline) {
      const path = `${corpusPath(corpusId)}/query`;
      const body = { query: text, maxResults };
      return request(
        accountId,
        { method: "POST", repeat: "safe", path, body, read: json(z.array(Hit)).from },
        deadline,
      );
    },
  };
}

type Sources = "createSource" | "findSources" | "getSource" | "refreshSource" | "deleteSource";

function sourcesOf(client: UltravoxClient): Pick<UltravoxKnowledge, Sources> {
  const { request, listAll, remove } = client;
  return {
    createSource(accountId, corpusId, { id, ...from }, deadline) {
      const path = `${corpusPath(corpusId)}/sources`;
      const body = { name: id, ...specOf(from) };
      return request(accountId, { method: "POST", repeat: "create", path, body, read: json(Source).from }, deadline);
    },

    async findSources(accountId, corpusId, name, deadline) {
      const list = { path: `${corpusPath(corpusId)}/sources`, query: {}, item: Source, about: [name] };
      return (await listAll(accountId, list, deadline)).filter((source) => source.name === name);
    },

    getSource: (accountId, corpusId, sourceId, deadline) =>
      unless(404, null, read(client, accountId, sourcePath(corpusId, sourceId), Source, deadline)),

    // Any change makes the provider read the source again, and its id stays (docs.ultravox.ai,
    // corpora-sources-partial-update).
    refreshSource(accountId, corpusId, sourceId, deadline) {
      const path = sourcePath(corpusId, sourceId);
      return request(accountId, { method: "PATCH", repeat: "safe", path, body: {}, read: json(Source).from }, deadline);
    },

    deleteSource: (accountId, corpusId, sourceId, deadline) =>
      remove(accountId, sourcePath(corpusId, sourceId), deadline),
  };
}

const read = <S extends z.ZodType>(
  { request }: UltravoxClient,
  accountId: string,
  path: string,
  item: S,
  deadline: Deadline,
) => request(accountId, { method: "GET", repeat: "safe", path, read: json(item).from }, deadline);

/** The provider has no search by name: all corpora are read. */
const listCorpora = ({ listAll }: UltravoxClient, accountId: string, about: readonly string[], deadline: Deadline) =>
  listAll(accountId, { path: "/api/corpora", query: {}, item: Corpus, about }, deadline);

/** The provider's response at its limit is not documented, so the account is read to find out whether that is the reason. */
async function explained(client: UltravoxClient, refusal: ProviderError, accountId: string, deadline: Deadline) {
  const reading = Promise.all([
    read(client, accountId, "/api/accounts/me", Allowance, deadline),
    listCorpora(client, accountId, [], deadline),
  ]);
  const [{ allowedCorpora }, found] = await reading.catch(() => [{ allowedCorpora: null }, []] as const);
  if (typeof allowedCorpora !== "number" || found.length < allowedCorpora) return refusal;
  const message = `This Ultravox account may have ${allowedCorpora} knowledge bases, and the limit is reached. Delete one, or request a larger plan`;
  return new ProviderError("refused", message, { status: refusal.status, cause: refusal });
}

const uploadDocument = async (
  { request, put }: UltravoxClient,
  ...[accountId, corpusId, { fileName, contentType, bytes }, deadline]: Parameters<UltravoxKnowledge["uploadDocument"]>
) => {
  const path = `${corpusPath(corpusId)}/uploads`;
  const body = { mimeType: contentType, fileName };
  // An unused link does no harm, so this request may be repeated.
  const link = { method: "POST", repeat: "safe", path, body, read: json(Upload).from } as const;
  const upload = await request(accountId, link, deadline);
  await retryable(put(upload.presignedUrl, { contentType, bytes }, deadline));
  return { providerDocumentId: upload.documentId };
};

type From = { documentIds: string[] } | { crawl: { startUrls: string[]; maxDepth: number; maxDocuments: number } };

/** Ours counts the links that are followed, theirs the levels of pages (openapi: ultravox.v1.CrawlSpec.maxDepth). */
function specOf(from: From) {
  if ("documentIds" in from) return { upload: { documentIds: from.documentIds } };
  return { crawl: { ...from.crawl, maxDepth: from.crawl.maxDepth + 1 } };
}

/** The storage refuses an expired link with 403: the next attempt requests another link. */
async function retryable(putting: Promise<void>): Promise<void> {
  try {
    await putting;
  } catch (error) {
    if (!(error instanceof ProviderError && error.status === 403)) throw error;
    throw new ProviderError("unavailable", "Ultravox's storage refused the file", { status: 403, cause: error });
  }
}
