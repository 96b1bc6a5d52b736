import { count, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { deliveryPauses } from "../../../db/schema/events.ts";
import { readBacklog } from "./backlog.ts";
import { ago, attemptedSince, countLimit, isDead, isFailure, maxCount } from "./conditions.ts";
import type { Cause, DeliveryOverview } from "./schema.ts";

const maxAttempts = 1_000_000;

/** The state of deliveries across all clients. */
export async function getDeliveryOverview(tx: Tx, now: Date): Promise<DeliveryOverview> {
  const [{ causes, oldest }, lastFiveMinutes, lastHour, dead, disabled, [pauses], [queue]] = await Promise.all([
    readBacklog(tx),
    countAttempts(tx, 5, now),
    countAttempts(tx, 60, now),
    countDead(tx, 1440),
    countDisabled(tx, 7 * 1440),
    tx.select({ n: count() }).from(deliveryPauses),
    tx.execute<{ seconds: number }>(sql`
      select greatest(0, floor(graphile_worker.patchbay_oldest_due_seconds()))::int as seconds`),
  ]);
  const backlogOf = (wanted: Cause) => {
    const { cause: _, ...row } = causes.find(({ cause }) => cause === wanted)!;
    return row;
  };
  const [waiting, paused, inFlight] = [backlogOf("waiting"), backlogOf("paused"), backlogOf("in_flight")];
  return {
    oldestDueSeconds: Math.max(...[waiting, paused, inFlight].map((row) => row.oldestDueSeconds)),
    waiting,
    paused,
    inFlight,
    suspended: backlogOf("suspended"),
    oldestEndpoints: oldest,
    lastFiveMinutes,
    lastHour,
    dead,
    endpointsDisabledLast7Days: disabled,
    pauses: pauses!.n,
    queueLagSeconds: queue!.seconds,
  };
}

async function countAttempts(tx: Tx, minutes: number, now: Date) {
  const [row] = await tx.execute<{ attempts: number; failures: number }>(sql`
    select count(*)::int as attempts, count(*) filter (where failed)::int as failures from (
      select a.failed from clients c cross join lateral (
        select ${isFailure} as failed from delivery_attempts a
        where a.client_id = c.id and ${attemptedSince(minutes, now)} order by a.id
        limit ${maxAttempts}::int
      ) a limit ${maxAttempts}::int
    ) every`);
  return { ...row!, capped: row!.attempts >= maxAttempts };
}

async function countDead(tx: Tx, minutes: number) {
  const [row] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from (
      select from clients c cross join lateral (
        select from deliveries d where d.client_id = c.id and ${isDead} and d.finished_at >= ${ago(minutes)}
        order by d.finished_at limit ${countLimit}
      ) d limit ${countLimit}
    ) every`);
  return { last24Hours: Math.min(row!.n, maxCount), capped: row!.n > maxCount };
}

/** Without endpoints that were disabled by request, which did not fail. */
async function countDisabled(tx: Tx, minutes: number): Promise<number> {
  const [row] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from webhook_endpoints e
    where e.deleted_at is null and e.status = 'disabled' and e.disabled_at >= ${ago(minutes)}
      and e.disabled_code is distinct from 'request'`);
  return row!.n;
}
