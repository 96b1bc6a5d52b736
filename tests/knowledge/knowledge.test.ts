import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { ultravox } from "../../server/adapters/ultravox/index.ts";
import { serviceToken, startTestApp, until } from "../support/app.ts";
import { makeAgent, queueSystemJob, waitingJobs } from "../support/calls.ts";
import {
  baseOf,
  corpusOf,
  fileOf,
  hurrySteps,
  ingest,
  letAnswersBeOverdue,
  makeBase,
  putFile,
  settled,
  sourceNames,
  storyOf,
  upstream,
} from "../support/knowledge.ts";

const h = await startTestApp({ workers: true, speed: 1000 });
const round = ["ingestion.started", "ingestion.completed"];

const codeOf = ({ status, body }: { status: number; body: { error?: { code: string } } }) => [status, body.error?.code];

describe("a knowledge base", () => {
  test("is a corpus at the provider with its id as the name, and emits one event", async () => {
    const id = await makeBase(h);
    const { body } = await upstream(h, `/corpora/${await corpusOf(h, id)}`);
    expect(body).toMatchObject({ name: id, description: "What callers ask." });
    expect(await baseOf(h, id)).toMatchObject({ status: "empty", isUsable: false, readyFiles: 0, statusReason: null });
    expect(await storyOf(h, id)).toEqual(["created"]);
  });

  test("whose create response was lost is found by its name, and exists once", async () => {
    await h.simulator.faults({ applyTo: "corpora", create: { resetAfterAccepting: 1 } });
    const made = await h.post("/kb", { name: "Unheard" });
    expect(made).toMatchObject({ status: 202, body: { data: { status: "provisioning" } } });
    const { id } = made.body.data;
    expect(codeOf(await h.post(`/kb/${id}/urls`, { urls: ["https://example.com"] }))).toEqual([
      409,
      "knowledge_base_busy",
    ]);
    expect(codeOf(await h.remove(`/kb/${id}`))).toEqual([409, "knowledge_base_busy"]);
    await until(async () => {
      await h.owner`update graphile_worker._private_jobs set run_at = now() where locked_at is null`;
      await h.owner`select pg_notify('jobs:insert', '{"r":0,"count":1}')`;
      return (await baseOf(h, id)).status === "empty";
    });
    const { body } = await upstream(h, "/corpora?pageSize=100");
    expect(body.results.filter(({ name }: { name: string }) => name === id)).toHaveLength(1);
  });

  test("that the provider refuses is failed with the reason, and accepts no files", async () => {
    await h.simulator.faults({ applyTo: "corpora", create: { errors: [{ status: 400 }] } });
    const refused = await h.post("/kb", { name: "Refused" });
    expect(codeOf(refused)).toEqual([422, "provider_rejected"]);
    const [{ id }] = refused.body.error.details;
    expect(await baseOf(h, id)).toMatchObject({ status: "failed", statusReason: expect.stringContaining("refused") });
    const asked = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com"] });
    expect(codeOf(asked)).toEqual([409, "knowledge_base_not_ready"]);
    expect((await h.remove(`/kb/${id}`)).status).toBe(204);
  });

  test("changes its name, description and metadata only", async () => {
    const id = await makeBase(h);
    const { body } = await h.patch(`/kb/${id}`, { name: "Hours", metadata: { shop: "2" } });
    expect(body.data).toMatchObject({ id, name: "Hours", description: "What callers ask.", metadata: { shop: "2" } });
    expect((await h.patch(`/kb/${id}`, { description: null })).body.data).toMatchObject({
      name: "Hours",
      description: null,
    });
  });

  test("is listed by status, page by page, and by name, metadata and time of creation", async () => {
    const own = { key: h.bob.key };
    const ids = [await makeBase(h, h.bob.key), await makeBase(h, h.bob.key), await makeBase(h, h.bob.key)];
    const first = await h.get("/kb?limit=2&status=empty", own);
    expect(first.body.data.map(({ id }: { id: string }) => id)).toEqual([ids[2], ids[1]]);
    const second = await h.get(`/kb?limit=2&status=empty&cursor=${first.body.meta.nextCursor}`, own);
    expect(second.body).toMatchObject({ data: [{ id: ids[0] }], meta: { hasMore: false } });
    expect((await h.get("/kb?status=ready", own)).body.data).toEqual([]);
    const { createdAt } = first.body.data[0];
    await h.patch(`/kb/${ids[1]}`, { name: "Tariffs", metadata: { shop: "2" } }, own);
    for (const [query, expected] of [
      ["search=TARIF", [ids[1]]],
      ["metadata=shop:2", [ids[1]]],
      ["metadata=shop:3", []],
      [`createdAfter=${createdAt}`, [ids[2]]],
      [`createdBefore=${createdAt}`, [ids[1], ids[0]]],
    ] as const) {
      const { body } = await h.get(`/kb?${query}`, own);
      expect(
        body.data.map(({ id }: { id: string }) => id),
        query,
      ).toEqual(expected);
    }
  });
});

