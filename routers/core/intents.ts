import { and, eq, sql } from "drizzle-orm";
import type { Database, TenantSession, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { intents } from "../../db/schema/agents.ts";
import type { Cipher } from "../ports/vault.ts";
import type { Settlement } from "./attempt-provider-command.ts";
import { recordAudit } from "./audit.ts";
import { ApiError, type ErrorCode } from "./errors.ts";
import { type Answer, answerReserved, type Claim, giveUpKey, reserveKey, storedAnswer } from "./idempotency.ts";
import type { AnyProviderCommand, ProviderCommand } from "./provider-command.ts";

export type IntentRow = typeof intents.$inferSelect;

/** How long a request waits for a provider, repeats included. */
export const providerDeadlineSeconds = 20;
/**
 * When the safety job first looks, counted from the intent. No request waits any more by then, and it is well within the
 * minute for which a request holds its idempotency key. What is not found is looked for again a minute later.
 */
const safetyAfterSeconds = 30;

type Opening = { principal: string; claim: Claim | null; requestId: string; auditInput: unknown };

/** Step 1: what is about to be asked is written down, with the job that finds out should we not live to hear the answer. */
export async function openIntent<I, A, G, O>(
  tx: Tx,
  outbound: ProviderCommand<I, A, G, O>,
  input: I,
  clientId: string,
  { principal, claim, requestId, auditInput }: Opening,
) {
  const { subjectId, providerAccountId, asked } = await outbound.prepare(tx, input, { clientId, actor: principal });
  const id = newId("intent");
  const [written] = await tx
    .insert(intents)
    .values({
      id,
      kind: outbound.kind,
      subjectId,
      providerAccountId,
      principal,
      idempotencyKey: claim?.key ?? null,
      idempotencyOwner: claim?.principal ?? null,
      requestId,
      auditInput: auditInput ?? {},
      deadlineAt: sql`clock_timestamp() + make_interval(secs => ${providerDeadlineSeconds})` as unknown as Date,
    })
    .onConflictDoNothing()
    .returning();
  if (!written) throw new ApiError(outbound.busyCode, undefined, { retryAfterSeconds: 1 });
  if (claim) await reserveKey(tx, claim, id);
  await enqueue(tx, "intents.resolve", { intentId: id }, { key: id, delaySeconds: safetyAfterSeconds });
  return { intentId: id, subjectId, providerAccountId, asked };
}

/**
 * Step 3, in a transaction of its own. The first to come writes the outcome, the events, the audit row and the stored answer;
 * whoever comes later finds it done, and a thing found beside the one that was taken is a stray.
 * Called by the request, by the safety job and by what the provider tells us.
 */
export async function settleIntent(
  tx: Tx,
  outbound: AnyProviderCommand,
  intentId: string,
  settlement: Settlement<never>,
  ring: Cipher | null,
): Promise<Answer> {
  const [intent] = await tx
    .update(intents)
    .set({ status: "settled", outcome: settlement.outcome, settledAt: now, ...doubtOf(settlement) })
    .where(and(eq(intents.id, intentId), eq(intents.status, "open")))
    .returning();
  if (!intent) return settledBefore(tx, outbound, intentId, settlement, ring);
  if (settlement.outcome === "accepted") {
    await outbound.onAccepted(tx, intent.subjectId, settlement.got);
    await removeStrays(tx, outbound, intent, settlement.strays ?? []);
  } else await outbound.onFailed(tx, intent.subjectId, settlement);
  const answer = await answerOf(tx, outbound, intent, settlement);
  const { principal: actor, requestId, subjectId, auditInput: input } = intent;
  await recordAudit(tx, { actor, action: outbound.kind, subjectId, input, requestId });
  const claim = claimOf(intent);
  if (claim) {
    if (!isLastWord(settlement)) await giveUpKey(tx, claim, intent.id);
    else if (ring) await answerReserved(tx, claim, ring, answer);
  }
  return answer;
}

/** The idempotency key of the request that opened it; null where it had none. */
function claimOf({ principal, idempotencyOwner, idempotencyKey: key }: IntentRow) {
  return key === null ? null : { principal: idempotencyOwner ?? principal, key };
}

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value

/** Only what was done, and a refusal of the request itself, answers its key from now on. Anything else runs again under it. */
const isLastWord = (settlement: Settlement<never>) =>
  settlement.outcome === "accepted" || (settlement.outcome === "refused" && !settlement.passing);

/** Marks an intent of which one look found nothing, whatever came of it in the end: its recovery job looks once more. */
const doubtOf = (settlement: Settlement<never>) => (settlement.lookedUp ? { absences: 1, absentAt: now } : {});

export async function removeStrays(tx: Tx, outbound: AnyProviderCommand, intent: IntentRow, strays: readonly never[]) {
  for (const stray of strays) await outbound.onOrphan?.(tx, intent.subjectId, intent.providerAccountId, stray);
}

/** The open intent about a subject, locked; null when there is none. */
export async function openIntentOf(tx: Tx, subjectId: string): Promise<IntentRow | null> {
  const [intent] = await tx
    .select()
    .from(intents)
    .where(and(eq(intents.subjectId, subjectId), eq(intents.status, "open")))
    .for("update");
  return intent ?? null;
}

/** The keys that a stored answer is sealed with; null when the request had no idempotency key. */
export async function cipherFor(
  vault: { keys(clientId: string, purpose: "idempotency"): Promise<Cipher> },
  clientId: string,
  idempotencyKey: string | null,
): Promise<Cipher | null> {
  return idempotencyKey ? await vault.keys(clientId, "idempotency") : null;
}

/** Marks that the provider was asked and we do not know: unless somebody knows by now, and then it is that. */
export async function markIntentUnknown(
  db: Database,
  entry: TenantSession,
  outbound: AnyProviderCommand,
  { intentId, subjectId }: { intentId: string; subjectId: string },
  ring: Cipher | null,
): Promise<Answer> {
  return db.asClient(entry, async (tx) => {
    const open = await openIntentOf(tx, subjectId);
    if (open?.id !== intentId) return settledBefore(tx, outbound, intentId, null, ring);
    return loseOpen(tx, outbound, subjectId);
  });
}

/** The answer under the key of a request that has died: what it would have been told at its deadline. null: it is settled. */
export async function answerForDead(tx: Tx, outbound: AnyProviderCommand, intentId: string): Promise<Answer | null> {
  const [intent] = await tx
    .select()
    .from(intents)
    .where(and(eq(intents.id, intentId), eq(intents.status, "open")))
    .for("update");
  return intent ? loseOpen(tx, outbound, intent.subjectId) : null;
}

async function loseOpen(tx: Tx, outbound: AnyProviderCommand, subjectId: string): Promise<Answer> {
  await outbound.onUnknown(tx, subjectId);
  return { status: 202, data: await outbound.read(tx, subjectId) };
}

/** What the first settlement answered: word for word where it was kept, else as things stand. */
async function settledBefore(
  tx: Tx,
  outbound: AnyProviderCommand,
  intentId: string,
  settlement: Settlement<never> | null,
  ring: Cipher | null,
): Promise<Answer> {
  const [intent] = await tx.select().from(intents).where(eq(intents.id, intentId));
  if (!intent) throw new Error(`No intent ${intentId}.`);
  const { subjectId, outcome } = intent;
  const claim = claimOf(intent);
  if (settlement?.outcome === "accepted") {
    await removeStrays(tx, outbound, intent, [settlement.got, ...(settlement.strays ?? [])]);
  }
  const kept = claim && ring ? await storedAnswer(tx, claim, ring) : null;
  if (kept) return kept;
  if (outcome === "accepted") return { status: outbound.status, data: await outbound.read(tx, subjectId) };
  return failureAnswer({ outcome: outcome ?? "absent", message: "The voice provider did not do it." }, subjectId);
}

async function answerOf(
  tx: Tx,
  outbound: AnyProviderCommand,
  intent: IntentRow,
  settlement: Settlement<never>,
): Promise<Answer> {
  if (settlement.outcome !== "accepted") return failureAnswer(settlement, intent.subjectId);
  return { status: outbound.status, data: await outbound.read(tx, intent.subjectId) };
}

function failureAnswer(
  { outcome, message }: { outcome: IntentRow["outcome"]; message: string },
  subjectId: string,
): Answer {
  const fault: ErrorCode = outcome === "refused" ? "provider_rejected" : "provider_unavailable";
  return { status: outcome === "refused" ? 422 : 503, fault, message, details: [{ path: "id", message: subjectId }] };
}
