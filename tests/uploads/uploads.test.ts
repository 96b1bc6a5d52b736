import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { newId } from "../../db/ids.ts";
import { enqueue, enqueueFor } from "../../db/queue.ts";
import { command, providerQuery, router } from "../../routers/core/procedures.ts";
import { rest } from "../../routers/core/rest-metadata.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { PresignedUpload, PresignFiles } from "../../routers/uploads/schema.ts";
import {
  dropUploads,
  findUploads,
  openUploads,
  readUpload,
  useUploads,
  verifyUploads,
} from "../../routers/uploads/service.ts";
import { startTestApp, type TestResponse, until } from "../support/app.ts";

const megabyte = 1024 * 1024;
const sample = { purpose: "voice_sample" } as const;
const Ids = z.strictObject({ fileIds: z.array(z.string()).min(1) });

/** Minimal endpoints that announce and use a file. Those of voices and knowledge have the same parts. */
const doors = router({
  announce: command
    .meta(rest("POST", "/samples/presign", "voices:write", "Announce samples", { status: 200, signs: true }))
    .input(z.strictObject({ files: PresignFiles("voice_sample") }))
    .output(z.object({ files: z.array(PresignedUpload) }))
    .mutation(async ({ ctx, input }) => ({ files: await openUploads(ctx.tx, sample, input.files) })),
  announceFor: command
    .meta(rest("POST", "/documents/presign", "voices:write", "Announce documents", { status: 200, signs: true }))
    .input(z.strictObject({ about: z.string(), files: PresignFiles("knowledge_file") }))
    .output(z.array(PresignedUpload))
    .mutation(({ ctx, input }) =>
      openUploads(ctx.tx, { purpose: "knowledge_file", subjectId: input.about }, input.files),
    ),
  use: providerQuery
    .meta(rest("POST", "/samples/use", "voices:write", "Use samples", { status: 200 }))
    .input(Ids)
    .output(z.array(z.string()))
    .mutation(({ ctx, input: { fileIds } }) =>
      ctx.queryProvider({
        read: (tx) => findUploads(tx, fileIds, sample),
        execute: (rows, deadline) => verifyUploads(ctx.providers.files, rows, deadline),
        record: async (tx) => (await useUploads(tx, fileIds, sample)).map(({ id }) => id),
      }),
    ),
});

const h = await startTestApp({ router: doors, workers: true });
const { files } = h.deps.providers;
const soon = () => ({ signal: AbortSignal.timeout(60_000) });
const inClient = { clientId: h.ada.clientId };

beforeEach(() => h.storage.faults([]));

const wav = (text: string) => {
  const body = Buffer.from(text);
  const sha256 = createHash("sha256").update(body).digest("base64");
  return { body, announced: { fileName: "sample.wav", contentType: "audio/wav", bytes: body.length, sha256 } };
};
const put = ({ url, method, headers }: PresignedUpload, body: Buffer, more: Record<string, string> = {}) =>
  fetch(url, { method, headers: { ...headers, ...more }, body: new Uint8Array(body) });
const announce = async (announced: object, ask = {}) =>
  (await h.post("/samples/presign", { files: [announced] }, ask)).body.data.files[0] as PresignedUpload;
const use = (fileIds: string[], ask = {}) => h.post("/samples/use", { fileIds }, ask);
const stateOf = async (id: string) => (await h.owner`select status from uploads where id = ${id}`)[0]!.status as string;
const keyOf = (id: string) => `${h.ada.clientId}/voice_sample/${id}`;
const code = ({ status, body }: TestResponse) => [status, body.error?.code];

async function sent(text: string) {
  const { body, announced } = wav(text);
  const upload = await announce(announced);
  expect((await put(upload, body)).status).toBe(200);
  return upload;
}

