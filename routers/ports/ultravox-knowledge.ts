import type { Deadline } from "./provider-error.ts";

export type ProviderCorpus = {
  providerCorpusId: string;
  name: string;
  status: "empty" | "initializing" | "ready" | "updating" | "other";
  documents: number;
};
/** The provider has no status for a failed source. A source that is `ready` without documents has failed. */
export type ProviderSource = {
  providerSourceId: string;
  name: string;
  status: "initializing" | "ready" | "updating" | "other";
  documents: number;
};
export type ProviderHit = {
  content: string;
  score: number;
  providerSourceId: string | null;
  url: string | null;
  title: string | null;
};

export interface UltravoxKnowledge {
  createCorpus(
    accountId: string,
    corpus: { id: string; description: string | null },
    deadline: Deadline,
  ): Promise<ProviderCorpus>;
  findCorpora(accountId: string, knowledgeBaseId: string, deadline: Deadline): Promise<ProviderCorpus[]>;
  getCorpus(accountId: string, providerCorpusId: string, deadline: Deadline): Promise<ProviderCorpus | null>;
  deleteCorpus(accountId: string, providerCorpusId: string, deadline: Deadline): Promise<void>;
  queryCorpus(
    accountId: string,
    providerCorpusId: string,
    query: { text: string; maxResults: number },
    deadline: Deadline,
  ): Promise<ProviderHit[]>;
  /** Uploads one document. It has no effect until a source refers to it. */
  uploadDocument(
    accountId: string,
    providerCorpusId: string,
    document: { fileName: string; contentType: string; bytes: Buffer },
    deadline: Deadline,
  ): Promise<{ providerDocumentId: string }>;
  createSource(
    accountId: string,
    providerCorpusId: string,
    source: { id: string } & (
      | { documentIds: string[] }
      /** `maxDepth`: how many links are followed from a start URL; 0: none. */
      | { crawl: { startUrls: string[]; maxDepth: number; maxDocuments: number } }
    ),
    deadline: Deadline,
  ): Promise<ProviderSource>;
  findSources(accountId: string, providerCorpusId: string, name: string, deadline: Deadline): Promise<ProviderSource[]>;
  getSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<ProviderSource | null>;
  /** Reads the pages of a crawled source again. */
  refreshSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<ProviderSource>;
  deleteSource(
    accountId: string,
    providerCorpusId: string,
    providerSourceId: string,
    deadline: Deadline,
  ): Promise<void>;
}
