import { addAbortSignal, type Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import type { Files } from "../../routers/ports/files.ts";
import { type Deadline, ProviderError } from "../../routers/ports/provider-error.ts";
import { before } from "./http.ts";

export type S3Options = {
  bucket: string;
  region: string;
  /** Of an S3 that is not Amazon's. */
  endpoint?: string | undefined;
  /** What links show, where the world reaches it by another name than we do. */
  publicEndpoint?: string | undefined;
  /** Left out: the SDK's own chain finds them. */
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined;
  forcePathStyle: boolean;
};

export type FileStore = Files & { close(): void };

/** What is sent in one piece, and how large a piece of something larger is. S3 takes parts from 5 MB up. */
const partBytes = 8 * 1024 * 1024;
const abortMs = 10_000;
const removedAtOnce = 20;

/** A bucket of any S3. Putting and removing are by key, so the SDK may repeat them: twice is once. */
export function s3Files(options: S3Options): FileStore {
  const { bucket: Bucket } = options;
  const s3 = client(options, options.endpoint);
  const links = options.publicEndpoint ? client(options, options.publicEndpoint) : s3;

  /** One object, or many parts of it; nobody sees anything before the last of them is there. */
  async function put(
    Key: string,
    content: AsyncIterable<Buffer>,
    { contentType: ContentType, maxBytes }: { contentType: string; maxBytes: number },
    { signal: abortSignal }: Deadline,
  ): Promise<{ bytes: number }> {
    const parts = inParts(content, maxBytes, abortSignal);
    const first = await parts.next();
    const Body = first.done ? Buffer.alloc(0) : first.value;
    if (first.done || Body.length < partBytes) {
      await asked("unknown", () => s3.send(new PutObjectCommand({ Bucket, Key, ContentType, Body }), { abortSignal }));
      return { bytes: Body.length };
    }
    const { UploadId } = await asked("unavailable", () =>
      s3.send(new CreateMultipartUploadCommand({ Bucket, Key, ContentType }), { abortSignal }),
    );
    const upload = { Bucket, Key, UploadId };
    try {
      const Parts: CompletedPart[] = [];
      let bytes = 0;
      for (let part: IteratorResult<Buffer, void> = first; !part.done; part = await parts.next()) {
        const [PartNumber, Body] = [Parts.length + 1, part.value];
        const { ETag } = await asked("unavailable", () =>
          s3.send(new UploadPartCommand({ ...upload, PartNumber, Body }), { abortSignal }),
        );
        Parts.push({ PartNumber, ...(ETag === undefined ? {} : { ETag }) });
        bytes += Body.length;
      }
      const whole = new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } });
      await asked("unknown", () => s3.send(whole, { abortSignal }));
      return { bytes };
    } catch (error) {
      await parts.return();
      // The caller's time may be over. What cannot be thrown away now is the bucket's own rule to throw away: docs/files.md.
      const ended = s3.send(new AbortMultipartUploadCommand(upload), { abortSignal: AbortSignal.timeout(abortMs) });
      await ended.catch(() => {});
      throw error;
    }
  }

  return {
    async presignUpload({ key: Key, contentType, bytes, sha256 }, expiresSeconds) {
      const file = { ContentType: contentType, ContentLength: bytes, ChecksumSHA256: sha256 };
      const url = await asked("unavailable", () =>
        getSignedUrl(links, new PutObjectCommand({ Bucket, Key, ...file }), {
          expiresIn: expiresSeconds,
          // Signed as headers: in the query they would be part of the link, and bind nobody.
          signableHeaders: new Set(["host", "content-type", "content-length", "x-amz-checksum-sha256"]),
          unhoistableHeaders: new Set(["x-amz-checksum-sha256"]),
        }),
      );
      // Content-Length is signed too, but not named: every HTTP client sends it by itself, and browsers forbid setting it.
      return { url, method: "PUT", headers: { "Content-Type": contentType, "x-amz-checksum-sha256": sha256 } };
    },

    async presignDownload(Key, { fileName, contentType }, expiresSeconds) {
      const command = new GetObjectCommand({
        Bucket,
        Key,
        ResponseContentDisposition: attachment(fileName),
        ...(contentType === undefined ? {} : { ResponseContentType: contentType }),
      });
      return asked("unavailable", () => getSignedUrl(links, command, { expiresIn: expiresSeconds }));
    },

    async head(Key, { signal: abortSignal }) {
      try {
        const command = new HeadObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" });
        const { ContentLength, ContentType, ChecksumSHA256 } = await s3.send(command, { abortSignal });
        return { bytes: ContentLength ?? 0, contentType: ContentType ?? "", sha256: ChecksumSHA256 ?? null };
      } catch (error) {
        if (isAbsence(error)) return null;
        throw failure(error, "unavailable");
      }
    },

    async get(Key, maxBytes, { signal }) {
      return asked("unavailable", async () => {
        const { Body, ContentLength = 0 } = await s3.send(new GetObjectCommand({ Bucket, Key }), {
          abortSignal: signal,
        });
        const body = Body as Readable; // in Node it always is one
        if (ContentLength <= maxBytes) return await collect(addAbortSignal(signal, body), maxBytes);
        body.destroy();
        throw tooLarge(maxBytes);
      });
    },

    put,

    async remove(keys, { signal: abortSignal }) {
      // One by one: not every S3 has a call for many, and theirs must be asked which of them failed.
      for (let start = 0; start < keys.length; start += removedAtOnce) {
        const some = keys.slice(start, start + removedAtOnce);
        const removals = some.map((Key) => s3.send(new DeleteObjectCommand({ Bucket, Key }), { abortSignal }));
        await asked("unknown", () => Promise.all(removals));
      }
    },

    close() {
      s3.destroy();
      links.destroy();
    },
  };
}

