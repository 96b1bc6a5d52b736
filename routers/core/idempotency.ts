import { createHmac, createSecretKey, type KeyObject } from "node:crypto";
import { and, eq, isNull } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { idPattern } from "../../db/ids.ts";
import { idempotencyKeys } from "../../db/schema/clients.ts";
import { statement } from "../../db/statement.ts";
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

const lifetimeSeconds = 24 * 3600;
const leaseSeconds = 60;

const keys = new WeakMap<Buffer, KeyObject>();

/** The same key object each time: making one costs more than the HMAC. */
function keyOf(secret: Buffer): KeyObject {
  const known = keys.get(secret) ?? createSecretKey(secret);
  keys.set(secret, known);
  return known;
}

/**
 * Covers the procedure and its parsed input, so that both transports have the same fingerprint. It is an HMAC, because a
 * telephone number can be guessed from a plain hash.
 */
export function fingerprintOf(secret: Buffer, path: string, input: unknown): string {
  return createHmac("sha256", keyOf(secret))
    .update(JSON.stringify(["fingerprint", path, canonical(input)]))
    .digest("hex");
}

/** The response for a key whose request died during a provider call; null: its intent is settled by now. */
type PendingResponse = (intentId: string) => Promise<Answer | null>;

/** Reserved by a request that died before anything was done. */
const isAbandoned = "(status = 'running' and intent_id is null and lease_until <= clock_timestamp())";

const lockKey = statement<{ is_locked: boolean }>(
  "select pg_try_advisory_xact_lock(hashtextextended(current_setting('app.client_id') || ' ' || $1, 1)) as is_locked",
);

type StoredKey = {
  fingerprint: string;
  request_id: string;
  status: "running" | "answered";
  intent_id: string | null;
  answer: Buffer | null;
  is_abandoned: boolean;
  is_overdue: boolean;
};

const readKey = statement<StoredKey>(`
  select fingerprint, request_id, status, intent_id, answer, coalesce(${isAbandoned}, false) as is_abandoned,
    coalesce(lease_until <= clock_timestamp(), false) as is_overdue
  from idempotency_keys where principal = $1 and key = $2 and expires_at > clock_timestamp()`);

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
  const { principal, key } = claim;
  const [[lock], [stored]] = await Promise.all([lockKey(tx, [`${principal} ${key}`]), readKey(tx, [principal, key])]);
  if (!stored && !lock?.is_locked) throw inProgress();
  if (!stored) return null;
  if (lock?.is_locked && stored.is_abandoned) return null;
  if (stored.fingerprint !== claim.fingerprint) throw new ApiError("idempotency_key_reused");
  const { status, request_id: requestId, intent_id: intentId } = stored;
  if (status === "running" && intentId && stored.is_overdue) {
    const answer = await pendingResponse(intentId);
    if (answer) return { requestId, answer };
  }
  if (status === "running" || !stored.answer) throw inProgress();
  return { requestId, answer: JSON.parse(cipher.open(stored.answer, rowOf(claim)).toString()) as Answer };
}

/** Stores the response of a command. Can go with the commit. */
export async function storeAnswer(tx: Tx, claim: Claim, cipher: Cipher, answer: Answer) {
  const { principal, key, fingerprint, requestId } = claim;
  const sealed = seal(cipher, claim, answer);
  await upsertKey(tx, [principal, key, fingerprint, requestId, "answered", sealed, subjectOf(answer), null, null]);
}

/**
 * Reserves the key for a minute before a provider call. A reservation that is older belongs to a request that died: without
 * an intent nothing was done; with one, the same request gets a 202 until the intent is settled.
 */
export async function reserveKey(tx: Tx, claim: Claim, intentId: string | null) {
  const { principal, key, fingerprint, requestId } = claim;
  await upsertKey(tx, [principal, key, fingerprint, requestId, "running", null, null, intentId, leaseSeconds]);
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

/** Stores the response of a reserved key, in any process that settles the intent. Can go with the commit. */
export async function storeReserved(
  tx: Tx,
  { principal, key }: Pick<Claim, "principal" | "key">,
  cipher: Cipher,
  answer: Answer,
) {
  await answerKey(tx, [principal, key, seal(cipher, { principal, key }, answer), subjectOf(answer)]);
}

const answerKey = statement(`
  update idempotency_keys set status = 'answered', answer = $3, subject_id = $4, lease_until = null
  where principal = $1 and key = $2`);

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

const upsertKey = statement(`
  insert into idempotency_keys as k
    (principal, key, fingerprint, request_id, status, answer, subject_id, intent_id, lease_until, expires_at)
  values ($1, $2, $3, $4, $5, $6::bytea, $7, $8, clock_timestamp() + make_interval(secs => $9::double precision),
    clock_timestamp() + make_interval(secs => ${lifetimeSeconds}))
  on conflict (client_id, principal, key) do update set fingerprint = excluded.fingerprint,
    request_id = excluded.request_id, status = excluded.status, answer = excluded.answer, subject_id = excluded.subject_id,
    intent_id = excluded.intent_id, lease_until = excluded.lease_until, expires_at = excluded.expires_at,
    created_at = clock_timestamp()
  where k.expires_at <= clock_timestamp()
    or (k.status = 'running' and k.intent_id is null and k.lease_until <= clock_timestamp())`);

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