describe("a file", () => {
  test("goes from storage into the corpus, and can be queried", async () => {
    const id = await makeBase(h);
    const asked = await h.post(`/kb/${id}/files/ingest`, { fileIds: [await putFile(h, id)] });
    const [{ id: fileId, status }] = asked.body.data.files;
    expect([asked.status, status]).toEqual([202, "pending"]);
    const file = await settled(h, id, fileId);
    expect(file).toMatchObject({ kind: "file", fileName: "prices.txt", documents: 1, statusReason: null });
    expect(await baseOf(h, id)).toMatchObject({ status: "ready", isUsable: true, readyFiles: 1 });
    expect(await storyOf(h, id)).toEqual(["created", ...round]);
    expect(await sourceNames(h, id)).toEqual([fileId]);

    const answer = await h.post(`/kb/${id}/query`, { query: "rye bread costs", maxResults: 1 });
    expect(answer.body.data.results).toEqual([
      { content: "Rye bread costs 4.20.", score: 1, fileId, title: "prices.txt", url: null },
    ]);
    const audited = await h.owner`select action from audit_log where subject_id = ${id} order by id`;
    expect(audited.map(({ action }) => action)).toEqual([
      "knowledge.create",
      "knowledge.files.presign",
      "knowledge.files.ingest",
    ]);
  });

  test("that is not in storage is not ingested, and an upload is used only once", async () => {
    const id = await makeBase(h);
    const missing = await putFile(h, id, { send: false });
    const asked = await h.post(`/kb/${id}/files/ingest`, { fileIds: [missing] });
    expect(codeOf(asked)).toEqual([409, "upload_not_complete"]);
    expect(asked.body.error.message).toContain("prices.txt");
    const there = await putFile(h, id);
    const both = await Promise.all([1, 2].map(() => h.post(`/kb/${id}/files/ingest`, { fileIds: [there] })));
    expect(both.map(({ status }) => status).toSorted()).toEqual([202, 404]);
    expect((await h.get(`/kb/${id}/files`)).body.data).toHaveLength(1);
  });

  test("that was presigned for another knowledge base is not found", async () => {
    const [id, other] = [await makeBase(h), await makeBase(h)];
    const fileIds = [await putFile(h, other)];
    expect(codeOf(await h.post(`/kb/${id}/files/ingest`, { fileIds }))).toEqual([404, "upload_not_found"]);
    const fileId = await ingest(h, other);
    for (const door of [h.get, h.remove]) {
      expect(codeOf(await door(`/kb/${id}/files/${fileId}`))).toEqual([404, "knowledge_file_not_found"]);
    }
    await settled(h, other, fileId);
  });

  test("without content fails, and its source is removed at the provider", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id, { fileName: "empty.txt" });
    const file = await settled(h, id, fileId, "failed");
    expect(file.statusReason).toMatch(/no readable/);
    expect(await baseOf(h, id)).toMatchObject({ status: "failed", isUsable: false });
    expect(await storyOf(h, id)).toEqual(["created", "ingestion.started", "ingestion.failed"]);
    await until(async () => (await sourceNames(h, id)).length === 0);
    expect(codeOf(await h.post(`/kb/${id}/query`, { query: "bread" }))).toEqual([409, "knowledge_base_not_ready"]);
  });

  test("that is never ready fails at the deadline, and not before", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id, { fileName: "stuck.txt" });
    await until(async () => (await sourceNames(h, id)).length === 1);
    await hurrySteps(h);
    await until(async () => {
      await hurrySteps(h);
      const steps = await h.owner`select s.position from workflow_steps s join workflow_runs r on r.id = s.run_id
        where r.subject_id = ${fileId} and s.status = 'running'`;
      return steps[0]?.position === 2;
    });
    expect((await fileOf(h, id, fileId)).status).toBe("ingesting");
    const [row] =
      await h.owner`select extract(epoch from deadline_at - asked_at) as seconds from knowledge_files where id = ${fileId}`;
    expect(Number(row!.seconds)).toBeGreaterThan(14.9 * 60);
    await h.owner`update knowledge_files set deadline_at = now() where id = ${fileId}`;
    const file = await settled(h, id, fileId, "failed");
    expect(file.statusReason).toMatch(/in time/);
    const [run] = await h.owner`select status from workflow_runs where subject_id = ${fileId}`;
    expect(run!.status).toBe("failed");
    await until(async () => {
      await hurrySteps(h);
      return (await sourceNames(h, id)).length === 0;
    });
  });

  test("that failed can be ingested again, as another source of the same file", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id, { fileName: "empty.txt" });
    await settled(h, id, fileId, "failed");
    await h.owner`update uploads set file_name = 'prices.txt' where id = (select upload_id from knowledge_files where id = ${fileId})`;
    const again = await Promise.all([1, 2, 3].map(() => h.post(`/kb/${id}/files/${fileId}/retry`)));
    expect(again.map(({ status }) => status).toSorted()).toEqual([202, 409, 409]);
    expect(again.flatMap(({ body }) => body.error?.code ?? [])).toEqual(Array(2).fill("knowledge_file_not_failed"));
    expect(await settled(h, id, fileId)).toMatchObject({ documents: 1, statusReason: null });
    await until(async () => (await sourceNames(h, id)).length === 1);
    expect(await sourceNames(h, id)).toEqual([`${fileId}.2`]);
    expect(await storyOf(h, id)).toEqual(["created", "ingestion.started", "ingestion.failed", ...round]);
    expect(codeOf(await h.post(`/kb/${id}/files/${fileId}/retry`))).toEqual([409, "knowledge_file_not_failed"]);
  });

  test("is deleted here, at the provider and in storage", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id);
    await settled(h, id, fileId);
    expect((await h.remove(`/kb/${id}/files/${fileId}`)).status).toBe(204);
    expect(codeOf(await h.get(`/kb/${id}/files/${fileId}`))).toEqual([404, "knowledge_file_not_found"]);
    expect((await h.get(`/kb/${id}/files`)).body.data).toEqual([]);
    expect(await baseOf(h, id)).toMatchObject({ status: "empty", isUsable: false, readyFiles: 0 });
    expect(await storyOf(h, id)).toEqual(["created", ...round]);
    await until(async () => (await sourceNames(h, id)).length === 0);
    const [upload] =
      await h.owner`select u.status, u.object_key from uploads u join knowledge_files f on f.upload_id = u.id where f.id = ${fileId}`;
    expect(upload!.status).toBe("gone");
    await until(async () => (await h.deps.providers.files.head(upload!.object_key, soon())) === null);
  });

  test.each(["createSource", "getSource"] as const)(
    "that is deleted while the provider answers %s does not come back",
    async (verb) => {
      const id = await makeBase(h);
      const corpus = await corpusOf(h, id);
      const { ultravox: provider } = h.deps.providers;
      const { [verb]: asked } = provider;
      const told = Promise.withResolvers<string>();
      const deleting = async (...given: never[]) => {
        const answer = await (asked as (...all: never[]) => Promise<{ status: string } | null>)(...given);
        const isNow = verb === "createSource" || answer?.status === "ready";
        if (given[1] === corpus && isNow) await h.remove(`/kb/${id}/files/${await told.promise}`);
        return answer;
      };
      Object.assign(provider, { [verb]: deleting });
      try {
        const { body } = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/gone"] });
        told.resolve(body.data.files[0].id);
        await until(async () => {
          await hurrySteps(h);
          const [row] = await h.owner`select status from knowledge_files where id = ${await told.promise}`;
          const jobs = await Promise.all(["workflows.advance", "upstream.remove"].map((task) => waitingJobs(h, task)));
          return row!.status === "deleted" && jobs.flat().length === 0;
        });
      } finally {
        Object.assign(provider, { [verb]: asked });
      }
      expect(codeOf(await h.get(`/kb/${id}/files/${await told.promise}`))).toEqual([404, "knowledge_file_not_found"]);
      expect(await sourceNames(h, id)).toEqual([]);
      expect(await baseOf(h, id)).toMatchObject({ status: "empty", readyFiles: 0 });
      expect(await storyOf(h, id)).toEqual(["created", ...round]);
    },
  );

  test("that is deleted during ingestion does not come back", async () => {
    const id = await makeBase(h);
    const fileIds = await Promise.all(Array.from({ length: 8 }, () => ingest(h, id)));
    const asked = fileIds.map(async (fileId, index) => {
      await new Promise((resolve) => setTimeout(resolve, index * 40));
      return (await h.remove(`/kb/${id}/files/${fileId}`)).status;
    });
    expect(await Promise.all(asked)).toEqual(Array(8).fill(204));
    await until(async () => {
      await hurrySteps(h);
      const running =
        await h.owner`select id from workflow_runs where status = 'running' and subject_id = any(${fileIds})`;
      const jobs = await Promise.all(["knowledge.forget", "upstream.remove"].map((task) => waitingJobs(h, task)));
      return running.length === 0 && jobs.flat().length === 0 && (await sourceNames(h, id)).length === 0;
    });
    expect(await baseOf(h, id)).toMatchObject({ status: "empty", readyFiles: 0 });
    const rows = await h.owner`select status from knowledge_files where id = any(${fileIds})`;
    expect(new Set(rows.map(({ status }) => status))).toEqual(new Set(["deleted"]));
    const story = await storyOf(h, id);
    expect(story.filter((each) => each === "ingestion.started").length).toBe(
      story.filter((each) => /completed|failed/.test(each)).length,
    );
  });
});

