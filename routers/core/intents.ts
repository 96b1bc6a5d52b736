import { and, eq, sql } from "drizzle-orm";
import { type Database, type TenantSession, type Tx, withCommit } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { prepared } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { intents } from "../../db/schema/agents.ts";
import { statement } from "../../db/statement.ts";
import { dbNow } from "../../db/time.ts";
import type { Cipher } from "../ports/vault.ts";
import type { Settlement } from "./attempt-provider-command.ts";
import { recordAudit } from "./audit.ts";
import { ApiError, type ErrorCode } from "./errors.ts";
import { type Answer, type Claim, releaseKey, reserveKey, storedResponse, storeReserved } from "./idempotency.ts";
import type { AnyProviderCommand, Failure, ProviderCommand } from "./provider-command.ts";

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
export async function openIntent<I, A, G, O, F, L>(
  tx: Tx,
  command: ProviderCommand<I, A, G, O, F, L>,
  input: I,
  clientId: string,
  { principal, claim, requestId, auditInput, found }: Opening & { found?: F },
) {
  const read = found ?? (command.readFirst?.(tx, input) as F);
  const requester = { clientId, actor: principal };
  const { subjectId, providerAccountId, request, writing } = await command.prepare(tx, input, requester, read);
  const id = newId("intent");
  const claimed = [claim?.key ?? null, claim?.principal ?? null];
  const audited = [requestId, JSON.stringify(auditInput ?? {})];
  const [written] = await Promise.all([
    insertIntent(tx, [id, command.kind, subjectId, providerAccountId, principal, ...claimed, ...audited]),
    writing,
    claim && reserveKey(tx, claim, id),
    enqueue(tx, "intents.resolve", { intentId: id }, { key: id, delaySeconds: recoverAfterSeconds }),
  ]);
  if (written.length === 0) throw new ApiError(command.busyCode, undefined, { retryAfterSeconds: 1 });
  return { intentId: id, subjectId, providerAccountId, request };
}

const insertIntent = statement<{ id: string }>(`
  insert into intents (id, kind, subject_id, provider_account_id, principal, idempotency_key, idempotency_owner, request_id,
    audit_input, deadline_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb,
    clock_timestamp() + make_interval(secs => ${providerDeadlineSeconds}))
  on conflict do nothing returning id`);

/**
 * Step 3, in a separate transaction: called by the request, by the recovery job and by provider webhooks. The first caller
 * writes the outcome, the events, the audit row and the stored response. Later callers get the same response; a resource
 * other than the accepted one is an orphan.
 */
export async function settleIntent(
  tx: Tx,
  command: AnyProviderCommand,
  { intentId, subjectId }: { intentId: string; subjectId: string },
  settlement: Settlement<never>,
  cipher: Cipher | null,
): Promise<Answer> {
  const isAccepted = settlement.outcome === "accepted";
  const [[intent], locked] = await Promise.all([
    settleOpen(tx, { intentId, outcome: settlement.outcome, isLookedUp: settlement.lookedUp === true }),
    isAccepted ? command.lockFirst?.(tx, subjectId) : undefined,
  ]);
  if (!intent) return settledBefore(tx, command, intentId, settlement, cipher);
  const response = isAccepted
    ? await accept(tx, command, intent, settlement, locked as never)
    : await fail(tx, command, subjectId, settlement);
  const { principal: actor, requestId, auditInput: input } = intent;
  withCommit(tx, () => recordAudit(tx, { actor, action: command.kind, subjectId, input, requestId }));
  const claim = claimOf(intent);
  if (claim && !isFinal(settlement)) await releaseKey(tx, claim, intent.id);
  else if (claim && cipher) withCommit(tx, () => storeReserved(tx, claim, cipher, response));
  return response;
}

/** `isLookedUp`: a lookup found nothing, whatever the outcome, so the recovery job looks it up again. */
const settleOpen = prepared((db) => {
  const isLookedUp = sql`${sql.placeholder("isLookedUp")}::boolean`;
  return db
    .update(intents)
    .set({
      status: "settled",
      outcome: sql`${sql.placeholder("outcome")}`,
      settledAt: dbNow(),
      absences: sql`case when ${isLookedUp} then 1 else ${intents.absences} end`,
      absentAt: sql`case when ${isLookedUp} then ${dbNow()} else ${intents.absentAt} end`,
    })
    .where(and(eq(intents.id, sql.placeholder("intentId")), eq(intents.status, "open")))
    .returning();
});

type Accepted = Extract<Settlement<never>, { outcome: "accepted" }>;

async function accept(
  tx: Tx,
  command: AnyProviderCommand,
  intent: IntentRow,
  { resource, orphans = [] }: Accepted,
  locked: never,
): Promise<Answer> {
  const output = await command.onAccepted(tx, intent.subjectId, resource, locked);
  await removeOrphans(tx, command, intent, orphans);
  return { status: command.status, data: output ?? (await command.read(tx, intent.subjectId)) };
}

async function fail(tx: Tx, command: AnyProviderCommand, subjectId: string, failure: Failure): Promise<Answer> {
  await command.onFailed(tx, subjectId, failure);
  return failureResponse(failure, subjectId);
}

/** The idempotency key of the request that opened the intent; null without one. */
function claimOf({ principal, idempotencyOwner, idempotencyKey: key }: IntentRow) {
  return key === null ? null : { principal: idempotencyOwner ?? principal, key };
}

/** Only success and a refusal of the request itself are stored. After any other outcome the same key runs again. */
const isFinal = (settlement: Settlement<never>) =>
  settlement.outcome === "accepted" || (settlement.outcome === "refused" && !settlement.passing);

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
