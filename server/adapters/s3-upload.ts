import type { Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import type { Deadline } from "../../routers/ports/provider-error.ts";
import { before } from "./http/abort.ts";
import { storageError, tooLarge, withStorageErrors } from "./s3-errors.ts";

/** Smaller content is sent in one request; larger content in parts of this size. S3 accepts parts from 5 MB up. */
const partBytes = 8 * 1024 * 1024;
const abortMs = 10_000;

type Target = { Bucket: string; Key: string };

/** Uploads one object, in parts if it is large. The object becomes visible when its last part is there. */
export async function upload(
  s3: S3Client,
  target: Target,
  content: AsyncIterable<Buffer>,
  { contentType: ContentType, maxBytes }: { contentType: string; maxBytes: number },
  { signal: abortSignal }: Deadline,
): Promise<{ bytes: number }> {
  const parts = inParts(content, maxBytes, abortSignal);
  const first = await parts.next();
  const Body = first.done ? Buffer.alloc(0) : first.value;
  if (first.done || Body.length < partBytes) {
    const command = new PutObjectCommand({ ...target, ContentType, Body });
    await withStorageErrors("unknown", () => s3.send(command, { abortSignal }));
    return { bytes: Body.length };
  }
  const { UploadId } = await withStorageErrors("unavailable", () =>
    s3.send(new CreateMultipartUploadCommand({ ...target, ContentType }), { abortSignal }),
  );
  const started = { ...target, UploadId };
  try {
    return await uploadParts(s3, started, first, parts, abortSignal);
  } catch (error) {
    await parts.return();
    // The caller's deadline may have passed. Parts that remain are removed by the bucket's lifecycle rule: docs/files.md.
    const aborting = s3.send(new AbortMultipartUploadCommand(started), { abortSignal: AbortSignal.timeout(abortMs) });
    await aborting.catch(() => {});
    throw error;
  }
}

async function uploadParts(
  s3: S3Client,
  started: Target & { UploadId: string | undefined },
  first: IteratorResult<Buffer, void>,
  rest: AsyncGenerator<Buffer, void>,
  abortSignal: AbortSignal,
): Promise<{ bytes: number }> {
  const Parts: CompletedPart[] = [];
  let bytes = 0;
  for (let part = first; !part.done; part = await rest.next()) {
    const [PartNumber, Body] = [Parts.length + 1, part.value];
    const { ETag } = await withStorageErrors("unavailable", () =>
      s3.send(new UploadPartCommand({ ...started, PartNumber, Body }), { abortSignal }),
    );
    Parts.push({ PartNumber, ETag });
    bytes += Body.length;
  }
  const complete = new CompleteMultipartUploadCommand({ ...started, MultipartUpload: { Parts } });
  await withStorageErrors("unknown", () => s3.send(complete, { abortSignal }));
  return { bytes };
}

/** Splits the content into parts, the last one smaller. It stops waiting for a stalled source when the signal aborts. */
async function* inParts(content: AsyncIterable<Buffer>, maxBytes: number, signal: AbortSignal) {
  const source = content[Symbol.asyncIterator]();
  let held: Buffer[] = [];
  let [size, total] = [0, 0];
  try {
    for (;;) {
      const { done, value } = await before(signal, source.next());
      if (done) break;
      held.push(value);
      size += value.length;
      total += value.length;
      if (total > maxBytes) throw tooLarge(maxBytes);
      if (size < partBytes) continue;
      yield Buffer.concat(held, size);
      [held, size] = [[], 0];
    }
    if (size > 0) yield Buffer.concat(held, size);
  } catch (error) {
    throw signal.aborted ? storageError(error, "unavailable") : error;
  } finally {
    source.return?.()?.catch(() => {}); // not awaited: a stalled source never returns
  }
}

export async function collect(body: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}
