import type { Deadline } from "./provider-error.ts";

/** Where files lie: an S3 of whatever maker. Keys are ours, `<client>/<purpose>/<id>`; nobody else chooses one. */
export interface Files {
  /** A link by which exactly these bytes can be put there: size, type and checksum are part of what is signed. */
  presignUpload(
    file: { key: string; contentType: string; bytes: number; sha256: string },
    expiresSeconds: number,
  ): Promise<{ url: string; method: "PUT"; headers: Record<string, string> }>;
  presignDownload(
    key: string,
    file: { fileName: string; contentType?: string },
    expiresSeconds: number,
  ): Promise<string>;
  /** null when nothing lies there. */
  head(key: string, deadline: Deadline): Promise<{ bytes: number; contentType: string; sha256: string | null } | null>;
  /** The whole of it. Throws ProviderError `refused` when it is larger, or not there. */
  get(key: string, maxBytes: number, deadline: Deadline): Promise<Buffer>;
  /** As it comes in, in parts; no half of it is ever seen. Answers how much it was. */
  put(
    key: string,
    content: AsyncIterable<Buffer>,
    file: { contentType: string; maxBytes: number },
    deadline: Deadline,
  ): Promise<{ bytes: number }>;
  /** Gone is gone. */
  remove(keys: readonly string[], deadline: Deadline): Promise<void>;
}
