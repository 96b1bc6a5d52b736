import type { TestApp } from "../../support/app.ts";
import { makeBase, putFile } from "../../support/knowledge.ts";
import { type ModuleInputs, page, type Setup } from "./resource.ts";

const words = { name: "Prices", description: "What callers ask.", metadata: { shop: "1" } };

/** A knowledge base with one ready file, as the workers would leave it. */
async function readyBase(h: TestApp, key: string): Promise<{ base: string; file: string }> {
  const base = await makeBase(h, key);
  const upload = await putFile(h, base, {}, key);
  const ingested = await h.post(`/kb/${base}/files/ingest`, { fileIds: [upload] }, { key });
  const file = ingested.body.data.files[0].id;
  await h.owner`update knowledge_files set status = 'ready', documents = 1 where id = ${file}`;
  await h.owner`update knowledge_bases set status = 'ready', ready_files = 1 where id = ${base}`;
  await h.owner`update workflow_runs set status = 'succeeded' where subject_id = ${file}`;
  return { base, file };
}

async function ofFile({ h, who }: Setup, status: "ready" | "failed") {
  const { base, file } = await readyBase(h, who.key);
  await h.owner`update knowledge_files set status = ${status} where id = ${file}`;
  return { id: base, fileId: file };
}

export const knowledge: ModuleInputs = {
  async createResources({ h, who }) {
    const { base, file } = await readyBase(h, who.key);
    return { knowledgeBase: base, knowledgeFile: file, knowledgeUpload: await putFile(h, base, {}, who.key) };
  },
  inputs: {
    "knowledge.create": () => words,
    "knowledge.list": () => ({
      ...page,
      status: "ready",
      search: "a",
      metadata: {},
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "knowledge.get": ({ own }) => ({ id: own.knowledgeBase }),
    "knowledge.update": ({ own }) => ({ id: own.knowledgeBase, ...words }),
    "knowledge.remove": async ({ h, who }) => ({ id: await makeBase(h, who.key), force: true }),
    "knowledge.query": ({ own }) => ({ id: own.knowledgeBase, query: "What does rye bread cost?", maxResults: 3 }),
    "knowledge.files.presign": ({ own }) => ({
      id: own.knowledgeBase,
      files: [
        {
          fileName: "prices.pdf",
          contentType: "application/pdf",
          bytes: 48_000,
          sha256: "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
        },
      ],
    }),
    "knowledge.files.ingest": async ({ h, who }) => {
      const base = await makeBase(h, who.key);
      return { id: base, fileIds: [await putFile(h, base, {}, who.key)] };
    },
    "knowledge.files.list": ({ own }) => ({
      ...page,
      id: own.knowledgeBase,
      status: "ready",
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "knowledge.files.get": ({ own }) => ({ id: own.knowledgeBase, fileId: own.knowledgeFile }),
    "knowledge.files.remove": (ground) => ofFile(ground, "ready"),
    "knowledge.files.retry": (ground) => ofFile(ground, "failed"),
    "knowledge.urls.ingest": async ({ h, who }) => ({
      id: await makeBase(h, who.key),
      urls: ["https://example.com/prices"],
      maxDepth: 1,
      maxDocuments: 5,
    }),
    "internal.knowledge.refresh": ({ own }) => ({ id: own.knowledgeBase }),
  },
};
