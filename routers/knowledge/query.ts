import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { knowledgeFiles } from "../../db/schema/knowledge.ts";
import { ApiError } from "../core/errors.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { KnowledgeAnswer, QueryKnowledge } from "./schema.ts";
import { findBase } from "./service.ts";
import { isUsable } from "./transitions.ts";

type Corpus = {
  accountId: string;
  corpusId: string;
  sources: Map<string, { fileId: string; name: string | null }>;
};

/** Searches a knowledge base as an agent would. */
export function queryKnowledge({ ultravox }: Pick<Providers, "ultravox">, { id, query, maxResults }: QueryKnowledge) {
  return {
    read: (tx: Tx) => findUsableCorpus(tx, id),
    async execute({ accountId, corpusId, sources }: Corpus, deadline: Deadline): Promise<KnowledgeAnswer> {
      const hits = await ultravox.queryCorpus(accountId, corpusId, { text: query, maxResults }, deadline);
      // The provider can still find a file for a moment after it was deleted here.
      const existing = hits.filter(
        ({ providerSourceId }) => providerSourceId === null || sources.has(providerSourceId),
      );
      const results = existing.map(({ content, score, providerSourceId, title, url }) => {
        const source = providerSourceId === null ? undefined : sources.get(providerSourceId);
        return { content, score, fileId: source?.fileId ?? null, title: title ?? source?.name ?? null, url };
      });
      return { results };
    },
  };
}

async function findUsableCorpus(tx: Tx, id: string): Promise<Corpus> {
  const base = await findBase(tx, id);
  if (!base.providerCorpusId || !isUsable(base)) {
    const why = base.statusReason ?? "Ingest a file or a web page first.";
    throw new ApiError("knowledge_base_not_ready", `Knowledge base ${id} is ${base.status}. ${why}`);
  }
  const files = await tx
    .select({ fileId: knowledgeFiles.id, name: knowledgeFiles.fileName, sourceId: knowledgeFiles.providerSourceId })
    .from(knowledgeFiles)
    .where(sql`${eq(knowledgeFiles.knowledgeBaseId, id)} and ${knowledgeFiles.status} <> 'deleted'`);
  const sources = files.flatMap(({ sourceId, ...file }) => (sourceId ? [[sourceId, file] as const] : []));
  return { accountId: base.providerAccountId, corpusId: base.providerCorpusId, sources: new Map(sources) };
}