const soon = () => ({ signal: AbortSignal.timeout(30_000) });

describe("rounds", () => {
  test("many files together are one round, with one event when the last has settled", async () => {
    const id = await makeBase(h);
    const names = ["a.txt", "b.txt", "empty.txt", "c.txt"];
    const uploads = await Promise.all(names.map((fileName) => putFile(h, id, { fileName })));
    const { body } = await h.post(`/kb/${id}/files/ingest`, { fileIds: uploads });
    expect(body.data.files.map(({ fileName }: { fileName: string }) => fileName)).toEqual(names);
    await until(async () => {
      await hurrySteps(h);
      return (await baseOf(h, id)).status !== "ingesting";
    });
    const statuses = (await h.get(`/kb/${id}/files`)).body.data.map(({ status }: { status: string }) => status);
    expect(statuses).toEqual(["ready", "failed", "ready", "ready"]);
    expect((await h.get(`/kb/${id}/files?status=failed`)).body.data).toHaveLength(1);
    expect(await baseOf(h, id)).toMatchObject({ status: "ready", readyFiles: 3 });
    expect(await storyOf(h, id)).toEqual(["created", ...round]);
  });

  test("a base with content can be queried during an ingestion; a round of failures emits one event", async () => {
    const id = await makeBase(h);
    await settled(h, id, await ingest(h, id));
    const second = await ingest(h, id, { fileName: "stuck.txt" });
    expect(await baseOf(h, id)).toMatchObject({ status: "ingesting", isUsable: true, readyFiles: 1 });
    expect((await h.post(`/kb/${id}/query`, { query: "croissants" })).body.data.results).toHaveLength(1);
    await h.owner`update knowledge_files set deadline_at = now() - interval '1 hour' where id = ${second}`;
    await until(async () => {
      await h.owner`update knowledge_files set deadline_at = now() where id = ${second}`;
      await hurrySteps(h);
      return (await fileOf(h, id, second)).status === "failed";
    });
    expect(await baseOf(h, id)).toMatchObject({ status: "ready", isUsable: true });
    expect(await storyOf(h, id)).toEqual(["created", ...round, "ingestion.started", "ingestion.failed"]);
  });

  test("the limit of the provider holds under concurrent requests", async () => {
    const id = await makeBase(h);
    const urls = (start: number, count: number) =>
      Array.from({ length: count }, (_, index) => `https://example.com/${start + index}`);
    const asked = await Promise.all([0, 10, 20, 30].map((start) => h.post(`/kb/${id}/urls`, { urls: urls(start, 8) })));
    expect(asked.map(({ status }) => status).toSorted()).toEqual([202, 202, 409, 409]);
    const full = asked.find(({ status }) => status === 409)!;
    expect(full.body.error).toMatchObject({
      code: "knowledge_base_full",
      message: expect.stringContaining("capacity for 4 more"),
    });
    expect((await h.post(`/kb/${id}/urls`, { urls: urls(50, 4) })).status).toBe(202);
    expect(codeOf(await h.post(`/kb/${id}/urls`, { urls: urls(60, 1) }))).toEqual([409, "knowledge_base_full"]);
    expect((await h.remove(`/kb/${id}`)).status).toBe(204);
  });
});

