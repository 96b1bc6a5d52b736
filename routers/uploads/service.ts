import { createHash } from "node:crypto";
import { and, asc, eq, inArray, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { uploads } from "../../db/schema/files.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { unsignedUrl } from "../core/sign-links.ts";
import type { Files } from "../ports/files.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import type { PresignedUpload, PresignFile, UploadPurpose } from "./schema.ts";

export type UploadRow = typeof uploads.$inferSelect;

/**
 * Creates rows for announced files, valid for 24 hours. Their links are not signed yet: an endpoint that returns them has
 * `signs` in its meta, and signs them in the response, also in a replayed one. `subjectId`: the resource they are for.
 */
export async function openUploads(
  tx: Tx,
  { purpose, subjectId = null }: { purpose: UploadPurpose; subjectId?: string | null },
  files: readonly PresignFile[],
): Promise<PresignedUpload[]> {
  const rows = await tx
    .insert(uploads)
    .values(
      files.map((file) => {
        const id = newId("upload");
        const objectKey = sql`nullif(current_setting('app.client_id', true), '') || ${`/${purpose}/${id}`}`;
        return { ...file, id, purpose, subjectId, objectKey, expiresAt: inSeconds(24 * 3600) };
      }),
    )
    .returning();
  return rows.sort((a, b) => (a.id < b.id ? -1 : 1)).map(unsignedLink); // ids of one process sort in the order of creation
}

function unsignedLink({ id, objectKey, bytes, contentType, sha256, expiresAt }: UploadRow): PresignedUpload {
  const headers = { "Content-Type": contentType, "x-amz-checksum-sha256": sha256 };
  return { id, url: unsignedUrl(objectKey, bytes), method: "PUT", headers, expiresAt: toIso(expiresAt) };
}

/** The uploads with these ids that are unused, unexpired and for this purpose. Throws `upload_not_found` for any other. */
export function findUploads(tx: Tx, ids: readonly string[], wanted: Wanted): Promise<UploadRow[]> {
  return usableUploads(tx, ids, wanted, { lock: false });
}

/** Marks uploads as used, in the transaction that uses them. Throws `upload_not_found` as above. */
export async function useUploads(tx: Tx, ids: readonly string[], wanted: Wanted): Promise<UploadRow[]> {
  const rows = await usableUploads(tx, ids, wanted, { lock: true });
  await tx.update(uploads).set({ status: "used", verifiedAt: dbNow() }).where(anyOf(ids));
  return rows;
}

type Wanted = { purpose: UploadPurpose; subjectId?: string | null };

/** Returns rows in the order of `ids`. Locks them in the order of their ids, so that two requests cannot deadlock. */
async function usableUploads(
  tx: Tx,
  ids: readonly string[],
  wanted: Wanted,
  { lock }: { lock: boolean },
): Promise<UploadRow[]> {
  const { purpose, subjectId = null } = wanted;
  const found = tx
    .select()
    .from(uploads)
    .where(
      and(
        anyOf(ids),
        eq(uploads.purpose, purpose),
        inArray(uploads.status, ["pending", "verified"]),
        sql`${uploads.expiresAt} > clock_timestamp()`,
        sql`${uploads.subjectId} is not distinct from ${subjectId}::text`,
      ),
    )
    .orderBy(asc(uploads.id));
  const rows = new Map((await (lock ? found.for("update") : found)).map((row) => [row.id, row]));
  return [...new Set(ids)].map((id) => {
    const row = rows.get(id);
    if (row) return row;
    throw new ApiError(
      "upload_not_found",
      `There is no unused upload ${id} for this purpose, or it has expired. Create a new upload link.`,
    );
  });
}

/**
 * Checks that storage has the announced files. Never call it while a transaction is open. Throws `upload_not_complete` or
 * `upload_mismatch`, which name the file, and ProviderError if storage is not available.
 */
export async function verifyUploads(files: Files, rows: readonly UploadRow[], deadline: Deadline): Promise<void> {
  await Promise.all(rows.map((row) => verify(files, row, deadline)));
}

async function verify(files: Files, row: UploadRow, deadline: Deadline) {
  const { id, fileName, bytes, contentType, sha256 } = row;
  const stored = await files.head(row.objectKey, deadline);
  if (!stored) {
    throw new ApiError(
      "upload_not_complete",
      `${fileName} (${id}) is not in storage yet. PUT it to its upload URL first.`,
    );
  }
  const differs = [
    stored.bytes !== bytes && "its size",
    stored.contentType !== contentType && "its type",
    // A store without checksums compared the bytes with the announced checksum during the upload.
    stored.sha256 !== null && stored.sha256 !== sha256 && "its checksum",
  ].filter((each) => each !== false);
  if (differs.length === 0) return;
  const message = `${fileName} (${id}) is not the announced file: ${differs.join(" and ")} differs. Create a new upload link.`;
  throw new ApiError("upload_mismatch", message);
}

/** Reads the announced bytes. Throws ProviderError `refused` if they differ or are missing. */
export async function readUpload(files: Files, row: UploadRow, maxBytes: number, deadline: Deadline): Promise<Buffer> {
  const bytes = await files.get(row.objectKey, maxBytes, deadline);
  if (createHash("sha256").update(bytes).digest("base64") === row.sha256) return bytes;
  throw new ProviderError("refused", `${row.fileName} (${row.id}) is not the announced file: its checksum differs.`);
}

/** Deletes uploads whose resource was deleted. Idempotent. */
export async function dropUploads(tx: Tx, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const rows = await tx
    .update(uploads)
    .set({ status: "gone" })
    .where(and(anyOf(ids), sql`${uploads.status} <> 'gone'`))
    .returning({ key: uploads.objectKey });
  if (rows.length > 0) await enqueue(tx, "files.remove", { keys: rows.map(({ key }) => key) });
}

/** The driver has no array parameters. Ids contain no commas. */
const anyOf = (ids: readonly string[]) => sql`${uploads.id} = any(string_to_array(${ids.join(",")}::text, ','))`;
