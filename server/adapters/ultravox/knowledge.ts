import { z } from "zod";
import { type Deadline, ProviderError } from "../../../routers/ports/provider-error.ts";
import type {
  ProviderCorpus,
  ProviderHit,
  ProviderSource,
  UltravoxKnowledge,
} from "../../../routers/ports/ultravox.ts";
import { translated } from "../shared/unknown-words.ts";
import { json, type Line, unless } from "./http-client.ts";

const corpusStates = {
  CORPUS_STATUS_UNSPECIFIED: "initializing",
  CORPUS_STATUS_EMPTY: "empty",
  CORPUS_STATUS_INITIALIZING: "initializing",
  CORPUS_STATUS_READY: "ready",
  CORPUS_STATUS_UPDATING: "updating",
} as const satisfies Record<string, ProviderCorpus["status"]>;

const sourceStates = {
  SOURCE_STATUS_UNSPECIFIED: "initializing",
  SOURCE_STATUS_INITIALIZING: "initializing",
  SOURCE_STATUS_READY: "ready",
  SOURCE_STATUS_UPDATING: "updating",
} as const satisfies Record<string, ProviderSource["status"]>;

/** Nothing said of it: it has only begun. A word that we do not know yet: `other`. */
const stateIn = <V>(words: Record<string, V>, word: string | undefined, none: V, other: V, field: string): V =>
  word === undefined ? none : translated(words, word, other, ["ultravox", field]);

const Stats = z.looseObject({ status: z.string().optional(), numDocs: z.number().int().optional() }).nullish();

const Corpus = z.looseObject({ corpusId: z.string().min(1), name: z.string().nullish(), stats: Stats }).transform(
  ({ corpusId, name, stats }): ProviderCorpus => ({
    providerCorpusId: corpusId,
    name: name ?? "",
    status: stateIn<ProviderCorpus["status"]>(corpusStates, stats?.status, "initializing", "other", "corpus.status"),
    documents: stats?.numDocs ?? 0,
  }),
);

const Source = z.looseObject({ sourceId: z.string().min(1), name: z.string().nullish(), stats: Stats }).transform(
  ({ sourceId, name, stats }): ProviderSource => ({
    providerSourceId: sourceId,
    name: name ?? "",
    status: stateIn<ProviderSource["status"]>(sourceStates, stats?.status, "initializing", "other", "source.status"),
    documents: stats?.numDocs ?? 0,
  }),
);

const Upload = z.looseObject({ documentId: z.string().min(1), presignedUrl: z.string().min(1) });

const Hit = z
  .looseObject({
    content: z.string().nullish(),
    score: z.number().nullish(),
    citation: z
      .looseObject({ sourceId: z.string().nullish(), publicUrl: z.string().nullish(), title: z.string().nullish() })
      .nullish(),
  })
  .transform(
    ({ content, score, citation }): ProviderHit => ({
      content: content ?? "",
      score: score ?? 0,
      providerSourceId: citation?.sourceId || null,
      url: citation?.publicUrl || null,
      title: citation?.title || null,
    }),
  );

/** Of `GET /api/accounts/me`: how many corpora the account may have; null: as many as it likes. */
const Allowance = z.looseObject({ allowedCorpora: z.number().int().nullish() });

const corpusPath = (corpusId: string) => `/api/corpora/${encodeURIComponent(corpusId)}`;
const sourcePath = (corpusId: string, sourceId: string) =>
  `${corpusPath(corpusId)}/sources/${encodeURIComponent(sourceId)}`;