describe("web pages", () => {
  test("are read by the provider to the given depth, and again on request", async () => {
    const id = await makeBase(h);
    const asked = await h.post(`/kb/${id}/urls`, {
      urls: ["http://example.com/prices#top"],
      maxDepth: 2,
      maxDocuments: 2,
    });
    expect(asked.status).toBe(202);
    const [{ id: fileId }] = asked.body.data.files;
    const file = await settled(h, id, fileId);
    expect(file).toMatchObject({ kind: "url", url: "http://example.com/prices", documents: 2, fileName: null });
    const { body } = await upstream(h, `/corpora/${await corpusOf(h, id)}/sources`);
    expect(body.results[0].crawl).toMatchObject({ maxDepth: 3, maxDocuments: 2 });
    const before = body.results[0].sourceId;

    const { ultravox: provider } = h.deps.providers;
    const { refreshSource } = provider;
    const held = Promise.withResolvers<void>();
    provider.refreshSource = async (...given) => {
      await held.promise;
      return refreshSource(...given);
    };
    try {
      const again = await h.post(`/kb/${id}/files/${fileId}/retry`);
      expect(again).toMatchObject({ status: 202, body: { data: { status: "ingesting" } } });
      expect(await baseOf(h, id)).toMatchObject({ status: "ingesting", isUsable: true, readyFiles: 1 });
    } finally {
      held.resolve();
      provider.refreshSource = refreshSource;
    }
    await settled(h, id, fileId);
    const after = await upstream(h, `/corpora/${await corpusOf(h, id)}/sources`);
    expect(after.body.results.map(({ sourceId }: { sourceId: string }) => sourceId)).toEqual([before]);
    const { requests } = await h.simulator.requests();
    const patches = requests.filter(
      ({ method, path }: { method: string; path: string }) => method === "PATCH" && path.endsWith(before),
    );
    expect(patches).toHaveLength(1);
    expect(await storyOf(h, id)).toEqual(["created", ...round, ...round]);
  });

  test("stay as they were with a reason if they cannot be read again", async () => {
    const id = await makeBase(h);
    const { body } = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/hours"] });
    const fileId = body.data.files[0].id;
    await settled(h, id, fileId);
    await until(async () => {
      await hurrySteps(h);
      const tasks = ["workflows.advance", "knowledge.forget", "upstream.remove"];
      return (await Promise.all(tasks.map((task) => waitingJobs(h, task)))).flat().length === 0;
    }); // otherwise jobs of other tests would use up the fault
    await h.simulator.faults({ applyTo: "corpora", changes: { errors: [{ status: 400 }] } });
    expect((await h.post(`/kb/${id}/files/${fileId}/retry`)).status).toBe(202);
    const file = await settled(h, id, fileId);
    expect(file.statusReason).toMatch(/could not be ingested again.*refused/);
    expect(await baseOf(h, id)).toMatchObject({ status: "ready", isUsable: true });
    expect(await sourceNames(h, id)).toEqual([fileId]);
    expect((await storyOf(h, id)).slice(-2)).toEqual(["ingestion.started", "ingestion.failed"]);
  });

  test.each([
    ["ftp://example.com/a", "https:// or http://"],
    ["http://127.0.0.1/a", "not on the public internet"],
    ["http://169.254.169.254/latest", "not on the public internet"],
    ["https://[::1]/", "not on the public internet"],
    ["https://intranet/", "not on the public internet"],
    ["http://printer.local/", "not on the public internet"],
    ["https://ada:secret@example.com/", "user name or password"],
    ["not a url", "not a URL"],
  ])("at %s are refused, and the error names the field", async (url, why) => {
    const id = await makeBase(h);
    const { status, body } = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/", url] });
    expect([status, body.error.code]).toEqual([422, "url_forbidden"]);
    expect(body.error.details).toEqual([{ path: "urls.1", message: expect.stringContaining(why) }]);
    expect((await h.get(`/kb/${id}/files`)).body.data).toEqual([]);
  });
});

