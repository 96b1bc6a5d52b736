import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { newId } from "../../../db/ids.ts";
import { disableAfter } from "../../core/webhook-error-codes.ts";
import { inlined } from "./conditions.ts";
import { slotSharing } from "./slot-limits.ts";
import { tuneForKeyLookups } from "./slots.ts";

/** A reserved slot. Its claim must still be current when the result is written. */
export type Reservation = { clientId: string; deliveryId: string; endpointId: string; claim: number };

export type Attempt = { status: number | null; error: string | null; latencyMs: number; response: string | null };

export type AttemptResult = {
  /** null: nothing was sent, and no attempt was used. */
  attempt: Attempt | null;
  outcome:
    | { status: "delivered" }
    | { status: "dead"; error?: string }
    | { status: "pending"; inSeconds: number; error?: string };
};

/**
 * Records many results in one commit. A result whose claim is no longer current is dropped; returns true for each that was
 * written. Updates the health of the endpoints, and queues the job that disables an endpoint that is gone or has failed for
 * too long. Endpoints are locked before deliveries, both in order, which prevents deadlocks.
 */
export async function recordAttempts(tx: Tx, results: readonly (Reservation & AttemptResult)[]): Promise<boolean[]> {
  const [, , rows] = await Promise.all([
    tuneForKeyLookups(tx),
    lockHealth(tx, results),
    tx.execute<{ n: number }>(recordStatement(results)),
  ]);
  const written = new Set(rows.map(({ n }) => n));
  return results.map((_, n) => written.has(n));
}

/** Locks the endpoints whose health will change: few or none while deliveries succeed. */
function lockHealth(tx: Tx, results: readonly (Reservation & AttemptResult)[]) {
  const given = results.flatMap(({ clientId, endpointId, attempt, outcome }) =>
    attempt
      ? [
          {
            client_id: clientId,
            endpoint_id: endpointId,
            failed: outcome.status !== "delivered",
            slow: attempt.latencyMs >= slotSharing.slowFromMs,
          },
        ]
      : [],
  );
  return tx.execute(sql`
    select from (
      select client_id, endpoint_id, bool_or(failed) as failed, bool_or(slow) as slow
      from json_to_recordset(${JSON.stringify(given)}::text::json)
        as g(client_id text, endpoint_id text, failed boolean, slow boolean)
      group by 1, 2 order by 1, 2
    ) g cross join lateral (
      select e.id from webhook_endpoints e
      where e.client_id = g.client_id and e.id = g.endpoint_id and (g.failed or g.slow or ${isStale})
      for no key update
    ) e`);
}

/** `last_success_at` must be written: it is over a minute old, or failures preceded this success. */
const isStale = sql`(e.consecutive_failures > 0 or e.last_success_at is null or e.last_success_at < clock_timestamp() - interval '1 minute')`;

function recordStatement(results: readonly (Reservation & AttemptResult)[]) {
  const given = results.map(({ clientId, deliveryId, claim, attempt, outcome }, n) => ({
    ...{ n, client_id: clientId, id: deliveryId, claim, status: outcome.status },
    attempt_id: attempt ? newId("attempt") : null,
    in_seconds: outcome.status === "pending" ? outcome.inSeconds : null,
    reason: ("error" in outcome ? outcome.error : undefined) ?? attempt?.error ?? null,
    ...{ http_status: attempt?.status ?? null, error: attempt?.error ?? null },
    ...{ latency_ms: attempt?.latencyMs ?? 0, response: attempt?.response ?? null },
  }));
  return sql`
    with given as materialized (
      select * from json_to_recordset(${JSON.stringify(given)}::text::json) as g(n int, client_id text, id text,
        claim bigint, status text, attempt_id text, in_seconds float8, reason text, http_status int, error text, latency_ms int,
        response text) order by client_id, id -- the order of the locks
    ), recorded as (
      update deliveries d set
        status = g.status, attempts = d.attempts + (g.attempt_id is not null)::int,
        last_status = case when g.attempt_id is not null then g.http_status else d.last_status end,
        last_error = g.reason, admitted_until = null,
        next_attempt_at = clock_timestamp() + make_interval(secs => g.in_seconds),
        finished_at = case when g.status <> 'pending' then clock_timestamp() end
      from given g where d.client_id = g.client_id and d.id = g.id and d.claim = g.claim and d.status = 'pending'
      returning g.*, d.endpoint_id, d.attempts as made
    ), kept as (
      insert into delivery_attempts (client_id, id, delivery_id, endpoint_id, attempt, status, error, latency_ms, response)
      select client_id, attempt_id, id, endpoint_id, made, http_status, error, latency_ms, response
      from recorded where attempt_id is not null
    ), judged as materialized ( -- by endpoint; failures: those after its last success
      select client_id, endpoint_id, bool_or(status = 'delivered') as succeeded, bool_or(status <> 'delivered') as failed,
        count(*) filter (where status <> 'delivered' and n > coalesce(last_success, -1)) as failures,
        bool_or(reason = 'gone') as gone, bool_or(latency_ms >= ${inlined(slotSharing.slowFromMs)}) as slow
      from (select r.*, max(n) filter (where status = 'delivered') over (partition by client_id, endpoint_id) as last_success
            from recorded r where attempt_id is not null) r
      group by 1, 2
    ), health as (
      update webhook_endpoints e set
        consecutive_failures = case when j.succeeded then 0 else e.consecutive_failures end + j.failures,
        failing_since = case when j.failures = 0 then null when j.succeeded then clock_timestamp()
          else coalesce(e.failing_since, clock_timestamp()) end,
        last_success_at = case when j.succeeded then clock_timestamp() else e.last_success_at end,
        last_failure_at = case when j.failed then clock_timestamp() else e.last_failure_at end,
        slow_at = case when j.slow then clock_timestamp() else e.slow_at end
      from judged j where e.client_id = j.client_id and e.id = j.endpoint_id and (j.failed or j.slow or ${isStale})
      returning e.client_id, e.id, e.status, e.deleted_at, case when j.gone then 'gone'
        when e.consecutive_failures >= ${inlined(disableAfter.consecutiveFailures)} then 'failures'
        when e.failing_since < clock_timestamp() - make_interval(days => ${inlined(disableAfter.days)}) then 'days' end as why
    ), disabling as materialized (
      select case when count(*) > 0 then graphile_worker.patchbay_enqueue_all('webhooks.disable', array_agg(client_id),
        array_agg(json_build_object('endpointId', id, 'why', why)), array_agg(null::timestamptz)) end
      from health where why is not null and status = 'enabled' and deleted_at is null
    )
    select recorded.n from recorded cross join disabling`;
}
