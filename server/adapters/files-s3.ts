import { addAbortSignal, type Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import type { Files } from "../../routers/ports/files.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { isMissing, storageError, tooLarge, withStorageErrors } from "./s3-errors.ts";
import { collect, upload } from "./s3-upload.ts";

export type S3Options = {
  bucket: string;
  region: string;
  /** For an S3-compatible store other than AWS. */
  endpoint?: string | undefined;
  /** The endpoint in presigned URLs, if clients reach the store under another name than we do. */
  publicEndpoint?: string | undefined;
  /** By default the SDK's own provider chain. */
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined;
  forcePathStyle: boolean;
};

export type FileStore = Files & { close(): void };

const removedAtOnce = 20;

/** A bucket of any S3. Writes and removals are by key, so the SDK may repeat them without harm. */
export function s3Files(options: S3Options): FileStore {
  const { bucket: Bucket } = options;
  const s3 = client(options, options.endpoint);
  const links = options.publicEndpoint ? client(options, options.publicEndpoint) : s3;

  return {
    ...presigner(links, Bucket),

    async head(Key, { signal: abortSignal }) {
      try {
        const command = new HeadObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" });
        const { ContentLength, ContentType, ChecksumSHA256 } = await s3.send(command, { abortSignal });
        return { bytes: ContentLength ?? 0, contentType: ContentType ?? "", sha256: ChecksumSHA256 ?? null };
      } catch (error) {
        if (isMissing(error)) return null;
        throw storageError(error, "unavailable");
      }
    },

    async get(Key, maxBytes, { signal }) {
      return withStorageErrors("unavailable", async () => {
        const { Body, ContentLength = 0 } = await s3.send(new GetObjectCommand({ Bucket, Key }), {
          abortSignal: signal,
        });
        const body = Body as Readable; // always, in Node
        if (ContentLength <= maxBytes) return await collect(addAbortSignal(signal, body), maxBytes);
        body.destroy();
        throw tooLarge(maxBytes);
      });
    },

    put: (Key, content, about, deadline) => upload(s3, { Bucket, Key }, content, about, deadline),

    async remove(keys, { signal: abortSignal }) {
      // One request per key: not every S3 has a batch request, and its response would list the failed keys separately.
      for (let start = 0; start < keys.length; start += removedAtOnce) {
        const some = keys.slice(start, start + removedAtOnce);
        const removals = some.map((Key) => s3.send(new DeleteObjectCommand({ Bucket, Key }), { abortSignal }));
        await withStorageErrors("unknown", () => Promise.all(removals));
      }
    },

    close() {
      s3.destroy();
      links.destroy();
    },
  };
}

const presigner = (s3: S3Client, Bucket: string): Pick<Files, "presignUpload" | "presignDownload"> => ({
  async presignUpload({ key: Key, contentType, bytes, sha256 }, expiresSeconds) {
    const file = { ContentType: contentType, ContentLength: bytes, ChecksumSHA256: sha256 };
    const url = await withStorageErrors("unavailable", () =>
      getSignedUrl(s3, new PutObjectCommand({ Bucket, Key, ...file }), {
        expiresIn: expiresSeconds,
        // Signed as headers: as query parameters they would be part of the link, and not be enforced.
        signableHeaders: new Set(["host", "content-type", "content-length", "x-amz-checksum-sha256"]),
        unhoistableHeaders: new Set(["x-amz-checksum-sha256"]),
      }),
    );
    // Content-Length is signed too, but not listed: every HTTP client sends it, and browsers forbid setting it.
    return { url, method: "PUT", headers: { "Content-Type": contentType, "x-amz-checksum-sha256": sha256 } };
  },

  async presignDownload(Key, { fileName, contentType }, expiresSeconds) {
    const response = { ResponseContentDisposition: attachment(fileName), ResponseContentType: contentType };
    const command = new GetObjectCommand({ Bucket, Key, ...response });
    return withStorageErrors("unavailable", () => getSignedUrl(s3, command, { expiresIn: expiresSeconds }));
  },
});

/** For an installation without file storage: every operation fails, with the reason. */
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
    // Otherwise a streamed body has a trailing checksum, which other S3 implementations store as content.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout: 5_000, requestTimeout: 60_000 },
    ...(endpoint && { endpoint }),
    ...(credentials && { credentials }),
  });
}

/** RFC 6266: a name beyond plain ASCII is sent twice, simplified for old clients and complete in UTF-8. */
function attachment(fileName: string): string {
  const plain = fileName.replace(/[^\x20-\x7e]|["\\%]/g, "_");
  if (plain === fileName) return `attachment; filename="${plain}"`;
  const encoded = encodeURIComponent(fileName.toWellFormed()).replace(
    /['()*]/g,
    (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