describe("the provider fails", () => {
  test("a source whose create response was lost is looked up, and exists once", async () => {
    const id = await makeBase(h);
    const { body } = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/a"] });
    await settled(h, id, body.data.files[0].id);
    await h.simulator.faults({ applyTo: "corpora", create: { resetAfterAccepting: 1 } });
    const asked = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/b"] });
    const fileId = asked.body.data.files[0].id;
    await until(async () => (await sourceNames(h, id)).includes(fileId));
    await until(async () => {
      await letAnswersBeOverdue(h);
      await hurrySteps(h);
      return (await fileOf(h, id, fileId)).status === "ready";
    });
    expect((await sourceNames(h, id)).filter((name) => name === fileId)).toHaveLength(1);
    const { requests } = await h.simulator.requests();
    const creates = requests.filter((each: { body: { name?: string } | null }) => each.body?.name === fileId);
    expect(creates, "created once").toHaveLength(1);
  });

  test("while it is overloaded a file waits, and later fails with the provider's message", async () => {
    const id = await makeBase(h);
    await h.simulator.faults({ applyTo: "corpora", create: { errors: [{ status: 503, times: 3 }] } });
    const upload = await ingest(h, id);
    await settled(h, id, upload);
    await h.simulator.faults({ applyTo: "corpora", create: { errors: [{ status: 400, times: 100 }] } });
    const refused = await ingest(h, id);
    expect((await settled(h, id, refused, "failed")).statusReason).toMatch(/refused/);
    await h.simulator.faults({});
    expect((await h.post(`/kb/${id}/files/${refused}/retry`)).status).toBe(202);
    await settled(h, id, refused);
  });

  test("a second source of the same name is removed", async () => {
    const id = await makeBase(h);
    const corpus = await corpusOf(h, id);
    const { ultravox: provider } = h.deps.providers;
    const { createSource } = provider;
    const twins: number[] = [];
    provider.createSource = async (...given) => {
      const source = await createSource(...given);
      if (given[1] !== corpus) return source;
      const crawl = { startUrls: ["https://example.com/twice"] };
      const twin = await upstream(h, `/corpora/${corpus}/sources`, { name: given[2].id, crawl });
      twins.push(twin.status);
      return source;
    };
    const { body } = await h.post(`/kb/${id}/urls`, { urls: ["https://example.com/slow"] });
    const fileId = body.data.files[0].id;
    await settled(h, id, fileId).finally(() => {
      provider.createSource = createSource;
    });
    expect(twins).toEqual([201]);
    await until(async () => (await sourceNames(h, id)).length === 1);
    expect((await fileOf(h, id, fileId)).status).toBe("ready");
    const answer = await h.post(`/kb/${id}/query`, { query: "example com slow twice", maxResults: 5 });
    expect(answer.body.data.results.map((hit: { url: string }) => hit.url)).toEqual(["https://example.com/slow"]);
  });

  test("a file deleted here is not in results, although the provider still has it", async () => {
    const id = await makeBase(h);
    const gone = await ingest(h, id, { content: "Cake costs 9." });
    await settled(h, id, gone);
    const stays = await ingest(h, id);
    await settled(h, id, stays);
    await h.simulator.faults({ applyTo: "corpora", changes: { errors: [{ status: 503, times: 1000 }] } });
    expect((await h.remove(`/kb/${id}/files/${gone}`)).status).toBe(204);
    const { body } = await h.post(`/kb/${id}/query`, { query: "cake costs" });
    expect(await sourceNames(h, id)).toHaveLength(2);
    expect(new Set(body.data.results.map((hit: { fileId: string }) => hit.fileId))).toEqual(new Set([stays]));
    await h.simulator.faults({});
    await until(async () => {
      await hurrySteps(h);
      return (await sourceNames(h, id)).length === 1;
    });
  });

  test("a query that fails returns 503 and changes nothing", async () => {
    const id = await makeBase(h);
    await settled(h, id, await ingest(h, id));
    await h.simulator.faults({ applyTo: "corpora", reads: { errors: [{ status: 503, times: 10 }] } });
    expect(codeOf(await h.post(`/kb/${id}/query`, { query: "bread" }))).toEqual([503, "provider_unavailable"]);
    await h.simulator.faults({});
    expect((await h.post(`/kb/${id}/query`, { query: "bread" })).status).toBe(200);
  });
});