describe("a file of a client", () => {
  test("is announced, uploaded by one request, and used once", async () => {
    const { body, announced } = wav("hello");
    const answer = await h.post("/samples/presign", { files: [announced, { ...announced, fileName: "two.wav" }] });
    expect(answer.status).toBe(200);
    const [one, two] = answer.body.data.files as PresignedUpload[];
    expect(one).toMatchObject({ id: expect.stringMatching(/^file_/), method: "PUT" });
    const names = await h.owner`select id, file_name from uploads where id in (${one!.id}, ${two!.id}) order by id`;
    expect(names.map(({ id, fileName, file_name }) => [id, fileName ?? file_name])).toEqual([
      [one!.id, "sample.wav"],
      [two!.id, "two.wav"],
    ]);
    for (const upload of [one!, two!]) expect((await put(upload, body)).status).toBe(200);
    expect(await use([two!.id, one!.id])).toMatchObject({ status: 200, body: { data: [two!.id, one!.id] } });
    expect(await stateOf(one!.id)).toBe("used");
    expect(code(await use([one!.id]))).toEqual([404, "upload_not_found"]);
  });

  test("is accepted only as it was announced", async () => {
    const { body, announced } = wav("exactly this");
    const upload = await announce(announced);
    const other = wav("exactly that");
    expect((await put(upload, other.body)).status).toBe(400);
    expect((await put(upload, Buffer.concat([body, body]))).status).toBe(400);
    expect((await put(upload, body, { "Content-Type": "text/html" })).status).toBe(403);
    expect((await put(upload, other.body, { "x-amz-checksum-sha256": other.announced.sha256 })).status).toBe(403);
    const { "x-amz-checksum-sha256": _, ...without } = upload.headers;
    expect((await put({ ...upload, headers: without }, body)).status).toBe(403);
    expect((await put({ ...upload, url: upload.url.replace(upload.id, newId("upload")) }, body)).status).toBe(403);
    expect((await put({ ...upload, url: upload.url.split("?")[0]! }, body)).status).toBe(403);
    expect(new URL(upload.url).searchParams.get("X-Amz-SignedHeaders")).toContain("content-length;content-type");
    expect(await files.head(keyOf(upload.id), soon())).toBeNull();
    expect(code(await use([upload.id]))).toEqual([409, "upload_not_complete"]);
    expect((await put(upload, body)).status).toBe(200);
    expect((await use([upload.id])).status).toBe(200);
  });

  test("that differs from the announcement is refused by its name, however it got into storage", async () => {
    const { announced } = wav("right");
    const upload = await announce(announced);
    const lie = async (bytes: string, contentType: string) => {
      const { body, announced } = wav(bytes);
      const link = await files.presignUpload({ ...announced, key: keyOf(upload.id), contentType }, 60);
      expect((await put({ ...upload, ...link }, body)).status).toBe(200);
      const answer = await use([upload.id]);
      expect(code(answer)).toEqual([422, "upload_mismatch"]);
      expect(answer.body.error.message).toContain("sample.wav");
      return answer.body.error.message as string;
    };
    expect(await lie("wrong", "audio/wav")).toContain("its checksum differs");
    expect(await lie("right", "audio/mpeg")).toContain("its type differs");
    expect(await lie("longer than that", "audio/wav")).toContain("its size and its checksum");
    expect(await stateOf(upload.id)).toBe("pending");
    const [row] = await h.deps.db.asClient(inClient, (tx) => findUploads(tx, [upload.id], sample));
    await expect(readUpload(files, row!, 100, soon())).rejects.toMatchObject({ kind: "refused" });
    await expect(readUpload(files, row!, 3, soon())).rejects.toMatchObject({ kind: "refused" });
  });

  test("may come from a browser on another origin", async () => {
    const upload = await announce(wav("browser").announced);
    const asked = await fetch(upload.url, {
      method: "OPTIONS",
      headers: {
        origin: "http://127.0.0.1:3001",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,x-amz-checksum-sha256",
      },
    });
    expect([asked.status, asked.headers.get("access-control-allow-origin")]).toEqual([200, "*"]);
  });

  test("is read back unchanged", async () => {
    const upload = await sent("read me");
    const [row] = await h.deps.db.asClient(inClient, (tx) => findUploads(tx, [upload.id], sample));
    expect((await readUpload(files, row!, 100, soon())).toString()).toBe("read me");
  });

  test("cannot be used by another client, for another purpose, or after it expires", async () => {
    const upload = await sent("mine");
    expect(code(await use([upload.id], { key: h.bob.key }))).toEqual([404, "upload_not_found"]);
    expect(code(await use([newId("upload")]))).toEqual([404, "upload_not_found"]);
    const finding = (wanted: Parameters<typeof findUploads>[2]) =>
      h.deps.db.asClient(inClient, (tx) => findUploads(tx, [upload.id], wanted));
    await expect(finding({ purpose: "knowledge_file" })).rejects.toMatchObject({ errorCode: "upload_not_found" });
    await expect(finding({ ...sample, subjectId: "kb_1" })).rejects.toMatchObject({ errorCode: "upload_not_found" });
    expect(await finding(sample)).toHaveLength(1);
    await h.owner`update uploads set expires_at = now() - interval '1 second' where id = ${upload.id}`;
    expect(code(await use([upload.id]))).toEqual([404, "upload_not_found"]);
    expect(await stateOf(upload.id)).toBe("pending");
  });

  test("requested concurrently is used once", async () => {
    const [one, two] = [await sent("race one"), await sent("race two")];
    const orders = Array.from({ length: 8 }, (_, n) => (n % 2 ? [one.id, two.id] : [two.id, one.id]));
    const answers = await Promise.all(orders.map((ids) => use(ids)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(7).fill(404)]);
  });

  test("of another client is not removed by a job of this client", async () => {
    const theirs = await announce(wav("bob's").announced, { key: h.bob.key });
    expect((await put(theirs, Buffer.from("bob's"))).status).toBe(200);
    const key = `${h.bob.clientId}/voice_sample/${theirs.id}`;
    await h.deps.db.asClient(inClient, (tx) => enqueue(tx, "files.remove", { keys: [key] }));
    await until(async () => {
      const [job] = await h.owner`select j.payload from graphile_worker._private_jobs j
        join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier = 'files.remove'`;
      return job?.payload.attempt > 0;
    });
    expect(await files.head(key, soon())).toMatchObject({ bytes: 5 });
    await h.owner`delete from graphile_worker._private_jobs where payload->'body'->'keys'->>0 = ${key}`;
  });
});

