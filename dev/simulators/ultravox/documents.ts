import { createHmac } from "node:crypto";
import { z } from "zod";
import { parse, Refusal } from "./requests.ts";
import type { Reply, Route, SimulatorRequest } from "./route.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

const linkSeconds = 300;
const maxBytes = 10 * 1024 * 1024;

/** The types that can be uploaded (docs.ultravox.ai, knowledge bases). */
const MIME_TYPES = [
  "application/msword",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  "application/vnd.ms-powerpoint",
  "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  "application/pdf",
  "application/epub+zip",
  "text/plain",
  "text/markdown",
];

/** One document of a corpus: uploaded, or made from a page. An upload has no effect until a source names it. */
export interface Document extends Thing {
  corpusId: string;
  sourceId: string | null;
  created: number;
  fileName: string;
  mimeType: string;
  publicUrl: string | null;
  /** null until it is uploaded. Not kept over a restart. */
  content?: Buffer | null;
}

export const documents = (world: World) => shelf<Document>(world, "documents");

/** The storage behind the links needs no API key: a key that arrives here was leaked. */
export const uploadRoutes: Route[] = [
  {
    method: "PUT",
    template: "/storage/uploads/{document_id}",
    kind: "change",
    resource: "corpora",
    handle: storeUpload,
  },
];

const Upload = z.strictObject({ mimeType: z.string().min(1), fileName: z.string().default("") });

/** The link is valid for five minutes and for this content type only. */
export function requestUpload(request: SimulatorRequest, corpusId: string): Reply {
  const { mimeType, fileName } = parse(Upload, request.body);
  if (!MIME_TYPES.includes(mimeType)) throw new Refusal(400, { mimeType: [`"${mimeType}" is not supported.`] });
  const document = addDocument(request, {
    corpusId,
    sourceId: null,
    fileName,
    mimeType,
    publicUrl: null,
    content: null,
  });
  const expires = Math.floor(Date.now() / 1000) + linkSeconds;
  const query = new URLSearchParams({ expires: `${expires}`, signature: signed(request.world, document, expires) });
  const presignedUrl = `${request.origin}/storage/uploads/${document.id}?${query}`;
  return { status: 201, body: { documentId: document.id, presignedUrl } };
}

type NewDocument = Omit<Document, "id" | "ordinal" | "account" | "created">;

export function addDocument(
  { world, account }: Pick<SimulatorRequest, "world" | "account">,
  fields: NewDocument,
): Document {
  const { ordinal, random } = nextThing(world, "documents");
  const document = { id: random.uuid(), ordinal, account: account.id, created: Date.now(), ...fields };
  documents(world).set(document.id, document);
  return document;
}

function storeUpload({ world, id, query, raw, contentType, hasApiKey }: SimulatorRequest): Reply {
  if (hasApiKey) throw new Refusal(400, "The API key was forwarded to the storage of uploads.");
  const document = documents(world).get(id);
  if (!document) throw new Refusal(404, "Not found.");
  const expires = Number(query.get("expires"));
  if (query.get("signature") !== signed(world, document, expires)) throw new Refusal(403, "The signature is wrong.");
  if (expires * 1000 < Date.now()) throw new Refusal(403, "The link has expired.");
  if (contentType !== document.mimeType) throw new Refusal(403, "The Content-Type is not the one that was signed.");
  if (raw.length > maxBytes) throw new Refusal(400, "The file is larger than 10 MB.");
  document.content = raw;
  return { status: 200 };
}

const signed = (world: World, { id, mimeType }: Document, expires: number) =>
  createHmac("sha256", `uploads ${world.seed}`).update(`${id} ${mimeType} ${expires}`).digest("hex");

export function documentView(document: Document) {
  const { corpusId, sourceId, fileName, publicUrl } = document;
  return {
    corpusId,
    ...(sourceId && { sourceId }),
    documentId: document.id,
    created: new Date(document.created).toISOString(),
    mimeType: document.mimeType,
    metadata: { ...(publicUrl && { publicUrl }), title: fileName },
    sizeBytes: `${document.content?.length ?? 0}`,
  };
}