describe("deleting a knowledge base", () => {
  test("is refused while agents use it, unless forced, and the error names them", async () => {
    const id = await makeBase(h);
    const agentId = await makeAgent(h, { name: "Baker" });
    await h.owner`insert into agent_uses (client_id, agent_id, kind, target_id) values (${h.ada.clientId}, ${agentId}, 'knowledge_base', ${id})`;
    const refused = await h.remove(`/kb/${id}`);
    expect(codeOf(refused)).toEqual([409, "knowledge_base_in_use"]);
    expect(refused.body.error.details).toEqual([
      { path: "agent", id: agentId, name: "Baker", message: "The agent Baker uses it." },
    ]);
    expect((await h.remove(`/kb/${id}?force=true`)).status).toBe(204);
  });

  test("deletes its files, stops their ingestion and removes its corpus", async () => {
    const id = await makeBase(h);
    const ready = await ingest(h, id);
    await settled(h, id, ready);
    const stuck = await ingest(h, id, { fileName: "stuck.txt" });
    const corpus = await corpusOf(h, id);
    expect((await h.remove(`/kb/${id}`)).status).toBe(204);
    for (const path of [`/kb/${id}`, `/kb/${id}/files`, `/kb/${id}/files/${ready}`]) {
      expect(codeOf(await h.get(path))).toEqual([404, "knowledge_base_not_found"]);
    }
    expect(codeOf(await h.remove(`/kb/${id}`))).toEqual([404, "knowledge_base_not_found"]);
    await until(async () => (await upstream(h, `/corpora/${corpus}`)).status === 404);
    await until(async () => {
      await hurrySteps(h);
      return (await waitingJobs(h, "workflows.advance")).length === 0;
    });
    const rows = await h.owner`select distinct status from knowledge_files where id in (${ready}, ${stuck})`;
    expect(rows).toEqual([{ status: "deleted" }]);
    const uploads = await h.owner`select distinct status from uploads where subject_id = ${id}`;
    expect(uploads).toEqual([{ status: "gone" }]);
    const runs = await h.owner`select distinct status from workflow_runs where subject_id = ${stuck}`;
    expect(runs).toEqual([{ status: "failed" }]);
    expect((await storyOf(h, id)).at(-1)).toBe("deleted");
  });
});

