import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeleteObjectCommand, HeadObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, expect, test } from "vitest";
import { startStorage } from "../../dev/simulators/storage.ts";

const directory = await mkdtemp(join(tmpdir(), "patchbay-storage-"));
const storage = await startStorage({ directory });
const { bucket: Bucket, url: endpoint, accessKeyId, secretAccessKey } = storage;
const s3 = new S3Client({
  region: "us-east-1",
  endpoint,
  credentials: { accessKeyId, secretAccessKey },
  forcePathStyle: true,
  maxAttempts: 1, // a retried upload no longer coincides with the deletion
});

afterAll(async () => {
  s3.destroy();
  await storage.close();
  await rm(directory, { recursive: true, force: true });
});

type Answer = { $metadata: { httpStatusCode?: number } };
const statusOf = ({ $metadata }: Answer) => $metadata.httpStatusCode;
const status = (requests: Promise<Answer>) => requests.then(statusOf, statusOf);
const put = (Key: string) => status(s3.send(new PutObjectCommand({ Bucket, Key, Body: Key })));
const head = (Key: string) => status(s3.send(new HeadObjectCommand({ Bucket, Key })));
const remove = (Key: string) => status(s3.send(new DeleteObjectCommand({ Bucket, Key })));

test("an object put while the last one of its folder is deleted is kept", async () => {
  const rounds = Array.from({ length: 100 }, async (_, n) => {
    const [last, next] = [`folders/${n}/last`, `folders/${n}/next`];
    await put(last);
    return [...(await Promise.all([remove(last), put(next)])), await head(last), await head(next)];
  });
  expect(await Promise.all(rounds)).toEqual(rounds.map(() => [204, 200, 404, 200]));
});
