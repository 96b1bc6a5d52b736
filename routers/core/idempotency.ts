import { createHmac } from "node:crypto";
import { and, eq, getTableColumns, gt, isNull, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { idPattern } from "../../db/ids.ts";
import { idempotencyKeys } from "../../db/schema/clients.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import type { Cipher } from "../ports/vault.ts";
import { ApiError, type ErrorCode, type ErrorDetail } from "./errors.ts";
import { canonical } from "./pagination.ts";

/** An idempotency key of a principal, with the fingerprint of its request. */
export type Claim = { principal: string; key: string; fingerprint: string; requestId: string };

/** The response of a request, stored so that a repeated request gets the same one. */
export type Answer =
  | { status: number; data: unknown }
  | { status: number; error: ErrorCode; message: string; details?: ErrorDetail[] };

export type StoredAnswer = { answer: Answer; requestId: string };

/** Reserved by a request that died before anything was done. */
const isAbandoned = sql`(${idempotencyKeys.status} = 'running' and ${idempotencyKeys.intentId} is null and ${idempotencyKeys.leaseUntil} <= ${dbNow()})`;
const lifetimeSeconds = 24 * 3600;
const leaseSeconds = 60;

/**
 * Covers the procedure and its parsed input, so that both transports have the same fingerprint. It is an HMAC, because a
 * telephone number can be guessed from a plain hash.
 */
export function fingerprintOf(secret: Buffer, path: string, input: unknown): string {
  return createHmac("sha256", secret)
    .update(JSON.stringify(["fingerprint", path, canonical(input)]))
    .digest("hex");
}

/** The response for a key whose request died during a provider call; null: its intent is settled by now. */
type PendingResponse = (intentId: string) => Promise<Answer | null>;

/**
 * Claims the key for this transaction. Returns the stored response of an earlier request; null: the caller does the work.
 * A running request holds its key for at most a minute. After that it has died: without an intent the work is done now, with
 * one `pendingResponse` gives the response. The lock needs a separate statement, because a statement that also read the row
 * would read it with a snapshot older than the lock.
 */
export async function claimKey(
  tx: Tx,
  claim: Claim,
  cipher: Cipher,
  pendingResponse: PendingResponse = async () => null,
): Promise<StoredAnswer | null> {
  const name = `${claim.principal} ${claim.key}`;
  const [[lock], [stored]] = await Promise.all([
    tx.execute<{ isLocked: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtextextended(current_setting('app.client_id') || ' ' || ${name}, 1)) as "isLocked"`,
    ),
    tx
      .select({
        ...getTableColumns(idempotencyKeys),
        isAbandoned: sql<boolean>`coalesce(${isAbandoned}, false)`,
        isOverdue: sql<boolean>`coalesce(${idempotencyKeys.leaseUntil} <= ${dbNow()}, false)`,
      })
      .from(idempotencyKeys)
      .where(
        and(
          eq(idempotencyKeys.principal, claim.principal),
          eq(idempotencyKeys.key, claim.key),
          gt(idempotencyKeys.expiresAt, dbNow()),
        ),
      ),
  ]);
  if (!stored && !lock?.isLocked) throw inProgress();
  if (!stored) return null;
  if (lock?.isLocked && stored.isAbandoned) return null;
  if (stored.fingerprint !== claim.fingerprint) throw new ApiError("idempotency_key_reused");
  if (stored.status === "running" && stored.intentId && stored.isOverdue) {
    const answer = await pendingResponse(stored.intentId);
    if (answer) return { requestId: stored.requestId, answer };
  }
  if (stored.status === "running" || !stored.answer) throw inProgress();
  return {
    requestId: stored.requestId,
    answer: JSON.parse(cipher.open(stored.answer, rowOf(claim)).toString()) as Answer,
  };
}

/** Stores the response of a command, in its commit. */
export async function storeAnswer(tx: Tx, claim: Claim, cipher: Cipher, answer: Answer) {
  await upsert(tx, claim, { status: "answered", answer: seal(cipher, claim, answer), subjectId: subjectOf(answer) });
}

/**
 * Reserves the key for a minute before a provider call. A reservation that is older belongs to a request that died: without
 * an intent nothing was done; with one, the same request gets a 202 until the intent is settled.
 */
export async function reserveKey(tx: Tx, claim: Claim, intentId: string | null) {
  await upsert(tx, claim, { status: "running", intentId, leaseUntil: inSeconds(leaseSeconds) });
}

/** Releases a reserved key, because nothing was done. `intentId`: the intent of the reservation; null: it had none. */
export async function releaseKey(
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

/** Stores the response of a reserved key, in any process that settles the intent. */
export async function storeReserved(
  tx: Tx,
  { principal, key }: Pick<Claim, "principal" | "key">,
  cipher: Cipher,
  answer: Answer,
) {
  await tx
    .update(idempotencyKeys)
    .set({
      status: "answered",
      answer: seal(cipher, { principal, key }, answer),
      subjectId: subjectOf(answer),
      leaseUntil: null,
    })
    .where(and(eq(idempotencyKeys.principal, principal), eq(idempotencyKeys.key, key)));
}

/** The stored response of a reserved key; null while there is none. */
export async function storedResponse(
  tx: Tx,
  claim: Pick<Claim, "principal" | "key">,
  cipher: Cipher,
): Promise<Answer | null> {
  const [row] = await tx
    .select({ answer: idempotencyKeys.answer })
    .from(idempotencyKeys)
    .where(and(eq(idempotencyKeys.principal, claim.principal), eq(idempotencyKeys.key, claim.key)));
  return row?.answer ? (JSON.parse(cipher.open(row.answer, rowOf(claim)).toString()) as Answer) : null;
}

type Rest =
  | { status: "answered"; answer: Buffer; subjectId: string | null }
  | { status: "running"; intentId: string | null; leaseUntil: SQL };

async function upsert(tx: Tx, { principal, key, fingerprint, requestId }: Claim, rest: Rest) {
  const none = { answer: null, subjectId: null, intentId: null, leaseUntil: null };
  const row = { fingerprint, requestId, ...none, ...rest, expiresAt: inSeconds(lifetimeSeconds) };
  await tx
    .insert(idempotencyKeys)
    .values({ principal, key, ...row })
    .onConflictDoUpdate({
      target: [idempotencyKeys.clientId, idempotencyKeys.principal, idempotencyKeys.key],
      set: { ...row, createdAt: dbNow() },
      setWhere: sql`${idempotencyKeys.expiresAt} <= ${dbNow()} or ${isAbandoned}`,
    });
}

/** The stored responses about a resource. */
export async function answersAbout(tx: Tx, subjectId: string, cipher: Cipher) {
  const { principal, key, answer } = idempotencyKeys;
  const rows = await tx
    .select({ principal, key, answer })
    .from(idempotencyKeys)
    .where(eq(idempotencyKeys.subjectId, subjectId));
  return rows.flatMap(({ answer: sealed, ...claim }) =>
    sealed ? [{ ...claim, answer: JSON.parse(cipher.open(sealed, rowOf(claim)).toString()) as Answer }] : [],
  );
}

/** Replaces a stored response, because the resource that it shows was erased. */
export async function replaceAnswer(tx: Tx, claim: Pick<Claim, "principal" | "key">, cipher: Cipher, answer: Answer) {
  await tx
    .update(idempotencyKeys)
    .set({ answer: seal(cipher, claim, answer) })
    .where(
      and(
        eq(idempotencyKeys.principal, claim.principal),
        eq(idempotencyKeys.key, claim.key),
        eq(idempotencyKeys.status, "answered"),
      ),
    );
}

/** The call that a response shows, or whose failure it reports: calls can be erased. null for all other resources. */
function subjectOf(answer: Answer): string | null {
  const { id } = "error" in answer ? { id: failedId(answer.details) } : ((answer.data ?? {}) as { id?: unknown });
  return typeof id === "string" && idPattern("call").test(id) ? id : null;
}

const failedId = (details: ErrorDetail[] | undefined) => details?.find(({ path }) => path === "id")?.id;

const inProgress = () => new ApiError("idempotency_in_progress", undefined, { retryAfterSeconds: 1 });
const rowOf = ({ principal, key }: Pick<Claim, "principal" | "key">) => `${principal} ${key}`;
const seal = (cipher: Cipher, claim: Pick<Claim, "principal" | "key">, answer: Answer) =>
  cipher.seal(JSON.stringify(answer), rowOf(claim));