describe("lost job recovery", () => {
  test("an abandoned ingestion fails, and its base with it", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id, { fileName: "stuck.txt" });
    await until(async () => (await sourceNames(h, id)).length === 1);
    await until(async () => {
      const rows = await h.owner`update workflow_runs set status = 'failed' where subject_id = ${fileId} returning id`;
      return rows.length === 1;
    });
    await queueSystemJob(h, "knowledge.sweep");
    await until(async () => (await waitingJobs(h, "knowledge.sweep")).length === 0);
    expect((await fileOf(h, id, fileId)).status, "its time is not over").not.toBe("failed");
    await h.owner`update knowledge_files set deadline_at = now() where id = ${fileId}`;
    await queueSystemJob(h, "knowledge.sweep");
    expect((await settled(h, id, fileId, "failed")).statusReason).toMatch(/in time/);
    expect(await baseOf(h, id)).toMatchObject({ status: "failed" });
    expect(await storyOf(h, id)).toEqual(["created", "ingestion.started", "ingestion.failed"]);
  });

  /** A file whose first check fails; the next one is far in the future. */
  async function asleep() {
    const id = await makeBase(h);
    await h.simulator.faults({ applyTo: "corpora", reads: { errors: [{ status: 503, times: 1000 }] } });
    const fileId = await ingest(h, id, { fileName: "slow.txt" });
    const run = await until(async () => {
      const [step] =
        await h.owner`select s.run_id, s.error from workflow_steps s join workflow_runs r on r.id = s.run_id
        where r.subject_id = ${fileId} and s.name = 'await-documents'`;
      return step?.error && step.run_id;
    });
    await until(async () => {
      const moved = await h.owner`update graphile_worker._private_jobs set run_at = now() + interval '1 hour'
        where payload->'body'->>'runId' = ${run} and locked_at is null and run_at > now() returning id`;
      return moved.length === 1;
    });
    await h.simulator.faults({});
    return { id, fileId, run };
  }

  test("a service can have the files checked now, also one without a workflow", async () => {
    const looked = await asleep();
    const left = await asleep();
    await h.owner`update workflow_runs set status = 'failed' where subject_id = ${left.fileId}`;
    const far = (run: string) =>
      h.owner`select from graphile_worker._private_jobs where payload->'body'->>'runId' = ${run} and run_at > now() + interval '1 minute'`;
    expect(await far(looked.run)).toHaveLength(1);
    for (const { id, fileId, run } of [looked, left]) {
      const asked = await h.post(`/internal/knowledge/${id}/refresh`, {}, { key: serviceToken });
      expect(asked).toMatchObject({ status: 200, body: { data: { id, status: "ingesting" } } });
      if (run === looked.run) expect(await far(run)).toEqual([]);
      await settled(h, id, fileId);
      expect(await sourceNames(h, id)).toEqual([fileId]);
    }
  });

  test("a run that an operator retries reopens its file", async () => {
    const id = await makeBase(h);
    const fileId = await ingest(h, id, { fileName: "empty.txt" });
    await settled(h, id, fileId, "failed");
    await h.owner`update uploads set file_name = 'prices.txt' where subject_id = ${id}`;
    const [run] = await h.owner`select id from workflow_runs where subject_id = ${fileId}`;
    const asked = await h.post(`/internal/workflows/${run!.id}/retry`, {}, { key: serviceToken });
    expect(asked.status).toBe(200);
    await settled(h, id, fileId);
    await until(async () => (await sourceNames(h, id)).length === 1);
    expect(await baseOf(h, id)).toMatchObject({ status: "ready", readyFiles: 1 });
  });
});