describe("an announcement", () => {
  const { announced } = wav("x");
  const cases: [string, object, string][] = [
    ["no file", { files: [] }, "files"],
    ["21 files", { files: Array(21).fill(announced) }, "files"],
    ["a path", { files: [{ ...announced, fileName: "../x.wav" }] }, "files.0.fileName"],
    ["a path of Windows", { files: [{ ...announced, fileName: "a\\b.wav" }] }, "files.0.fileName"],
    ["a line break", { files: [{ ...announced, fileName: "a\r\nb.wav" }] }, "files.0.fileName"],
    ["dots", { files: [{ ...announced, fileName: ".." }] }, "files.0.fileName"],
    ["a turned name", { files: [{ ...announced, fileName: "a\u202egpj.wav" }] }, "files.0.fileName"],
    ["no name", { files: [{ ...announced, fileName: "" }] }, "files.0.fileName"],
    ["a long name", { files: [{ ...announced, fileName: "x".repeat(256) }] }, "files.0.fileName"],
    ["another type", { files: [{ ...announced, contentType: "text/html" }] }, "files.0.contentType"],
    ["nothing in it", { files: [{ ...announced, bytes: 0 }] }, "files.0.bytes"],
    ["too much", { files: [{ ...announced, bytes: 10_000_001 }] }, "files.0.bytes"],
    ["half a byte", { files: [{ ...announced, bytes: 1.5 }] }, "files.0.bytes"],
    ["a checksum in hex", { files: [{ ...announced, sha256: "ab".repeat(32) }] }, "files.0.sha256"],
    ["a short checksum", { files: [{ ...announced, sha256: "uU0nuZNNPgilLlLX" }] }, "files.0.sha256"],
    ["a checksum with stray bits", { files: [{ ...announced, sha256: `${"A".repeat(42)}B=` }] }, "files.0.sha256"],
    ["an unknown field", { files: [{ ...announced, key: "x" }] }, "files.0.key"],
  ];

  test.each(cases)("with %s is refused, and the error names the field", async (_, body, path) => {
    const answer = await h.post("/samples/presign", body);
    expect(code(answer)).toEqual([400, "input_invalid"]);
    expect(answer.body.error.details.map((each: { path: string }) => each.path)).toContain(path);
  });

  test("keeps its name in every script", async () => {
    const upload = await announce({ ...announced, fileName: "Öffnungszeiten 営業時間 👋🏽.wav" });
    const [row] = await h.owner`select file_name from uploads where id = ${upload.id}`;
    expect(row!.file_name ?? row!.fileName).toBe("Öffnungszeiten 営業時間 👋🏽.wav");
  });
});

