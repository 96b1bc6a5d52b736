import { and, eq } from "drizzle-orm";
import type { Database, TenantSession, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { intents } from "../../db/schema/agents.ts";
import { dbNow, inSeconds } from "../../db/time.ts";
import type { Cipher } from "../ports/vault.ts";
import type { Settlement } from "./attempt-provider-command.ts";
import { recordAudit } from "./audit.ts";
import { ApiError, type ErrorCode } from "./errors.ts";
import { type Answer, type Claim, releaseKey, reserveKey, storedResponse, storeReserved } from "./idempotency.ts";
import type { AnyProviderCommand, ProviderCommand } from "./provider-command.ts";

export type IntentRow = typeof intents.$inferSelect;

/** The deadline of a provider call, retries included. */
export const providerDeadlineSeconds = 20;
/**
 * When the recovery job first runs, counted from the intent. By then no request waits any more, and the minute for which a
 * request holds its idempotency key has not ended. A lookup that finds nothing is repeated a minute later.
 */
const recoverAfterSeconds = 30;

type Opening = { principal: string; claim: Claim | null; requestId: string; auditInput: unknown };

/** Step 1: writes the intent, and queues the job that settles it if this process dies before the response. */
export async function openIntent<I, A, G, O>(
  tx: Tx,
  command: ProviderCommand<I, A, G, O>,
  input: I,
  clientId: string,
  { principal, claim, requestId, auditInput }: Opening,
) {
  const { subjectId, providerAccountId, request } = await command.prepare(tx, input, { clientId, actor: principal });
  const id = newId("intent");
  const [written] = await tx
    .insert(intents)
    .values({
      id,
      kind: command.kind,
      subjectId,
      providerAccountId,
      principal,
      idempotencyKey: claim?.key ?? null,
      idempotencyOwner: claim?.principal ?? null,
      requestId,
      auditInput: auditInput ?? {},
      deadlineAt: inSeconds(providerDeadlineSeconds),
    })
    .onConflictDoNothing()
    .returning();
  if (!written) throw new ApiError(command.busyCode, undefined, { retryAfterSeconds: 1 });
  if (claim) await reserveKey(tx, claim, id);
  await enqueue(tx, "intents.resolve", { intentId: id }, { key: id, delaySeconds: recoverAfterSeconds });
  return { intentId: id, subjectId, providerAccountId, request };
}

/**
 * Step 3, in a separate transaction: called by the request, by the recovery job and by provider webhooks. The first caller
 * writes the outcome, the events, the audit row and the stored response. Later callers get the same response; a resource
 * other than the accepted one is an orphan.
 */
export async function settleIntent(
  tx: Tx,
  command: AnyProviderCommand,
  intentId: string,
  settlement: Settlement<never>,
  cipher: Cipher | null,
): Promise<Answer> {
  const [intent] = await tx
    .update(intents)
    .set({ status: "settled", outcome: settlement.outcome, settledAt: dbNow(), ...absenceOf(settlement) })
    .where(and(eq(intents.id, intentId), eq(intents.status, "open")))
    .returning();
  if (!intent) return settledBefore(tx, command, intentId, settlement, cipher);
  if (settlement.outcome === "accepted") {
    await command.onAccepted(tx, intent.subjectId, settlement.resource);
    await removeOrphans(tx, command, intent, settlement.orphans ?? []);
  } else await command.onFailed(tx, intent.subjectId, settlement);
  const response = await responseOf(tx, command, intent, settlement);
  const { principal: actor, requestId, subjectId, auditInput: input } = intent;
  await recordAudit(tx, { actor, action: command.kind, subjectId, input, requestId });
  const claim = claimOf(intent);
  if (claim) {
    if (!isFinal(settlement)) await releaseKey(tx, claim, intent.id);
    else if (cipher) await storeReserved(tx, claim, cipher, response);
  }
  return response;
}

/** The idempotency key of the request that opened the intent; null without one. */
function claimOf({ principal, idempotencyOwner, idempotencyKey: key }: IntentRow) {
  return key === null ? null : { principal: idempotencyOwner ?? principal, key };
}

/** Only success and a refusal of the request itself are stored. After any other outcome the same key runs again. */
const isFinal = (settlement: Settlement<never>) =>
  settlement.outcome === "accepted" || (settlement.outcome === "refused" && !settlement.passing);

/** Marks an intent for which a lookup found nothing, whatever its outcome: the recovery job looks it up again. */
const absenceOf = (settlement: Settlement<never>) => (settlement.lookedUp ? { absences: 1, absentAt: dbNow() } : {});

export async function removeOrphans(tx: Tx, command: AnyProviderCommand, intent: IntentRow, orphans: readonly never[]) {
  for (const orphan of orphans) await command.onOrphan?.(tx, intent.subjectId, intent.providerAccountId, orphan);
}

/** Locks and returns the open intent about a subject; null without one. */
export async function openIntentOf(tx: Tx, subjectId: string): Promise<IntentRow | null> {
  const [intent] = await tx
    .select()
    .from(intents)
    .where(and(eq(intents.subjectId, subjectId), eq(intents.status, "open")))
    .for("update");
  return intent ?? null;
}

/** Seals the stored response of a request; null if the request had no idempotency key. */
export async function cipherFor(
  vault: { keys(clientId: string, purpose: "idempotency"): Promise<Cipher> },
  clientId: string,
  idempotencyKey: string | null,
): Promise<Cipher | null> {
  return idempotencyKey ? await vault.keys(clientId, "idempotency") : null;
}

/** Marks the outcome as unknown and returns a 202; if the intent is settled by now, returns its response. */
export async function markIntentUnknown(
  db: Database,
  session: TenantSession,
  command: AnyProviderCommand,
  { intentId, subjectId }: { intentId: string; subjectId: string },
  cipher: Cipher | null,
): Promise<Answer> {
  return db.asClient(session, async (tx) => {
    const open = await openIntentOf(tx, subjectId);
    if (open?.id !== intentId) return settledBefore(tx, command, intentId, null, cipher);
    return markUnknown(tx, command, subjectId);
  });
}

/** The response for the key of a request that died: the 202 of its deadline. null: the intent is settled. */
export async function pendingResponse(tx: Tx, command: AnyProviderCommand, intentId: string): Promise<Answer | null> {
  const [intent] = await tx
    .select()
    .from(intents)
    .where(and(eq(intents.id, intentId), eq(intents.status, "open")))
    .for("update");
  return intent ? markUnknown(tx, command, intent.subjectId) : null;
}

async function markUnknown(tx: Tx, command: AnyProviderCommand, subjectId: string): Promise<Answer> {
  await command.onUnknown(tx, subjectId);
  return { status: 202, data: await command.read(tx, subjectId) };
}

/** The response of the first settlement: as stored, or else by the present rows. */
async function settledBefore(
  tx: Tx,
  command: AnyProviderCommand,
  intentId: string,
  settlement: Settlement<never> | null,
  cipher: Cipher | null,
): Promise<Answer> {
  const [intent] = await tx.select().from(intents).where(eq(intents.id, intentId));
  if (!intent) throw new Error(`There is no intent ${intentId}.`);
  const { subjectId, outcome } = intent;
  const claim = claimOf(intent);
  if (settlement?.outcome === "accepted") {
    await removeOrphans(tx, command, intent, [settlement.resource, ...(settlement.orphans ?? [])]);
  }
  const stored = claim && cipher ? await storedResponse(tx, claim, cipher) : null;
  if (stored) return stored;
  if (outcome === "accepted") return { status: command.status, data: await command.read(tx, subjectId) };
  return failureResponse(
    { outcome: outcome ?? "absent", message: "The voice provider did not execute this request. Send it again." },
    subjectId,
  );
}

async function responseOf(
  tx: Tx,
  command: AnyProviderCommand,
  intent: IntentRow,
  settlement: Settlement<never>,
): Promise<Answer> {
  if (settlement.outcome !== "accepted") return failureResponse(settlement, intent.subjectId);
  return { status: command.status, data: await command.read(tx, intent.subjectId) };
}

function failureResponse(
  { outcome, message }: { outcome: IntentRow["outcome"]; message: string },
  subjectId: string,
): Answer {
  const error: ErrorCode = outcome === "refused" ? "provider_rejected" : "provider_unavailable";
  return {
    status: outcome === "refused" ? 422 : 503,
    error,
    message,
    details: [{ path: "id", message: "The resource of the failed request.", id: subjectId }],
  };
}
