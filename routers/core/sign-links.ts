import type { Files } from "../ports/files.ts";
import { toIso } from "./fields.ts";

/** A presigned upload as a result carries it. A stored result keeps it unsigned: a signature lasts minutes, the result a day. */
export type UploadLink = { id: string; url: string; method: "PUT"; headers: Record<string, string>; expiresAt: string };

const linkSeconds = 15 * 60;
const unsigned = "upload:";

/** The placeholder URL of an upload: which object, and how many bytes. `signLinks` replaces it. */
export const unsignedUrl = (objectKey: string, bytes: number) => `${unsigned}${objectKey}?${bytes}`;

/** Signs every unsigned link in a result, at any depth. Never call it while a transaction is open. */
export async function signLinks(files: Files, value: unknown, now: Date): Promise<unknown> {
  if (Array.isArray(value)) return Promise.all(value.map((each) => signLinks(files, each, now)));
  if (typeof value !== "object" || value === null) return value;
  if (isUnsigned(value)) return sign(files, value, now);
  const entries = Object.entries(value).map(async ([name, inner]) => [name, await signLinks(files, inner, now)]);
  return Object.fromEntries(await Promise.all(entries));
}

const isUnsigned = (value: object): value is UploadLink =>
  "url" in value && typeof value.url === "string" && value.url.startsWith(unsigned);

async function sign(files: Files, upload: UploadLink, now: Date): Promise<UploadLink> {
  const [key = "", bytes] = upload.url.slice(unsigned.length).split("?");
  const { "Content-Type": contentType = "", "x-amz-checksum-sha256": sha256 = "" } = upload.headers;
  const link = await files.presignUpload({ key, contentType, bytes: Number(bytes), sha256 }, linkSeconds);
  return { id: upload.id, ...link, expiresAt: toIso(new Date(now.getTime() + linkSeconds * 1000)) };
}