describe("a replay", () => {
  test("returns the same uploads, with newly signed links that work", async () => {
    const { body, announced } = wav("replayed");
    const ask = { idempotencyKey: "presign-1" };
    const first = await announce(announced, ask);
    const again = await until(async () => {
      const next = await announce(announced, ask);
      return next.url !== first.url && next;
    });
    expect(again).toMatchObject({ id: first.id, method: "PUT", headers: first.headers });
    expect(again.expiresAt > first.expiresAt).toBe(true);
    expect((await put(again, body)).status).toBe(200);
    const viaTrpc = await h.mutate("announce", { files: [announced] }, ask);
    expect(viaTrpc.body.result.data.files[0]).toMatchObject({ id: first.id, url: expect.stringContaining("X-Amz-") });
    const [{ n }] = await h.owner<
      [{ n: number }]
    >`select count(*)::int as n from uploads where sha256 = ${announced.sha256}`;
    expect(n).toBe(1);
  });

  test("signs a list too, for its subject", async () => {
    const file = { ...wav("x").announced, fileName: "a.pdf", contentType: "application/pdf" };
    const [link] = (await h.post("/documents/presign", { about: "kb_1", files: [file] })).body.data;
    expect((await put(link, Buffer.from("x"))).status).toBe(200);
    const wanted = { purpose: "knowledge_file", subjectId: "kb_1" } as const;
    expect(await h.deps.db.asClient(inClient, (tx) => findUploads(tx, [link.id], wanted))).toHaveLength(1);
  });
});

describe("without storage", () => {
  test("that responds, a request returns 503 with Retry-After, and no upload is used", async () => {
    const upload = await sent("patience");
    h.storage.faults([{ method: "HEAD", times: 100, status: 503, code: "SlowDown" }]);
    expect(code(await use([upload.id], { idempotencyKey: "u1" }))).toEqual([503, "provider_unavailable"]);
    h.storage.faults([{ method: "HEAD", times: 100, status: 403, code: "AccessDenied" }]);
    expect((await use([upload.id])).status).toBe(422);
    h.storage.faults([{ method: "HEAD", times: 1 }]);
    expect((await use([upload.id], { idempotencyKey: "u1" })).status).toBe(200); // one broken connection is retried
  });

  test("configured, the endpoints that need it return 503, and all others work", async () => {
    const bare = await startTestApp({ router: doors, env: { S3_BUCKET: "" } });
    const answer = await bare.post("/samples/presign", { files: [wav("x").announced] });
    expect(code(answer)).toEqual([503, "provider_unavailable"]);
    expect(answer.body.error.message).toContain("S3_BUCKET");
    expect((await bare.get("/health")).status).toBe(200);
  });
});

