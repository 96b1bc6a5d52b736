import { count, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { deliveryPauses } from "../../../db/schema/events.ts";
import { readBacklog } from "./backlog.ts";
import { ago, atMost, attemptedSince, countedAtMost, isDead, isFailure } from "./conditions.ts";
import type { Cause, DispatchOverview } from "./schema.ts";

const attemptsAtMost = 1_000_000;
/** What the endpoints' owners themselves have switched off says this, and is no failure. */
const byRequest = "Disabled by request.";

/** How deliveries go, over all clients. */
export async function lookOver(tx: Tx, now: Date): Promise<DispatchOverview> {
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
  const of = (wanted: Cause) => {
    const { cause: _, ...row } = causes.find(({ cause }) => cause === wanted)!;
    return row;
  };
  const [waiting, paused, inFlight] = [of("waiting"), of("paused"), of("inFlight")];
  return {
    oldestDueSeconds: Math.max(...[waiting, paused, inFlight].map((row) => row.oldestDueSeconds)),
    waiting,
    paused,
    inFlight,
    suspended: of("suspended"),
    oldest,
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
        limit ${attemptsAtMost}::int
      ) a limit ${attemptsAtMost}::int
    ) every`);
  return { ...row!, capped: row!.attempts >= attemptsAtMost };
}

async function countDead(tx: Tx, minutes: number) {
  const [row] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from (
      select from clients c cross join lateral (
        select from deliveries d where d.client_id = c.id and ${isDead} and d.finished_at >= ${ago(minutes)}
        order by d.finished_at limit ${atMost}
      ) d limit ${atMost}
    ) every`);
  return { last24Hours: Math.min(row!.n, countedAtMost), capped: row!.n > countedAtMost };
}

async function countDisabled(tx: Tx, minutes: number): Promise<number> {
  const [row] = await tx.execute<{ n: number }>(sql`
    select count(*)::int as n from webhook_endpoints e
    where e.deleted_at is null and e.status = 'disabled' and e.disabled_at >= ${ago(minutes)}
      and e.disabled_reason is distinct from ${byRequest}::text`);
  return row!.n;
}
