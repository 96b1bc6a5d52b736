import { z } from "zod";
import { requestUpload } from "./documents.ts";
import { page, sortByCreation } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { type Asked, own, ownedBy, type Reply, type Route } from "./route.ts";
import { chunksOf, documentsOf, removeSource, sourceRoutes, sourcesOf, stateOfSource } from "./sources.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

interface Corpus extends Thing {
  name: string;
  description: string;
  created: number;
}

const corpora = (world: World) => shelf<Corpus>(world, "corpora");
const noun = "corpora" as const;

export const corpusRoutes: Route[] = [
  { method: "GET", template: "/api/corpora", kind: "read", noun, handle: listCorpora },
  { method: "POST", template: "/api/corpora", kind: "create", noun, handle: createCorpus },
  { method: "GET", template: "/api/corpora/{corpus_id}", kind: "read", noun, handle: getCorpus },
  { method: "PUT", template: "/api/corpora/{corpus_id}", kind: "change", noun, handle: replaceCorpus },
  { method: "PATCH", template: "/api/corpora/{corpus_id}", kind: "change", noun, handle: updateCorpus },
  { method: "DELETE", template: "/api/corpora/{corpus_id}", kind: "change", noun, handle: removeCorpus },
  { method: "POST", template: "/api/corpora/{corpus_id}/uploads", kind: "create", noun, handle: upload },
  { method: "POST", template: "/api/corpora/{corpus_id}/query", kind: "read", noun, handle: queryCorpus },
  ...sourceRoutes(corpusOf),
];

/** The corpus in the first path parameter. */
function corpusOf(asked: Asked): Corpus {
  return own(corpora(asked.world), { ...asked, id: asked.ids[0] ?? "" });
}

function listCorpora({ world, account, query, address }: Asked): Reply {
  const found = sortByCreation(ownedBy(corpora(world), account), new URLSearchParams());
  return { status: 200, body: page(found, { query, address }, (corpus) => corpusView(world, corpus)) };
}

// Read-only fields of the schema may be sent back; they change nothing.
const NewCorpus = z.strictObject({
  name: z.string().default(""),
  description: z.string().default(""),
  corpusId: z.string().optional(),
  created: z.string().optional(),
  stats: z.record(z.string(), z.unknown()).optional(),
});

/** The provider's response at the limit of an account is not documented. */
function createCorpus({ world, account, body }: Asked): Reply {
  const { name, description } = parse(NewCorpus, body);
  const allowed = account.corpora ?? Number.POSITIVE_INFINITY;
  if (ownedBy(corpora(world), account).length >= allowed) throw new Refusal(400, "The corpus limit was reached.");
  const { ordinal, random } = nextThing(world, noun);
  const corpus = { id: random.uuid(), ordinal, account: account.id, name, description, created: Date.now() };
  corpora(world).set(corpus.id, corpus);
  return { status: 201, body: corpusView(world, corpus) };
}

function getCorpus(asked: Asked): Reply {
  return { status: 200, body: corpusView(asked.world, corpusOf(asked)) };
}

function replaceCorpus(asked: Asked): Reply {
  const { name, description } = parse(NewCorpus, asked.body);
  return { status: 200, body: corpusView(asked.world, Object.assign(corpusOf(asked), { name, description })) };
}

function updateCorpus(asked: Asked): Reply {
  const corpus = corpusOf(asked);
  const { name, description } = parse(NewCorpus, {
    name: corpus.name,
    description: corpus.description,
    ...(asked.body as object),
  });
  return { status: 200, body: corpusView(asked.world, Object.assign(corpus, { name, description })) };
}

/** Deletes its sources and documents too. */
function removeCorpus(asked: Asked): Reply {
  const corpus = corpusOf(asked);
  for (const source of sourcesOf(asked.world, corpus.id)) removeSource(asked.world, source);
  corpora(asked.world).delete(corpus.id);
  return { status: 204 };
}

function upload(asked: Asked): Reply {
  return requestUpload(asked, corpusOf(asked).id);
}

const Query = z.strictObject({ query: z.string().min(1), maxResults: z.int().min(1).max(20).default(5) });

/** The score is the share of the query's words that a chunk contains. */
function queryCorpus(asked: Asked): Reply {
  const { query, maxResults } = parse(Query, asked.body);
  const corpus = corpusOf(asked);
  const words = wordsOf(query);
  const found = chunksOf(asked.world, corpus.id).map(({ content, document }) => {
    const here = new Set(wordsOf(content));
    const score = words.filter((word) => here.has(word)).length / Math.max(1, words.length);
    const { id: documentId, sourceId, publicUrl, fileName: title } = document;
    return { content, score, citation: { sourceId, documentId, ...(publicUrl && { publicUrl }), title } };
  });
  const best = found.filter(({ score }) => score > 0).toSorted((a, b) => b.score - a.score);
  return { status: 200, body: best.slice(0, maxResults) };
}

const wordsOf = (text: string) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

function corpusView(world: World, corpus: Corpus) {
  const sources = sourcesOf(world, corpus.id);
  const states = sources.map((source) => stateOfSource(world, source));
  const isReady = (each: string) => each !== "INITIALIZING";
  const settled = states.every((each) => each === "READY");
  const status =
    sources.length === 0 ? "EMPTY" : !states.some(isReady) ? "INITIALIZING" : settled ? "READY" : "UPDATING";
  const numChunks = chunksOf(world, corpus.id).length;
  return {
    corpusId: corpus.id,
    created: new Date(corpus.created).toISOString(),
    name: corpus.name,
    description: corpus.description,
    stats: {
      status: `CORPUS_STATUS_${status}`,
      lastUpdated: new Date(corpus.created).toISOString(),
      numChunks,
      numDocs: sources.flatMap((source) => documentsOf(world, source)).length,
      numVectors: numChunks,
    },
  };
}