describe("an object that we write to storage", () => {
  const part = 8 * megabyte;
  const partsLeft = () => {
    const place = join(h.storage.directory, h.storage.bucket, "._S3rver_uploads");
    return existsSync(place) ? readdirSync(place) : [];
  };
  async function* pieces(bytes: number, size = megabyte + 1): AsyncGenerator<Buffer> {
    for (let sent = 0; sent < bytes; sent += size) yield Buffer.alloc(Math.min(size, bytes - sent), `${sent % 7}`);
  }

  test.each([0, 1, part - 1, part, part + 1, 2 * part, 2 * part + 3])("is complete: %i bytes", async (bytes) => {
    const key = `${h.ada.clientId}/recordings/${bytes}.wav`;
    const done = await files.put(key, pieces(bytes), { contentType: "audio/wav", maxBytes: bytes }, soon());
    expect(done).toEqual({ bytes });
    expect(await files.head(key, soon())).toMatchObject({ bytes, contentType: "audio/wav" });
    const back = await files.get(key, bytes, soon());
    const hash = createHash("sha256");
    for await (const piece of pieces(bytes)) hash.update(piece);
    expect(createHash("sha256").update(back).digest("hex")).toBe(hash.digest("hex"));
    expect(partsLeft()).toEqual([]);
  });

  async function* failing(): AsyncGenerator<Buffer> {
    yield* pieces(part + 5);
    throw new ProviderError("unavailable", "the source broke");
  }
  /** Stops once its first part is in storage; then the deadline passes. */
  async function* endless(late: AbortController): AsyncGenerator<Buffer> {
    yield* pieces(part + 5);
    late.abort();
    await new Promise(() => {});
  }
  const most = { contentType: "audio/wav", maxBytes: 100 * megabyte };
  const broken: [string, () => Promise<unknown>, object][] = [
    ["whose source breaks", () => files.put("x/a", failing(), most, soon()), { message: "the source broke" }],
    [
      "that is too large",
      () => files.put("x/a", pieces(2 * part), { ...most, maxBytes: part + 9 }, soon()),
      { kind: "refused" },
    ],
    ["small and too large", () => files.put("x/a", pieces(10), { ...most, maxBytes: 9 }, soon()), { kind: "refused" }],
    [
      "whose source stops",
      () => {
        const late = new AbortController();
        return files.put("x/a", endless(late), most, { signal: late.signal });
      },
      { kind: "unavailable" },
    ],
    [
      "of which a part is refused",
      () => {
        h.storage.faults([{ method: "PUT", times: 1, status: 403, code: "AccessDenied" }]);
        return files.put("x/a", pieces(3 * part), most, soon());
      },
      { kind: "refused" },
    ],
    [
      "that is lost on its way",
      () => {
        h.storage.faults([{ method: "PUT", times: 9 }]);
        return files.put("x/a", pieces(10), most, soon());
      },
      { kind: "unknown" },
    ],
  ];

  test.each(broken)("%s leaves no visible object and no parts", async (_, work, failure) => {
    await expect(work()).rejects.toMatchObject(failure);
    expect(await files.head("x/a", soon())).toBeNull();
    expect(partsLeft()).toEqual([]);
  });

  test("is written again after one failure of storage", async () => {
    h.storage.faults([{ method: "PUT", times: 1 }]);
    await files.put("x/again", pieces(2 * part + 1), most, soon());
    expect(await files.head("x/again", soon())).toMatchObject({ bytes: 2 * part + 1 });
  });

  test("is not read if it is too large, and can be removed twice", async () => {
    await files.put("x/b", pieces(100), most, soon());
    await expect(files.get("x/b", 99, soon())).rejects.toMatchObject({ kind: "refused" });
    await expect(files.get("x/none", 99, soon())).rejects.toMatchObject({ kind: "refused" });
    for (let n = 0; n < 2; n++) await files.remove(["x/b", "x/never", "x/again"], soon());
    expect(await files.head("x/b", soon())).toBeNull();
    h.storage.faults([{ method: "DELETE", times: 9 }]);
    await expect(files.remove(["x/c"], soon())).rejects.toMatchObject({ kind: "unknown" });
  });

  test("has a link that downloads it under its name until the link expires", async () => {
    await files.put("x/d", pieces(3), most, soon());
    const named = { fileName: 'call "1".wav', contentType: "audio/wav" };
    const got = await fetch(
      await files.presignDownload("x/d", { fileName: "call_1.wav", contentType: "audio/wav" }, 60),
    );
    expect([got.status, (await got.arrayBuffer()).byteLength]).toEqual([200, 3]);
    expect(got.headers.get("content-disposition")).toBe('attachment; filename="call_1.wav"');
    expect(got.headers.get("content-type")).toBe("audio/wav");
    const evil = new URL(await files.presignDownload("x/d", { ...named, fileName: 'a"\r\nSet-Cookie: x=ä' }, 60));
    expect(evil.searchParams.get("response-content-disposition")).toBe(
      "attachment; filename=\"a___Set-Cookie: x=_\"; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x%3D%C3%A4",
    );
    const short = await files.presignDownload("x/d", { fileName: "d" }, 1);
    await until(async () => (await fetch(short)).status === 403);
  });
});