export function knowledgeOf({ ask, all, put, remove }: Line): UltravoxKnowledge {
  /** The provider has no search by name: all are read. */
  const corpora = (accountId: string, deadline: Deadline) =>
    all(accountId, { path: "/api/corpora", query: {}, item: Corpus }, deadline);

  const read = <S extends z.ZodType>(accountId: string, path: string, item: S, deadline: Deadline) =>
    ask(accountId, { method: "GET", repeat: "safe", path, read: json(item).from }, deadline);

  /** What the provider answers at its limit is not documented, so the account is asked whether that is the reason. */
  async function explained(refusal: ProviderError, accountId: string, deadline: Deadline): Promise<ProviderError> {
    const asked = Promise.all([read(accountId, "/api/accounts/me", Allowance, deadline), corpora(accountId, deadline)]);
    const [{ allowedCorpora }, found] = await asked.catch(() => [{ allowedCorpora: null }, []] as const);
    if (typeof allowedCorpora !== "number" || found.length < allowedCorpora) return refusal;
    const message = `This Ultravox account may have ${allowedCorpora} knowledge bases, and has them. Delete one, or ask for a larger plan`;
    return new ProviderError("refused", message, { ...(refusal.status && { status: refusal.status }), cause: refusal });
  }

  return {
    async createCorpus(accountId, { id, description }, deadline) {
      const body = { name: id, ...(description === null ? {} : { description }) };
      try {
        return await ask(
          accountId,
          { method: "POST", repeat: "create", path: "/api/corpora", body, read: json(Corpus).from },
          deadline,
        );
      } catch (error) {
        if (error instanceof ProviderError && error.kind === "refused")
          throw await explained(error, accountId, deadline);
        throw error;
      }
    },

    async findCorpora(accountId, knowledgeBaseId, deadline) {
      return (await corpora(accountId, deadline)).filter(({ name }) => name === knowledgeBaseId);
    },

    getCorpus: (accountId, corpusId, deadline) =>
      unless(404, null, read(accountId, corpusPath(corpusId), Corpus, deadline)),

    deleteCorpus: (accountId, corpusId, deadline) => remove(accountId, corpusPath(corpusId), deadline),

    queryCorpus(accountId, corpusId, { text, maxResults }, deadline) {
      const path = `${corpusPath(corpusId)}/query`;
      const body = { query: text, maxResults };
      return ask(accountId, { method: "POST", repeat: "safe", path, body, read: json(z.array(Hit)).from }, deadline);
    },

    async uploadDocument(accountId, corpusId, { fileName, contentType, bytes }, deadline) {
      const path = `${corpusPath(corpusId)}/uploads`;
      const body = { mimeType: contentType, fileName };
      // A link more than is used does no harm, so this may be asked twice.
      const upload = await ask(
        accountId,
        { method: "POST", repeat: "safe", path, body, read: json(Upload).from },
        deadline,
      );
      await stillGood(put(upload.presignedUrl, { contentType, bytes }, deadline));
      return { providerDocumentId: upload.documentId };
    },

    createSource(accountId, corpusId, { id, ...from }, deadline) {
      const path = `${corpusPath(corpusId)}/sources`;
      const body = { name: id, ...specOf(from) };
      return ask(accountId, { method: "POST", repeat: "create", path, body, read: json(Source).from }, deadline);
    },

    async findSources(accountId, corpusId, name, deadline) {
      const list = { path: `${corpusPath(corpusId)}/sources`, query: {}, item: Source };
      return (await all(accountId, list, deadline)).filter((source) => source.name === name);
    },

    getSource: (accountId, corpusId, sourceId, deadline) =>
      unless(404, null, read(accountId, sourcePath(corpusId, sourceId), Source, deadline)),

    // Any change has a source read again, and its id stays (docs.ultravox.ai, corpora-sources-partial-update).
    refreshSource: (accountId, corpusId, sourceId, deadline) =>
      ask(
        accountId,
        {
          method: "PATCH",
          repeat: "safe",
          path: sourcePath(corpusId, sourceId),
          body: {},
          read: json(Source).from,
        },
        deadline,
      ),

    deleteSource: (accountId, corpusId, sourceId, deadline) =>
      remove(accountId, sourcePath(corpusId, sourceId), deadline),
  };
}

type From = { documentIds: string[] } | { crawl: { startUrls: string[]; maxDepth: number; maxDocuments: number } };

/** Ours counts the links that are followed, theirs the rows of pages (openapi: ultravox.v1.CrawlSpec.maxDepth). */
function specOf(from: From) {
  if ("documentIds" in from) return { upload: { documentIds: from.documentIds } };
  return { crawl: { ...from.crawl, maxDepth: from.crawl.maxDepth + 1 } };
}

/** The storage refuses a link that has run out with 403: another one may be asked for. */
async function stillGood(putting: Promise<void>): Promise<void> {
  try {
    await putting;
  } catch (error) {
    if (!(error instanceof ProviderError && error.status === 403)) throw error;
    throw new ProviderError("unavailable", "Ultravox's storage did not take the file", { status: 403, cause: error });
  }
}
