import { z } from "zod";
import { requestUpload } from "./documents.ts";
import { page, sortByCreation } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { chunksOf, documentsOf, removeSource, sourceRoutes, sourcesOf, stateOfSource } from "./sources.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

interface Corpus extends Thing {
  name: string;
  description: string;
  created: number;
}

const corpora = (world: World) => shelf<Corpus>(world, "corpora");
const resource = "corpora" as const;

export const corpusRoutes: Route[] = [
  { method: "GET", template: "/api/corpora", kind: "read", resource: resource, handle: listCorpora },
  { method: "POST", template: "/api/corpora", kind: "create", resource: resource, handle: createCorpus },
  { method: "GET", template: "/api/corpora/{corpus_id}", kind: "read", resource: resource, handle: getCorpus },
  { method: "PUT", template: "/api/corpora/{corpus_id}", kind: "change", resource: resource, handle: replaceCorpus },
  { method: "PATCH", template: "/api/corpora/{corpus_id}", kind: "change", resource: resource, handle: updateCorpus },
  { method: "DELETE", template: "/api/corpora/{corpus_id}", kind: "change", resource: resource, handle: removeCorpus },
  { method: "POST", template: "/api/corpora/{corpus_id}/uploads", kind: "create", resource: resource, handle: upload },
  { method: "POST", template: "/api/corpora/{corpus_id}/query", kind: "read", resource: resource, handle: queryCorpus },
  ...sourceRoutes(corpusOf),
];

/** The corpus in the first path parameter. */
function corpusOf(request: SimulatorRequest): Corpus {
  return own(corpora(request.world), { ...request, id: request.ids[0] ?? "" });
}

function listCorpora({ world, account, query, address }: SimulatorRequest): Reply {
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
function createCorpus({ world, account, body }: SimulatorRequest): Reply {
  const { name, description } = parse(NewCorpus, body);
  const allowed = account.corpora ?? Number.POSITIVE_INFINITY;
  if (ownedBy(corpora(world), account).length >= allowed) throw new Refusal(400, "The corpus limit was reached.");
  const { ordinal, random } = nextThing(world, resource);
  const corpus = { id: random.uuid(), ordinal, account: account.id, name, description, created: Date.now() };
  corpora(world).set(corpus.id, corpus);
  return { status: 201, body: corpusView(world, corpus) };
}

function getCorpus(request: SimulatorRequest): Reply {
  return { status: 200, body: corpusView(request.world, corpusOf(request)) };
}

function replaceCorpus(request: SimulatorRequest): Reply {
  const { name, description } = parse(NewCorpus, request.body);
  return { status: 200, body: corpusView(request.world, Object.assign(corpusOf(request), { name, description })) };
}

function updateCorpus(request: SimulatorRequest): Reply {
  const corpus = corpusOf(request);
  const { name, description } = parse(NewCorpus, {
    name: corpus.name,
    description: corpus.description,
    ...(request.body as object),
  });
  return { status: 200, body: corpusView(request.world, Object.assign(corpus, { name, description })) };
}

/** Deletes its sources and documents too. */
function removeCorpus(request: SimulatorRequest): Reply {
  const corpus = corpusOf(request);
  for (const source of sourcesOf(request.world, corpus.id)) removeSource(request.world, source);
  corpora(request.world).delete(corpus.id);
  return { status: 204 };
}

function upload(request: SimulatorRequest): Reply {
  return requestUpload(request, corpusOf(request).id);
}

const Query = z.strictObject({ query: z.string().min(1), maxResults: z.int().min(1).max(20).default(5) });

/** The score is the share of the query's words that a chunk contains. */
function queryCorpus(request: SimulatorRequest): Reply {
  const { query, maxResults } = parse(Query, request.body);
  const corpus = corpusOf(request);
  const words = wordsOf(query);
  const found = chunksOf(request.world, corpus.id).map(({ content, document }) => {
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
