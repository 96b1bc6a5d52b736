import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { platformClientId } from "../../core/authorize.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { isInFlight, isWaiting } from "../../webhooks/deliveries/conditions.ts";
import { ageInSeconds, ago, attemptedSince, countLimit, isDead, isFailing, isFailure, maxCount } from "./conditions.ts";
import type { DeliveryClient, ListDeliveryClients } from "./schema.ts";

type ClientRow = Omit<DeliveryClient, "clientId" | "inFlight" | "oldestDueSeconds" | "endpoints" | "capped"> & {
  id: string;
  in_flight: number;
  oldest_due: number;
  enabled: number;
  failing: number;
  disabled: number;
};

export async function listDeliveryClients(
  tx: Tx,
  { limit, cursor, failing, windowMinutes }: ListDeliveryClients,
  key: ListKey,
  now: Date,
) {
  const before = readCursor(key, cursor);
  const fails = sql`exists (select from webhook_endpoints e where e.client_id = c.id and ${isFailing})`;
  const rows = await tx.execute<ClientRow>(sql`
    with page as materialized (
      select c.id, c.name, c.status from clients c
      where c.id <> ${platformClientId} ${before === null ? sql`` : sql`and c.id < ${before}`}
        ${failing === undefined ? sql`` : failing ? sql`and ${fails}` : sql`and not ${fails}`}
      order by c.id desc limit ${limit + 1}::int
    )
    select page.id, page.name, page.status, waiting.n + flying.n as pending, due.n + flying.due as due,
      flying.n as in_flight, ${ageInSeconds(sql`least(due.oldest, flying.oldest)`)} as oldest_due,
      tried.attempts, tried.failures, dead.n as dead, endpoints.enabled, endpoints.failing, endpoints.disabled
    from page
    cross join lateral (
      select count(*)::int as n from (
        select from deliveries d where d.client_id = page.id and ${isWaiting}
        order by d.endpoint_id, d.next_attempt_at limit ${countLimit}) every
    ) waiting
    cross join lateral (
      select count(*)::int as n, min(next_attempt_at) as oldest from (
        select d.next_attempt_at from webhook_endpoints e cross join lateral (
          select d.next_attempt_at from deliveries d
          where d.client_id = e.client_id and d.endpoint_id = e.id and ${isWaiting} and d.next_attempt_at <= now()
          order by d.next_attempt_at limit ${countLimit}
        ) d where e.client_id = page.id limit ${countLimit}) every
    ) due
    cross join lateral (
      select count(*)::int as n, count(*) filter (where d.next_attempt_at <= now())::int as due,
        min(d.next_attempt_at) filter (where d.next_attempt_at <= now()) as oldest
      from deliveries d where d.client_id = page.id and ${isInFlight}
    ) flying
    cross join lateral (
      select count(*)::int as attempts, count(*) filter (where failed)::int as failures from (
        select ${isFailure} as failed from delivery_attempts a
        where a.client_id = page.id and ${attemptedSince(windowMinutes, now)}
        order by a.id desc limit ${countLimit}) every
    ) tried
    cross join lateral (
      select count(*)::int as n from (
        select from deliveries d where d.client_id = page.id and ${isDead} and d.finished_at >= ${ago(windowMinutes)}
        order by d.finished_at desc limit ${countLimit}) every
    ) dead
    cross join lateral (
      select count(*) filter (where e.status = 'enabled')::int as enabled, count(*) filter (where ${isFailing})::int as failing,
        count(*) filter (where e.status = 'disabled')::int as disabled
      from webhook_endpoints e where e.client_id = page.id and e.deleted_at is null
    ) endpoints
    order by page.id desc`);
  return toPage(key, rows.map(toDeliveryClient), limit, ({ clientId }) => clientId);
}

function toDeliveryClient(row: ClientRow): DeliveryClient {
  const { id, name, status, pending, due, attempts, failures, dead, enabled, failing, disabled } = row;
  const counted = { pending, due, attempts, failures, dead };
  return {
    clientId: id,
    name,
    status,
    ...counted,
    inFlight: row.in_flight,
    oldestDueSeconds: row.oldest_due,
    capped: Object.values(counted).some((n) => n > maxCount),
    endpoints: { enabled, failing, disabled },
  };
}
