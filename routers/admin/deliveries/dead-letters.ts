import { and, desc, eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { deliveries } from "../../../db/schema/events.ts";
import { ago, atMost, countedAtMost, isDead } from "./conditions.ts";

type Window = { minutes: number; limit: number };

/** How many deliveries were given up, by client: those with the most first. */
export async function countDeadByClient(tx: Tx, { minutes, limit }: Window) {
  const rows = await tx.execute<{ id: string; name: string; n: number; last: string }>(sql`
    select c.id, c.name, dead.n, dead.last from clients c cross join lateral (
      select count(*)::int as n, max(finished_at) as last from (
        select d.finished_at from deliveries d where d.client_id = c.id and ${isDead} and d.finished_at >= ${ago(minutes)}
        order by d.finished_at desc limit ${atMost}) every
    ) dead
    where dead.n > 0 order by dead.n desc, c.id limit ${limit}::int`);
  return rows.map(({ id, name, n, last }) => {
    return { clientId: id, name, dead: Math.min(n, countedAtMost), capped: n > countedAtMost, last: new Date(last) };
  });
}

/** What was given up for one client, the latest first. */
export function listDead(tx: Tx, clientId: string, { minutes, limit }: Window) {
  const { id, endpointId, eventType, attempts, lastStatus, lastError, finishedAt } = deliveries;
  return tx
    .select({ id, endpointId, eventType, attempts, lastStatus, lastError, finishedAt })
    .from(deliveries)
    .where(
      and(eq(deliveries.clientId, clientId), sql`${deliveries.status} = 'dead'`, sql`${finishedAt} >= ${ago(minutes)}`),
    )
    .orderBy(desc(finishedAt))
    .limit(limit);
}
