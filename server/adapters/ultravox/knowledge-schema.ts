import { z } from "zod";
import type { ProviderCorpus, ProviderHit, ProviderSource } from "../../../routers/ports/ultravox.ts";
import { translated } from "../shared/unknown-words.ts";

const corpusStatuses = {
  CORPUS_STATUS_UNSPECIFIED: "initializing",
  CORPUS_STATUS_EMPTY: "empty",
  CORPUS_STATUS_INITIALIZING: "initializing",
  CORPUS_STATUS_READY: "ready",
  CORPUS_STATUS_UPDATING: "updating",
} as const satisfies Record<string, ProviderCorpus["status"]>;

const sourceStatuses = {
  SOURCE_STATUS_UNSPECIFIED: "initializing",
  SOURCE_STATUS_INITIALIZING: "initializing",
  SOURCE_STATUS_READY: "ready",
  SOURCE_STATUS_UPDATING: "updating",
} as const satisfies Record<string, ProviderSource["status"]>;

/** A missing status means that it is new; an unknown one is `other`. */
const statusIn = <V>(words: Record<string, V>, word: string | undefined, none: V, other: V, field: string): V =>
  word === undefined ? none : translated(words, word, other, ["ultravox", field]);

const Stats = z.looseObject({ status: z.string().optional(), numDocs: z.number().int().optional() }).nullish();

export const Corpus = z
  .looseObject({ corpusId: z.string().min(1), name: z.string().nullish(), stats: Stats })
  .transform(
    ({ corpusId, name, stats }): ProviderCorpus => ({
      providerCorpusId: corpusId,
      name: name ?? "",
      status: statusIn<ProviderCorpus["status"]>(
        corpusStatuses,
        stats?.status,
        "initializing",
        "other",
        "corpus.status",
      ),
      documents: stats?.numDocs ?? 0,
    }),
  );

export const Source = z
  .looseObject({ sourceId: z.string().min(1), name: z.string().nullish(), stats: Stats })
  .transform(
    ({ sourceId, name, stats }): ProviderSource => ({
      providerSourceId: sourceId,
      name: name ?? "",
      status: statusIn<ProviderSource["status"]>(
        sourceStatuses,
        stats?.status,
        "initializing",
        "other",
        "source.status",
      ),
      documents: stats?.numDocs ?? 0,
    }),
  );

export const Upload = z.looseObject({ documentId: z.string().min(1), presignedUrl: z.string().min(1) });

export const Hit = z
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

/** Of `GET /api/accounts/me`: how many corpora the account may have; null: no limit. */
export const Allowance = z.looseObject({ allowedCorpora: z.number().int().nullish() });
