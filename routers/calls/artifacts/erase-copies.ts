import { and, eq, inArray, isNotNull, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import type { calls } from "../../../db/schema/calls.ts";
import { workflowRuns, workflowSteps } from "../../../db/schema/workflows.ts";
import { toIso } from "../../core/fields.ts";
import { answersAbout, replaceAnswer } from "../../core/idempotency.ts";
import type { Cipher } from "../../ports/vault.ts";
import { getCall } from "../service.ts";

type CallRow = typeof calls.$inferSelect;

/** Replaces the texts of an erased call. */
const tombstone = "Erased with its call.";
/** Longer than a delivery or a provider webhook takes. A second run erases the copies that these leave. */
const lateSeconds = 900;

/**
 * Enqueues the erasure of all copies of a call's content: events, responses of webhook receivers, provider webhooks, stored
 * idempotent responses, errors of jobs.
 */
export async function eraseCopies(tx: Tx, callId: string) {
  await enqueue(tx, "calls.eraseCopies", { callId }, { key: callId });
  await enqueue(tx, "calls.eraseCopies", { callId }, { key: `${callId}:late`, delaySeconds: lateSeconds });
}

/** Erases the copies in the client's own tables: stored responses, which the cipher opens, and errors of workflow steps. */
export async function eraseOwnCopies(tx: Tx, { id }: CallRow, cipher: Cipher) {
  const call = await getCall(tx, id);
  for (const { principal, key, answer } of await answersAbout(tx, id, cipher)) {
    const erased = "fault" in answer ? { ...answer, message: tombstone } : { ...answer, data: call };
    await replaceAnswer(tx, { principal, key }, cipher, erased);
  }
  const runs = tx.select({ id: workflowRuns.id }).from(workflowRuns).where(eq(workflowRuns.subjectId, id));
  await tx
    .update(workflowSteps)
    .set({ error: tombstone })
    .where(and(inArray(workflowSteps.runId, runs), isNotNull(workflowSteps.error)));
}

/**
 * Erases the copies in tables across clients, in a system transaction. If the whole call is erased, its events lose parties,
 * metadata and output; if only the transcript is, they lose the output. A provider webhook that is not applied yet loses its
 * body when it is applied (see `markMessages`), since it may contain the bill.
 */
export async function eraseSystemCopies(tx: Tx, call: CallRow) {
  const { clientId, id, to, from, failureReason, providerCallId, erasedAt } = call;
  const earliest = toIso(new Date(call.createdAt.getTime() - 3_600_000));
  const latest = toIso(new Date((call.endedAt ?? call.updatedAt).getTime() + 86_400_000));
  const remaining = erasedAt ? { to, from, metadata: {}, output: null } : { output: null };
  await tx.execute(sql`
    update events set data = data || ${JSON.stringify(remaining)}::text::jsonb
      || case when ${erasedAt !== null}::boolean and data ->> 'failureReason' is not null
        then jsonb_build_object('failureReason', ${failureReason}::text) else '{}' end
    where client_id = ${clientId} and subject_id = ${id} and subject_type = 'call' and created_at >= ${earliest}::timestamptz`);
  await tx.execute(sql`
    update delivery_attempts a set response = null
    from deliveries d join events e on e.client_id = d.client_id and e.id = d.event_id
    where e.client_id = ${clientId} and e.subject_id = ${id} and e.created_at >= ${earliest}::timestamptz
      and a.client_id = d.client_id and a.delivery_id = d.id and a.created_at >= ${earliest}::timestamptz
      and a.response is not null`);
  await tx.execute(sql`
    update ingress_events set body = '', note = case when status = 'failed' then ${tombstone} else note end
    where subject_id = ${id} and client_id = ${clientId} and status <> 'received' and received_at >= ${earliest}::timestamptz
      and body <> ''`);
  // Webhooks without a known client may still contain the call's id, ours or the provider's.
  await tx.execute(sql`
    update ingress_events set body = '', note = case when status = 'failed' then ${tombstone} else note end
    where subject_id is null and status in ('failed', 'ignored') and body <> ''
      and received_at between ${earliest}::timestamptz and ${latest}::timestamptz
      and (headers ->> 'call-in-address' = ${id}
        or position(convert_to(${id}, 'UTF8') in body) > 0
        or position(convert_to(${Buffer.from(id).toString("base64")}, 'UTF8') in body) > 0
        or position(convert_to(${providerCallId ?? id}, 'UTF8') in body) > 0)`);
  await tx.execute(sql`
    update dead_jobs set error = ${tombstone}
    where client_id = ${clientId} and created_at >= ${earliest}::timestamptz and payload ->> 'callId' = ${id}`);
}