describe("the adapter", () => {
  const deadline = () => ({ signal: AbortSignal.timeout(10_000) });
  const account = { id: "tight", apiKey: "tight", webhooks: [], corpora: 1 };
  const file = { fileName: "a.txt", contentType: "text/plain", bytes: Buffer.from("Bread") };
  const open = (baseUrl: string) => ultravox({ baseUrl, apiKeyOf: async () => "tight", pace: { backoffBaseMs: 1 } });

  test("explains that the account has reached its limit of knowledge bases", async () => {
    const tight = await startUltravox({ accounts: [account] });
    const asked = open(tight.url);
    await asked.createCorpus("a", { id: "kb_1", description: null }, deadline());
    const second = asked.createCorpus("a", { id: "kb_2", description: null }, deadline());
    await expect(second).rejects.toMatchObject({ kind: "refused", message: expect.stringContaining("may have 1 ") });
    await tight.close();
  });

  test("distinguishes an expired link from a refused file", async () => {
    const tight = await startUltravox({ accounts: [account] });
    const asked = open(tight.url);
    const { providerCorpusId } = await asked.createCorpus("a", { id: "kb_1", description: null }, deadline());
    const wrong = { ...file, contentType: "image/png" };
    await expect(asked.uploadDocument("a", providerCorpusId, wrong, deadline())).rejects.toMatchObject({
      kind: "refused",
    });
    const faults = { applyTo: "corpora", changes: { errors: [{ status: 403 }] } };
    await fetch(`${tight.url}/_sim/faults`, { method: "PUT", body: JSON.stringify(faults) });
    const late = asked.uploadDocument("a", providerCorpusId, file, deadline());
    await expect(late).rejects.toMatchObject({ kind: "unavailable", status: 403 });
    expect(await asked.uploadDocument("a", providerCorpusId, file, deadline())).toEqual({
      providerDocumentId: expect.any(String),
    });
    await tight.close();
  });

  test("sends no file over plain http to a host other than the provider", async () => {
    let asked = 0;
    const other = createServer((_, response) => {
      asked++;
      response.end();
    }).listen(0, "127.0.0.1");
    await once(other, "listening");
    const presignedUrl = `http://127.0.0.1:${(other.address() as AddressInfo).port}/upload?signature=s`;
    const provider = createServer((_, response) => {
      response.end(JSON.stringify({ documentId: "d", presignedUrl }));
    }).listen(0, "127.0.0.1");
    await once(provider, "listening");
    const uv = open(`http://127.0.0.1:${(provider.address() as AddressInfo).port}`);
    await expect(uv.uploadDocument("a", "c", file, deadline())).rejects.toMatchObject({ kind: "unavailable" });
    expect(asked).toBe(0);
    for (const server of [other, provider]) server.close();
  });
});

test("a file has one source, however often it is refreshed meanwhile", async () => {
  const id = await makeBase(h);
  const { body } = await h.post(`/kb/${id}/urls`, {
    urls: ["a", "b", "c"].map((path) => `https://example.com/${path}`),
  });
  const fileIds: string[] = body.data.files.map((file: { id: string }) => file.id);
  const refresh = () => h.post(`/internal/knowledge/${id}/refresh`, {}, { key: serviceToken });
  for (let times = 0; times < 5; times++) await Promise.all(Array.from({ length: 5 }, refresh));
  for (const fileId of fileIds) await settled(h, id, fileId);
  expect((await sourceNames(h, id)).toSorted()).toEqual(fileIds.toSorted());
  expect(await storyOf(h, id)).toEqual(["created", ...round]);
});
