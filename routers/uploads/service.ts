import { createHash } from "node:crypto";
import { and, asc, eq, inArray, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { uploads } from "../../db/schema/files.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import type { Files } from "../ports/files.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import type { PresignedUpload, PresignFile, UploadPurpose } from "./schema.ts";

export type UploadRow = typeof uploads.$inferSelect;

const linkSeconds = 15 * 60;
const unsigned = "upload:";

/**
 * Rows for files that are to come, for a day. Their links are not signed yet: a door that answers them says `signs` in
 * its meta, and signs on its way out, from a replay too. `subjectId`: what they are for, if that is known.
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
        return { ...file, id, purpose, subjectId, objectKey, expiresAt: sql`clock_timestamp() + interval '24 hours'` };
      }),
    )
    .returning();
  return rows.sort((a, b) => (a.id < b.id ? -1 : 1)).map(unsignedLink); // ids of one process sort as they were made
}

/** What a stored answer keeps of a link: the object, its size, and what else will be signed. */
function unsignedLink({ id, objectKey, bytes, contentType, sha256, expiresAt }: UploadRow): PresignedUpload {
  const headers = { "Content-Type": contentType, "x-amz-checksum-sha256": sha256 };
  return { id, url: `${unsigned}${objectKey}?${bytes}`, method: "PUT", headers, expiresAt: toIso(expiresAt) };
}

/** Signs every link of `openUploads` in an answer, wherever it stands. Never while a transaction is open. */
export async function signLinks(files: Files, answer: unknown, now: Date): Promise<unknown> {
  if (Array.isArray(answer)) return Promise.all(answer.map((each) => signLinks(files, each, now)));
  if (typeof answer !== "object" || answer === null) return answer;
  if (isUnsigned(answer)) return sign(files, answer, now);
  const entries = Object.entries(answer).map(async ([name, value]) => [name, await signLinks(files, value, now)]);
  return Object.fromEntries(await Promise.all(entries));
}

const isUnsigned = (value: object): value is PresignedUpload =>
  "url" in value && typeof value.url === "string" && value.url.startsWith(unsigned);

async function sign(files: Files, upload: PresignedUpload, now: Date): Promise<PresignedUpload> {
  const [key = "", bytes] = upload.url.slice(unsigned.length).split("?");
  const { "Content-Type": contentType = "", "x-amz-checksum-sha256": sha256 = "" } = upload.headers;
  const link = await files.presignUpload({ key, contentType, bytes: Number(bytes), sha256 }, linkSeconds);
  return { id: upload.id, ...link, expiresAt: toIso(new Date(now.getTime() + linkSeconds * 1000)) };
}

/** What may be used for this: the client's own, not yet used and not run out. Throws `upload_not_found` for any other. */
export function findUploads(tx: Tx, ids: readonly string[], wanted: Wanted): Promise<UploadRow[]> {
  return usable(tx, ids, wanted, false);
}

/** Marks them as used, in the transaction that makes something of them. Throws `upload_not_found` as above. */
export async function useUploads(tx: Tx, ids: readonly string[], wanted: Wanted): Promise<UploadRow[]> {
  const rows = await usable(tx, ids, wanted, true);
  const verifiedAt = sql`clock_timestamp()` as SQL<Date>;
  await tx.update(uploads).set({ status: "used", verifiedAt }).where(anyOf(ids));
  return rows;
}

type Wanted = { purpose: UploadPurpose; subjectId?: string | null };

/** In the order asked for; locked in the order of their ids, so that two who want the same do not wait for each other. */
async function usable(tx: Tx, ids: readonly string[], wanted: Wanted, lock: boolean): Promise<UploadRow[]> {
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
    throw new ApiError("upload_not_found", `There is no upload ${id} for this: it is used already, or has run out.`);
  });
}

/**
 * Is in storage what was announced? Never while a transaction is open. Throws `upload_not_complete` and
 * `upload_mismatch`, which name the file, and ProviderError where storage cannot be asked.
 */
export async function verifyUploads(files: Files, rows: readonly UploadRow[], deadline: Deadline): Promise<void> {
  await Promise.all(rows.map((row) => verify(files, row, deadline)));
}

async function verify(files: Files, row: UploadRow, deadline: Deadline) {
  const { id, fileName, bytes, contentType, sha256 } = row;
  const there = await files.head(row.objectKey, deadline);
  if (!there) {
    throw new ApiError(
      "upload_not_complete",
      `${fileName} (${id}) is not in storage yet: PUT it to the URL that was given.`,
    );
  }
  const differs = [
    there.bytes !== bytes && "its size",
    there.contentType !== contentType && "its type",
    // A store that keeps no checksums has compared the bytes with the announced one when they came.
    there.sha256 !== null && there.sha256 !== sha256 && "its checksum",
  ].filter((each) => each !== false);
  if (differs.length === 0) return;
  const message = `${fileName} (${id}) is not what was announced: ${differs.join(" and ")} differs. Ask for a new link.`;
  throw new ApiError("upload_mismatch", message);
}

/** The bytes, if they are what was announced. Throws ProviderError: `refused` when they are not, or not there. */
export async function readUpload(files: Files, row: UploadRow, maxBytes: number, deadline: Deadline): Promise<Buffer> {
  const bytes = await files.get(row.objectKey, maxBytes, deadline);
  if (createHash("sha256").update(bytes).digest("base64") === row.sha256) return bytes;
  throw new ProviderError("refused", `${row.fileName} (${row.id}) is not what was announced: its checksum differs.`);
}

/** What was made of them is deleted: they go too. Gone is gone. */
export async function dropUploads(tx: Tx, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const rows = await tx
    .update(uploads)
    .set({ status: "gone" })
    .where(and(anyOf(ids), sql`${uploads.status} <> 'gone'`))
    .returning({ key: uploads.objectKey });
  if (rows.length > 0) await enqueue(tx, "files.remove", { keys: rows.map(({ key }) => key) });
}

/** Ids hold no commas; the driver knows no arrays. */
const anyOf = (ids: readonly string[]) => sql`${uploads.id} = any(string_to_array(${ids.join(",")}::text, ','))`;
