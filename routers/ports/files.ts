import type { Deadline } from "./provider-error.ts";

/** Object storage with the S3 API. Only we choose keys: `<client>/<purpose>/<id>`. */
export interface Files {
  /** A link to upload exactly these bytes: size, type and checksum are part of the signature. */
  presignUpload(
    file: { key: string; contentType: string; bytes: number; sha256: string },
    expiresSeconds: number,
  ): Promise<{ url: string; method: "PUT"; headers: Record<string, string> }>;
  presignDownload(
    key: string,
    file: { fileName: string; contentType?: string },
    expiresSeconds: number,
  ): Promise<string>;
  /** null if there is no such file. */
  head(key: string, deadline: Deadline): Promise<{ bytes: number; contentType: string; sha256: string | null } | null>;
  /** Reads the whole file. Throws ProviderError `refused` if it is larger, or missing. */
  get(key: string, maxBytes: number, deadline: Deadline): Promise<Buffer>;
  /** Uploads a stream in parts. The file becomes visible only when complete. Returns its size. */
  put(
    key: string,
    content: AsyncIterable<Buffer>,
    file: { contentType: string; maxBytes: number },
    deadline: Deadline,
  ): Promise<{ bytes: number }>;
  /** A file that is already gone counts as removed. */
  remove(keys: readonly string[], deadline: Deadline): Promise<void>;
}
