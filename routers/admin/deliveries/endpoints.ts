import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { deliveryPauses } from "../../../db/schema/events.ts";
import { toIsoOrNull } from "../../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import { type DisableCode, disableReasons } from "../../core/webhook-error-codes.ts";
import { isInFlight, isWaiting } from "../../webhooks/deliveries/conditions.ts";
import { ageInSeconds, countLimit, isFailing, maxCount } from "./conditions.ts";
import type { DeliveryEndpoint, ListDeliveryEndpoints } from "./schema.ts";

type EndpointRow = {
  id: string;
  client_id: string;
  url: string;
  status: DeliveryEndpoint["status"];
  disabled_code: DisableCode | null;
  disabled_at: string | null;
  paused: boolean;
  consecutive_failures: number;
  failing_since: string | null;
  last_success_at: string | null;
  rate_per_second: number | null;
  waiting: number;
  due: number;
  in_flight: number;
  oldest_due: number;
};

const isPaused = sql`exists (select from delivery_pauses p where p.scope in ('all', e.client_id, e.id))`;

/** The few paused scopes are inlined. A pause of `all` matches every endpoint. */
async function isInPausedScope(tx: Tx): Promise<SQL> {
  const rows = await tx.select({ scope: deliveryPauses.scope }).from(deliveryPauses);
  const scopes = rows.map(({ scope }) => scope);
  if (scopes.includes("all")) return sql`true`;
  const list = sql`string_to_array(${scopes.join(",")}::text, ',')`;
  return sql`(e.id = any(${list}) or e.client_id = any(${list}))`;
}

const hasHealth = (tx: Tx, health: NonNullable<ListDeliveryEndpoints["health"]>): SQL | Promise<SQL> => {
  if (health === "paused") return isInPausedScope(tx);
  return health === "failing" ? isFailing : sql`e.status = 'disabled'`;
};

/** Ordered by client, then newest first. */
export async function listDeliveryEndpoints(
  tx: Tx,
  { limit, cursor, clientId, health }: ListDeliveryEndpoints,
  key: ListKey,
) {
  const [beforeClient, beforeId] = readCursor(key, cursor)?.split(" ") ?? [];
  const matchesHealth = health && (await hasHealth(tx, health));
  const rows = await tx.execute<EndpointRow>(sql`
    with page as materialized (
      select e.*, ${isPaused} as paused from webhook_endpoints e
      where e.deleted_at is null
        ${beforeClient ? sql`and (e.client_id, e.id) < (${beforeClient}, ${beforeId})` : sql``}
        ${clientId ? sql`and e.client_id = ${clientId}` : sql``}
        ${matchesHealth ? sql`and ${matchesHealth}` : sql``}
      order by e.client_id desc, e.id desc limit ${limit + 1}::int
    )
    select page.id, page.client_id, page.url, page.status, page.disabled_code, page.disabled_at, page.paused,
      page.consecutive_failures, page.failing_since, page.last_success_at, page.rate_per_second,
      waiting.n as waiting, due.n + flying.due as due, flying.n as in_flight,
      ${ageInSeconds(sql`least(due.oldest, flying.oldest)`)} as oldest_due
    from page
    cross join lateral (
      select count(*)::int as n from (
        select from deliveries d where d.client_id = page.client_id and d.endpoint_id = page.id and ${isWaiting}
        order by d.next_attempt_at limit ${countLimit}) every
    ) waiting
    cross join lateral (
      select count(*)::int as n, min(next_attempt_at) as oldest from (
        select d.next_attempt_at from deliveries d
        where d.client_id = page.client_id and d.endpoint_id = page.id and ${isWaiting} and d.next_attempt_at <= now()
        order by d.next_attempt_at limit ${countLimit}) every
    ) due
    cross join lateral (
      select count(*)::int as n, count(*) filter (where d.next_attempt_at <= now())::int as due,
        min(d.next_attempt_at) filter (where d.next_attempt_at <= now()) as oldest
      from deliveries d where d.client_id = page.client_id and d.endpoint_id = page.id and ${isInFlight}
    ) flying
    order by page.client_id desc, page.id desc`);
  return toPage(key, rows.map(toDeliveryEndpoint), limit, (row) => `${row.clientId} ${row.id}`);
}

const textToIso = (text: string | null) => toIsoOrNull(text === null ? null : new Date(text));

function toDeliveryEndpoint(row: EndpointRow): DeliveryEndpoint {
  return {
    id: row.id,
    clientId: row.client_id,
    host: new URL(row.url).host,
    status: row.status,
    disabledReason: row.disabled_code && disableReasons[row.disabled_code],
    disabledCode: row.disabled_code,
    disabledAt: textToIso(row.disabled_at),
    paused: row.paused,
    consecutiveFailures: row.consecutive_failures,
    failingSince: textToIso(row.failing_since),
    lastSuccessAt: textToIso(row.last_success_at),
    pending: row.waiting + row.in_flight,
    due: row.due,
    inFlight: row.in_flight,
    oldestDueSeconds: row.oldest_due,
    capped: row.waiting > maxCount,
    ratePerSecond: row.rate_per_second,
  };
}
