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

/** What stands where something of an erased call stood. */
const tombstone = "Erased with its call.";
/** Longer than a delivery takes, or a message of a provider on its way: what they leave behind goes with a second round. */
const lateSeconds = 900;

/**
 * What was said of a call is in more places than its row: events, what receivers answered, what providers sent, answers that
 * are kept for idempotency keys, errors of jobs. All of that goes with it, in a job of its own, as soon as it is erased.
 */
export async function eraseCopies(tx: Tx, callId: string) {
  await enqueue(tx, "calls.eraseCopies", { callId }, { key: callId });
  await enqueue(tx, "calls.eraseCopies", { callId }, { key: `${callId}:late`, delaySeconds: lateSeconds });
}

/** As the client sees it: answers to its requests, and why steps failed. The ring opens answers. */
export async function eraseOwnCopies(tx: Tx, { id }: CallRow, ring: Cipher) {
  const shown = await getCall(tx, id);
  for (const { principal, key, answer } of await answersAbout(tx, id, ring)) {
    const kept = "error" in answer ? { ...answer, message: tombstone } : { ...answer, data: shown };
    await replaceAnswer(tx, { principal, key }, ring, kept);
  }
  const runs = tx.select({ id: workflowRuns.id }).from(workflowRuns).where(eq(workflowRuns.subjectId, id));
  await tx
    .update(workflowSteps)
    .set({ error: tombstone })
    .where(and(inArray(workflowSteps.runId, runs), isNotNull(workflowSteps.error)));
}

/**
 * What stands over all clients, in a transaction of the house. Of a call that is erased whole, events lose who it was and
 * what it was about; where only its transcript is gone, they lose what was drawn from it. A message that has not been applied
 * yet loses its body when it is (see `markReceived`): it may be the bill.
 */
export async function eraseSystemCopies(tx: Tx, call: CallRow) {
  const { clientId, id, to, from, failureReason, providerCallId, erasedAt } = call;
  const since = toIso(new Date(call.createdAt.getTime() - 3_600_000));
  const until = toIso(new Date((call.endedAt ?? call.updatedAt).getTime() + 86_400_000));
  const left = erasedAt ? { to, from, metadata: {}, output: null } : { output: null };
  await tx.execute(sql`
    update events set data = data || ${JSON.stringify(left)}::text::jsonb
      || case when ${erasedAt !== null}::boolean and data ->> 'failureReason' is not null
        then jsonb_build_object('failureReason', ${failureReason}::text) else '{}' end
    where client_id = ${clientId} and subject_id = ${id} and subject_type = 'call' and created_at >= ${since}::timestamptz`);
  await tx.execute(sql`
    update delivery_attempts a set response = null
    from deliveries d join events e on e.client_id = d.client_id and e.id = d.event_id
    where e.client_id = ${clientId} and e.subject_id = ${id} and e.created_at >= ${since}::timestamptz
      and a.client_id = d.client_id and a.delivery_id = d.id and a.created_at >= ${since}::timestamptz
      and a.response is not null`);
  await tx.execute(sql`
    update ingress_events set body = '', note = case when status = 'failed' then ${tombstone} else note end
    where subject_id = ${id} and client_id = ${clientId} and status <> 'received' and received_at >= ${since}::timestamptz
      and body <> ''`);
  // Those of which nobody could say whose they are name the call all the same: by our id, or by the provider's.
  await tx.execute(sql`
    update ingress_events set body = '', note = case when status = 'failed' then ${tombstone} else note end
    where subject_id is null and status in ('failed', 'ignored') and body <> ''
      and received_at between ${since}::timestamptz and ${until}::timestamptz
      and (headers ->> 'call-in-address' = ${id}
        or position(convert_to(${id}, 'UTF8') in body) > 0
        or position(convert_to(${Buffer.from(id).toString("base64")}, 'UTF8') in body) > 0
        or position(convert_to(${providerCallId ?? id}, 'UTF8') in body) > 0)`);
  await tx.execute(sql`
    update dead_jobs set error = ${tombstone}
    where client_id = ${clientId} and created_at >= ${since}::timestamptz and payload ->> 'callId' = ${id}`);
}
