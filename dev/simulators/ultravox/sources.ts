import { z } from "zod";
import { addDocument, type Document, documents, documentView } from "./documents.ts";
import { page, sortByCreation } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { own, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

/** Simulated seconds until a source is ready, for the first time and after an update. */
const readyAfterSeconds = 6;
const maxSources = 20;
const maxDocuments = 200;

/** The name of the first file, or the first address, decides how a source ends. */
const SOURCES = {
  empty: { what: "ready and empty" },
  stuck: { what: "never ready" },
  slow: { what: "ready after a minute" },
} as const;

const Crawl = z.strictObject({
  startUrls: z.array(z.url()).min(1),
  maxDepth: z.int().min(1).default(1),
  maxDocuments: z.int().min(1).max(maxDocuments).default(maxDocuments),
  maxDocumentBytes: z.int().optional(),
  relevantDocumentTypes: z.record(z.string(), z.unknown()).optional(),
});
const Uploaded = z.strictObject({ documentIds: z.array(z.string()).min(1).max(maxDocuments) });
type Spec = { crawl?: z.output<typeof Crawl>; upload?: z.output<typeof Uploaded> };

interface Source extends Thing, Spec {
  corpusId: string;
  name: string;
  description: string;
  created: number;
  /** When processing of its documents started, for the first time or again (real time). */
  startedAt: number;
  /** It was ready before: its earlier documents can still be found. */
  again: boolean;
}

const sources = (world: World) => shelf<Source>(world, "sources");
const resource = "corpora" as const;
const one = "/api/corpora/{corpus_id}/sources/{source_id}";

export function sourceRoutes(corpusOf: (request: SimulatorRequest) => { id: string }): Route[] {
  const collection = { template: "/api/corpora/{corpus_id}/sources", resource: resource };
  const within = (handle: Route["handle"]) => (request: SimulatorRequest) => {
    corpusOf(request);
    return handle(request);
  };
  return [
    { ...collection, method: "GET", kind: "read", handle: within(listSources) },
    { ...collection, method: "POST", kind: "create", handle: within(createSource) },
    { method: "GET", template: one, kind: "read", resource: resource, handle: within(getSource) },
    { method: "PUT", template: one, kind: "change", resource: resource, handle: within(replaceSource) },
    { method: "PATCH", template: one, kind: "change", resource: resource, handle: within(updateSource) },
    { method: "DELETE", template: one, kind: "change", resource: resource, handle: within(deleteSource) },
    { method: "GET", template: `${one}/documents`, kind: "read", resource: resource, handle: within(listDocuments) },
  ];
}

export const sourcesOf = (world: World, corpusId: string): Source[] =>
  [...sources(world).values()].filter((source) => source.corpusId === corpusId);

function sourceOf(request: SimulatorRequest): Source {
  const source = own(sources(request.world), { ...request, id: request.ids[1] ?? "" });
  if (source.corpusId !== request.ids[0]) throw new Refusal(404, "Not found.");
  return source;
}

function listSources({ world, ids, query, address }: SimulatorRequest): Reply {
  const found = sortByCreation(sourcesOf(world, ids[0] ?? ""), new URLSearchParams());
  return { status: 200, body: page(found, { query, address }, (source) => sourceView(world, source)) };
}

// Read-only fields of the schema may be sent back; they change nothing.
const fields = {
  name: z.string().optional(),
  description: z.string().optional(),
  corpusId: z.string().optional(),
  sourceId: z.string().optional(),
  created: z.string().optional(),
  stats: z.record(z.string(), z.unknown()).optional(),
  crawl: Crawl.optional(),
  upload: Uploaded.optional(),
};
const NewSource = z
  .strictObject(fields)
  .refine(({ crawl, upload }) => (crawl === undefined) !== (upload === undefined), {
    message: "Exactly one of crawl and upload is needed.",
  });

function createSource(request: SimulatorRequest): Reply {
  const { world, account, ids, body } = request;
  const corpusId = ids[0] ?? "";
  const { name = "", description = "", crawl, upload } = parse(NewSource, body);
  if (sourcesOf(world, corpusId).length >= maxSources) throw new Refusal(400, "A corpus has at most 20 sources.");
  const named = upload?.documentIds.map((id) => unused(request, corpusId, id)) ?? [];
  const { ordinal, random } = nextThing(world, "sources");
  const now = Date.now();
  const source: Source = {
    ...{ id: random.uuid(), ordinal, account: account.id, corpusId, name, description },
    ...{ created: now, startedAt: now, again: false, ...(crawl && { crawl }), ...(upload && { upload }) },
  };
  for (const document of named) document.sourceId = source.id;
  for (const url of pagesOf(crawl)) addDocument(request, pageAt(url, source));
  sources(world).set(source.id, source);
  return { status: 201, body: sourceView(world, source) };
}

function unused({ world, account }: SimulatorRequest, corpusId: string, id: string): Document {
  const document = documents(world).get(id);
  if (document?.account !== account.id || document.corpusId !== corpusId) {
    throw new Refusal(400, { upload: [`No document ${id}.`] });
  }
  if (document.sourceId !== null) throw new Refusal(400, { upload: [`Document ${id} belongs to a source.`] });
  if (!document.content) throw new Refusal(400, { upload: [`Document ${id} was not uploaded.`] });
  return document;
}

/** Every page has one link: each level of depth adds one page for each address. */
function pagesOf(crawl: Spec["crawl"]): string[] {
  if (!crawl) return [];
  const pages = Array.from({ length: crawl.maxDepth }, (_, step) =>
    crawl.startUrls.map((url) => (step === 0 ? url : new URL(`${"deeper/".repeat(step)}`, url).href)),
  );
  return pages.flat().slice(0, crawl.maxDocuments);
}

function pageAt(url: string, { id: sourceId, corpusId }: Source) {
  const content = Buffer.from(
    `This page is at ${url}. It is about ${new URL(url).pathname.replaceAll("/", " ").trim()}.`,
  );
  return { corpusId, sourceId, fileName: `Page at ${url}`, mimeType: "text/html", publicUrl: url, content };
}

function getSource(request: SimulatorRequest): Reply {
  return { status: 200, body: sourceView(request.world, sourceOf(request)) };
}

function replaceSource(request: SimulatorRequest): Reply {
  const { name = "", description = "" } = parse(NewSource, request.body);
  return { status: 200, body: sourceView(request.world, Object.assign(sourceOf(request), { name, description })) };
}

/** Every change reads the pages again, under the same id (openapi: corpora_sources_partial_update). */
function updateSource(request: SimulatorRequest): Reply {
  const source = sourceOf(request);
  const change = parse(z.strictObject(fields).partial(), request.body);
  Object.assign(source, { name: change.name ?? source.name, description: change.description ?? source.description });
  source.again = stateOfSource(request.world, source) !== "INITIALIZING";
  source.startedAt = Date.now();
  return { status: 200, body: sourceView(request.world, source) };
}

function deleteSource(request: SimulatorRequest): Reply {
  removeSource(request.world, sourceOf(request));
  return { status: 204 };
}

export function removeSource(world: World, { id }: Source): void {
  for (const document of documents(world).values()) if (document.sourceId === id) documents(world).delete(document.id);
  sources(world).delete(id);
}

function listDocuments(request: SimulatorRequest): Reply {
  const found = sortByCreation(documentsOf(request.world, sourceOf(request)), new URLSearchParams());
  return { status: 200, body: page(found, request, documentView) };
}

export function stateOfSource(world: World, source: Source): "INITIALIZING" | "READY" | "UPDATING" {
  const ending = endingOf(world, source);
  const needs = ending === "stuck" ? Number.POSITIVE_INFINITY : ending === "slow" ? 60 : readyAfterSeconds;
  if (((Date.now() - source.startedAt) / 1000) * world.speed >= needs) return "READY";
  return source.again ? "UPDATING" : "INITIALIZING";
}

function endingOf(world: World, { crawl, upload }: Source): keyof typeof SOURCES | undefined {
  const name = crawl?.startUrls[0] ?? documents(world).get(upload?.documentIds[0] ?? "")?.fileName ?? "";
  return (Object.keys(SOURCES) as (keyof typeof SOURCES)[]).find((ending) => name.includes(ending));
}

/** What has been processed so far. */
export function documentsOf(world: World, source: Source): Document[] {
  if (stateOfSource(world, source) === "INITIALIZING" || endingOf(world, source) === "empty") return [];
  return [...documents(world).values()].filter(({ sourceId }) => sourceId === source.id);
}

/** The paragraphs that can be found. Text files are read; for other files only the name. */
export function chunksOf(world: World, corpusId: string): { content: string; document: Document }[] {
  const found = sourcesOf(world, corpusId).flatMap((source) => documentsOf(world, source));
  return found.flatMap((document) => {
    const text = document.mimeType.startsWith("text/") ? `${document.content ?? ""}` : document.fileName;
    const paragraphs = text.split(/\n\s*\n/).map((each) => each.trim());
    return paragraphs.filter(Boolean).map((content) => ({ content, document }));
  });
}

function sourceView(world: World, source: Source) {
  const { crawl, upload } = source;
  return {
    corpusId: source.corpusId,
    sourceId: source.id,
    created: new Date(source.created).toISOString(),
    name: source.name,
    description: source.description,
    stats: {
      status: `SOURCE_STATUS_${stateOfSource(world, source)}`,
      lastUpdated: new Date(source.startedAt).toISOString(),
      numDocs: documentsOf(world, source).length,
    },
    ...(crawl && { crawl }),
    ...(upload && { upload }),
  };
}
