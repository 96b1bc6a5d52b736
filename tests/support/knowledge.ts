import { createHash } from "node:crypto";
import { expect } from "vitest";
import { type TestApp, until } from "./app.ts";

export const priceList = "Rye bread costs 4.20.\n\nCroissants cost 2.10.\n\nWe open at seven.";

export async function makeBase(h: TestApp, key = h.ada.key, name = "Prices"): Promise<string> {
  const { status, body } = await h.post("/kb", { name, description: "What callers ask." }, { key });
  expect(status, JSON.stringify(body)).toBe(201);
  return body.data.id;
}

type Content = { fileName?: string; content?: string | Buffer; contentType?: string; send?: boolean };

/** The id of an upload in storage. */
export async function putFile(h: TestApp, baseId: string, options: Content = {}, key = h.ada.key): Promise<string> {
  const { fileName = "prices.txt", content = priceList, contentType = "text/plain", send = true } = options;
  const bytes = Buffer.from(content);
  const sha256 = createHash("sha256").update(bytes).digest("base64");
  const file = { fileName, contentType, bytes: bytes.length, sha256 };
  const { status, body } = await h.post(`/kb/${baseId}/files/presign`, { files: [file] }, { key });
  expect(status, JSON.stringify(body)).toBe(201);
  const [{ id, url, method, headers }] = body.data.files;
  if (send) expect((await fetch(url, { method, headers, body: bytes })).status).toBe(200);
  return id;
}

/** The id of a file that is being ingested. */
export async function ingest(h: TestApp, baseId: string, options: Content = {}): Promise<string> {
  const upload = await putFile(h, baseId, options);
  const { status, body } = await h.post(`/kb/${baseId}/files/ingest`, { fileIds: [upload] });
  expect(status, JSON.stringify(body)).toBe(202);
  return body.data.files[0].id;
}

export const fileOf = async (h: TestApp, baseId: string, fileId: string) =>
  (await h.get(`/kb/${baseId}/files/${fileId}`)).body.data;
export const baseOf = async (h: TestApp, baseId: string) => (await h.get(`/kb/${baseId}`)).body.data;

/** Waits for a file to reach a status, and makes waiting jobs due immediately. */
export function settled(h: TestApp, baseId: string, fileId: string, status = "ready", seconds = 40) {
  return until(async () => {
    await hurrySteps(h);
    const file = await fileOf(h, baseId, fileId);
    return file?.status === status ? file : null;
  }, seconds);
}

/** Makes the next check of waiting steps due now, with the provider done. */
export async function hurrySteps({ owner }: TestApp) {
  await owner`
    update graphile_worker._private_jobs j set run_at = now() from graphile_worker._private_tasks t
    where t.id = j.task_id and t.identifier in ('workflows.advance', 'knowledge.forget', 'upstream.remove')
      and j.locked_at is null and j.run_at > now()`;
  await owner`select pg_notify('jobs:insert', '{"r":0,"count":1}')`;
}

export const letAnswersBeOverdue = ({ owner }: TestApp) =>
  owner`update knowledge_files set asked_at = asked_at - interval '1 minute' where provider_source_id is null`;

export async function storyOf({ owner }: TestApp, baseId: string): Promise<string[]> {
  const rows = await owner`select type from events where subject_id = ${baseId} order by sequence`;
  return rows.map(({ type }) => type.replace("knowledge_base.", ""));
}

/** The provider's resources, requested with the account's key. */
export async function upstream(h: TestApp, path: string, post?: object) {
  const headers = { "x-api-key": h.env.ULTRAVOX_API_KEY, "content-type": "application/json" };
  const sent = post ? { method: "POST", headers, body: JSON.stringify(post) } : { headers };
  const response = await fetch(`${h.simulator.url}/api${path}`, sent);
  // biome-ignore lint/suspicious/noExplicitAny: a response of unknown form
  return { status: response.status, body: (await response.json()) as any };
}

export async function corpusOf({ owner }: TestApp, baseId: string): Promise<string> {
  const [row] = await owner`select provider_corpus_id from knowledge_bases where id = ${baseId}`;
  return row!.provider_corpus_id;
}

export async function sourceNames(h: TestApp, baseId: string): Promise<string[]> {
  const { status, body } = await upstream(h, `/corpora/${await corpusOf(h, baseId)}/sources?pageSize=100`);
  if (status === 404) return []; // the corpus was deleted with its contents
  if (status !== 200) throw new Error(`The provider responded ${status}: ${JSON.stringify(body)}`);
  return body.results.map(({ name }: { name: string }) => name);
}