describe("the stale upload cleaner", () => {
  const run = () => h.deps.db.asSystem((tx) => enqueueFor(tx, null, "uploads.clean", {}));
  const expire = (id: string, by = "2 hours") =>
    h.owner`update uploads set expires_at = now() - ${by}::interval where id = ${id}`;

  test("removes unused uploads, bytes and row, and nothing else", async () => {
    const [stale, late, fresh, used] = [await sent("s"), await sent("l"), await sent("f"), await sent("u")];
    const never = await announce(wav("never sent").announced);
    await use([used.id]);
    for (const { id } of [stale, used, never]) await expire(id);
    await expire(late.id, "10 minutes"); // a client may still hold a link that was signed in the last minute
    await run();
    await until(async () => (await stateOf(stale.id)) === "gone" && (await stateOf(never.id)) === "gone");
    expect(await files.head(keyOf(stale.id), soon())).toBeNull();
    for (const { id } of [late, fresh, used]) expect(await files.head(keyOf(id), soon())).not.toBeNull();
    expect([await stateOf(late.id), await stateOf(fresh.id), await stateOf(used.id)]).toEqual([
      "pending",
      "pending",
      "used",
    ]);
  });

  test("keeps the row while storage cannot remove the bytes, and continues after a crashed run", async () => {
    const upload = await sent("sticky");
    await expire(upload.id);
    const asked = h.storage.requests.length;
    h.storage.faults([{ method: "DELETE", times: 50, status: 500 }]);
    await run();
    await until(async () => h.storage.requests.slice(asked).filter((each) => each.startsWith("DELETE")).length >= 3);
    expect(await stateOf(upload.id)).toBe("pending");
    h.storage.faults([]);
    await files.remove([keyOf(upload.id)], soon()); // as a run that crashes before it records the removal
    await run();
    await until(async () => (await stateOf(upload.id)) === "gone");
  });

  test("works in batches", async () => {
    await h.owner`insert into uploads (client_id, id, purpose, object_key, file_name, content_type, bytes, sha256, expires_at)
      select ${h.ada.clientId}, 'file_many' || n, 'voice_sample', 'many/' || n, 'x', 'audio/wav', 1, 'x', now() - interval '1 day'
      from generate_series(1, 230) n`;
    await run();
    await until(async () => {
      const [row] =
        await h.owner`select count(*)::int as n from uploads where id like 'file_many%' and status = 'gone'`;
      return row!.n === 230;
    });
  });

  test("removes the uploads of a deleted owner once the owner's transaction has committed", async () => {
    const [kept, dropped] = [await sent("kept"), await sent("dropped")];
    const failed = h.deps.db.asClient(inClient, async (tx) => {
      await dropUploads(tx, [kept.id]);
      throw new Error("rolled back");
    });
    await expect(failed).rejects.toThrow("rolled back");
    await h.deps.db.asClient(inClient, (tx) => dropUploads(tx, [dropped.id]));
    await until(async () => (await files.head(keyOf(dropped.id), soon())) === null);
    expect(await stateOf(dropped.id)).toBe("gone");
    expect(await files.head(keyOf(kept.id), soon())).not.toBeNull();
    expect(await stateOf(kept.id)).toBe("pending");
  });
});
