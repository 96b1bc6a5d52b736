import { createHmac } from "node:crypto";
import { and, eq, getTableColumns, gt, isNull, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { idPattern } from "../../db/ids.ts";
import { idempotencyKeys } from "../../db/schema/clients.ts";
import type { Cipher } from "../ports/vault.ts";
import { ApiError, type ErrorCode, type ErrorDetail } from "./errors.ts";
import { canonical } from "./pagination.ts";

/** One key of one principal, and what the request under it is. */
export type Claim = { principal: string; key: string; fingerprint: string; requestId: string };

/** What a request was answered, kept so that the same request is answered the same again. */
export type Answer =
  | { status: number; data: unknown }
  | { status: number; fault: ErrorCode; message: string; details?: ErrorDetail[] };

export type StoredAnswer = { answer: Answer; requestId: string };

/** Taken by somebody who has died before anything came of it. */
const abandoned = sql`(${idempotencyKeys.status} = 'running' and ${idempotencyKeys.intentId} is null and ${idempotencyKeys.leaseUntil} <= clock_timestamp())`;
const lifetime = sql`clock_timestamp() + interval '24 hours'`;

/**
 * Both doors share it: the procedure and its parsed input, not the bytes they came in. Keyed, since a telephone number
 * could be guessed from a bare hash.
 */
export function fingerprintOf(secret: Buffer, path: string, input: unknown): string {
  return createHmac("sha256", secret)
    .update(JSON.stringify(["fingerprint", path, canonical(input)]))
    .digest("hex");
}

/** What is answered under a key whose request has died while a provider was asked; null: what was asked is settled by now. */
type AnswerForDead = (intentId: string) => Promise<Answer | null>;

/**
 * Takes the key for this transaction. Returns the answer when it was given before; otherwise the caller does the work.
 * A running request holds its key for a minute at most. After that it has died: without an intent the work may be done,
 * with one `answerForDead` says how things stand. The lock comes in a statement of its own: one that looked as well would look with a snapshot older than the lock.
 */
export async function claimKey(
  tx: Tx,
  claim: Claim,
  ring: Cipher,
  answerForDead: AnswerForDead = async () => null,
): Promise<StoredAnswer | null> {
  const name = `${claim.principal} ${claim.key}`;
  const [locked, [seen]] = await Promise.all([
    tx.execute<{ got: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtextextended(current_setting('app.client_id') || ' ' || ${name}, 1)) as got`,
    ),
    tx
      .select({
        ...getTableColumns(idempotencyKeys),
        abandoned: sql<boolean>`coalesce(${abandoned}, false)`,
        isOverdue: sql<boolean>`coalesce(${idempotencyKeys.leaseUntil} <= clock_timestamp(), false)`,
      })
      .from(idempotencyKeys)
      .where(
        and(
          eq(idempotencyKeys.principal, claim.principal),
          eq(idempotencyKeys.key, claim.key),
          gt(idempotencyKeys.expiresAt, sql`clock_timestamp()`),
        ),
      ),
  ]);
  if (!seen && !locked[0]?.got) throw inProgress();
  if (!seen) return null;
  if (locked[0]?.got && seen.abandoned) return null;
  if (seen.fingerprint !== claim.fingerprint) throw new ApiError("idempotency_key_reused");
  if (seen.status === "running" && seen.intentId && seen.isOverdue) {
    const answer = await answerForDead(seen.intentId);
    if (answer) return { requestId: seen.requestId, answer };
  }
  if (seen.status === "running" || !seen.answer) throw inProgress();
  return { requestId: seen.requestId, answer: JSON.parse(ring.open(seen.answer, rowOf(claim)).toString()) as Answer };
}

/** Keeps the answer of a command, in its commit. */
export async function storeAnswer(tx: Tx, claim: Claim, ring: Cipher, answer: Answer) {
  await upsert(tx, claim, { status: "answered", answer: seal(ring, claim, answer), subjectId: subjectOf(answer) });
}

/**
 * Marks the key as taken before somebody else's machine is asked, for a minute: then whoever took it has died. Without an
 * intent nothing has come of it. With one the same request is answered 202 until that is settled.
 */
export async function reserveKey(tx: Tx, claim: Claim, intentId: string | null) {
  await upsert(tx, claim, { status: "running", intentId, leaseUntil: sql`clock_timestamp() + interval '60 seconds'` });
}

/** Gives a reserved key back: nothing was done under it. `intentId`: by whose reservation; null: by one without an intent. */
export async function giveUpKey(
  tx: Tx,
  { principal, key }: Pick<Claim, "principal" | "key">,
  intentId: string | null = null,
) {
  await tx
    .delete(idempotencyKeys)
    .where(
      and(
        eq(idempotencyKeys.principal, principal),
        eq(idempotencyKeys.key, key),
        eq(idempotencyKeys.status, "running"),
        intentId === null ? isNull(idempotencyKeys.intentId) : eq(idempotencyKeys.intentId, intentId),
      ),
    );
}

/** Answers a reserved key, whoever settled the intent. */
export async function answerReserved(
  tx: Tx,
  { principal, key }: Pick<Claim, "principal" | "key">,
  ring: Cipher,
  answer: Answer,
) {
  await tx
    .update(idempotencyKeys)
    .set({
      status: "answered",
      answer: seal(ring, { principal, key }, answer),
      subjectId: subjectOf(answer),
      leaseUntil: null,
    })
    .where(and(eq(idempotencyKeys.principal, principal), eq(idempotencyKeys.key, key)));
}

/** What a reserved key was answered; null while it is not. */
export async function storedAnswer(
  tx: Tx,
  claim: Pick<Claim, "principal" | "key">,
  ring: Cipher,
): Promise<Answer | null> {
  const [row] = await tx
    .select({ answer: idempotencyKeys.answer })
    .from(idempotencyKeys)
    .where(and(eq(idempotencyKeys.principal, claim.principal), eq(idempotencyKeys.key, claim.key)));
  return row?.answer ? (JSON.parse(ring.open(row.answer, rowOf(claim)).toString()) as Answer) : null;
}

type Rest =
  | { status: "answered"; answer: Buffer; subjectId: string | null }
  | { status: "running"; intentId: string | null; leaseUntil: SQL };

async function upsert(tx: Tx, { principal, key, fingerprint, requestId }: Claim, rest: Rest) {
  const none = { answer: null, subjectId: null, intentId: null, leaseUntil: null };
  const row = { fingerprint, requestId, ...none, ...rest, expiresAt: lifetime };
  await tx
    .insert(idempotencyKeys)
    .values({ principal, key, ...row })
    .onConflictDoUpdate({
      target: [idempotencyKeys.clientId, idempotencyKeys.principal, idempotencyKeys.key],
      set: { ...row, createdAt: sql`clock_timestamp()` },
      setWhere: sql`${idempotencyKeys.expiresAt} <= clock_timestamp() or ${abandoned}`,
    });
}

/** The answers that are kept about a thing. */
export async function answersAbout(tx: Tx, subjectId: string, ring: Cipher) {
  const { principal, key, answer } = idempotencyKeys;
  const rows = await tx
    .select({ principal, key, answer })
    .from(idempotencyKeys)
    .where(eq(idempotencyKeys.subjectId, subjectId));
  return rows.flatMap(({ answer: sealed, ...claim }) =>
    sealed ? [{ ...claim, answer: JSON.parse(ring.open(sealed, rowOf(claim)).toString()) as Answer }] : [],
  );
}

/** Another answer for a key that has one: what the first was about is erased. */
export async function replaceAnswer(tx: Tx, claim: Pick<Claim, "principal" | "key">, ring: Cipher, answer: Answer) {
  await tx
    .update(idempotencyKeys)
    .set({ answer: seal(ring, claim, answer) })
    .where(
      and(
        eq(idempotencyKeys.principal, claim.principal),
        eq(idempotencyKeys.key, claim.key),
        eq(idempotencyKeys.status, "answered"),
      ),
    );
}

/** The call that an answer shows, or that a failed one is about: it can be erased. Of all else the row tells nothing. */
function subjectOf(answer: Answer): string | null {
  const { id } = "fault" in answer ? { id: failedId(answer.details) } : ((answer.data ?? {}) as { id?: unknown });
  return typeof id === "string" && idPattern("call").test(id) ? id : null;
}

const failedId = (details: ErrorDetail[] | undefined) => details?.find(({ path }) => path === "id")?.message;

const inProgress = () => new ApiError("idempotency_in_progress", undefined, { retryAfterSeconds: 1 });
const rowOf = ({ principal, key }: Pick<Claim, "principal" | "key">) => `${principal} ${key}`;
const seal = (ring: Cipher, claim: Pick<Claim, "principal" | "key">, answer: Answer) =>
  ring.seal(JSON.stringify(answer), rowOf(claim));