/** In the place of a store, where an installation has none: whoever needs files hears why there are none. */
export function noFiles(): FileStore {
  const refuse = async () => {
    throw new ProviderError("unavailable", "This installation has no file storage: S3_BUCKET is not set.");
  };
  const calls = { presignUpload: refuse, presignDownload: refuse, head: refuse, get: refuse, put: refuse };
  return { ...calls, remove: refuse, close: () => {} };
}

function client({ region, credentials, forcePathStyle }: S3Options, endpoint: string | undefined): S3Client {
  return new S3Client({
    region,
    forcePathStyle,
    // Otherwise a streamed body is sent with a trailing checksum, which stand-ins and other makers' S3 store as content.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout: 5_000, requestTimeout: 60_000 },
    ...(endpoint ? { endpoint } : {}),
    ...(credentials ? { credentials } : {}),
  });
}

/** Pieces of the size of a part, the last one smaller. A source that stands still is left when the time is over. */
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
    throw signal.aborted ? failure(error, "unavailable") : error;
  } finally {
    source.return?.()?.catch(() => {}); // not awaited: a source that stands still never answers
  }
}

async function collect(body: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** `doubt`: what it means when nobody can say whether it happened. */
async function asked<T>(doubt: "unavailable" | "unknown", work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failure(error, doubt);
  }
}

function failure(error: unknown, doubt: "unavailable" | "unknown"): ProviderError {
  if (error instanceof ProviderError) return error;
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  const extra = { cause: error, ...(status === undefined ? {} : { status }) };
  if (isAbsence(error)) return new ProviderError("refused", "The file is not in storage.", extra);
  if (status === 429 || status === 503) {
    return new ProviderError("unavailable", "The file storage is overloaded.", extra);
  }
  if (status !== undefined && status >= 400 && status < 500) {
    return new ProviderError("refused", `The file storage refused: ${(error as Error).name}.`, extra);
  }
  return new ProviderError(doubt, "The file storage did not answer.", extra);
}

/** A missing bucket is a mistake of the installation, and no sign that a file is gone. */
function isAbsence(error: unknown): boolean {
  return error instanceof S3ServiceException && (error.name === "NotFound" || error.name === "NoSuchKey");
}

const tooLarge = (maxBytes: number) => new ProviderError("refused", `The file is larger than ${maxBytes} bytes.`);

/** RFC 6266: where the name is more than plain ASCII, a plain one for old readers and the whole of it in UTF-8. */
function attachment(fileName: string): string {
  const plain = fileName.replace(/[^\x20-\x7e]|["\\%]/g, "_");
  if (plain === fileName) return `attachment; filename="${plain}"`;
  const encoded = encodeURIComponent(fileName.toWellFormed()).replace(
    /['()*]/g,
    (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
