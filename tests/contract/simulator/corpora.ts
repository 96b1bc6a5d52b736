import { setTimeout as sleep } from "node:timers/promises";
import type { Send } from "./resources.ts";

type Upload = { documentId: string; presignedUrl: string };

export async function corpora(ask: Send): Promise<void> {
  const { body: corpus } = await ask<{ corpusId: string }>("POST", "/api/corpora", {
    name: "kb_1",
    description: "Bread",
  });
  const path = `/api/corpora/${corpus.corpusId}`;
  await ask("GET", "/api/corpora?pageSize=5");
  await ask("GET", path);
  await ask("PUT", path, { name: "kb_1", description: "Bread and cake" });
  await ask("PATCH", path, { description: "Bread" });

  const { body: upload } = await ask<Upload>("POST", `${path}/uploads`, { mimeType: "text/plain", fileName: "a.txt" });
  await fetch(upload.presignedUrl, {
    method: "PUT",
    headers: { "content-type": "text/plain" },
    body: "Rye bread costs 4.20.",
  });
  const { body: source } = await ask<{ sourceId: string }>("POST", `${path}/sources`, {
    name: "kbf_1",
    upload: { documentIds: [upload.documentId] },
  });
  const crawl = { startUrls: ["https://example.com/prices"], maxDepth: 2, maxDocuments: 5 };
  await ask("POST", `${path}/sources`, { name: "kbf_2", crawl });
  const sourcePath = `${path}/sources/${source.sourceId}`;
  await ask("GET", `${path}/sources?pageSize=5`);
  for (let looks = 0; looks < 100; looks++) {
    const { body } = await ask<{ stats: { status: string } }>("GET", sourcePath);
    if (body.stats.status === "SOURCE_STATUS_READY") break;
    await sleep(10);
  }
  await ask("GET", `${sourcePath}/documents`);
  await ask("POST", `${path}/query`, { query: "What does rye bread cost?", maxResults: 3 });
  await ask("PUT", sourcePath, { name: "kbf_1", upload: { documentIds: [upload.documentId] } });
  await ask("PATCH", sourcePath, {});
  await ask("DELETE", sourcePath);
  await ask("DELETE", path);
}
