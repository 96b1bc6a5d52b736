import { and, desc, eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { deliveries } from "../../../db/schema/events.ts";
import { ago, countLimit, isDead, maxCount } from "./conditions.ts";

type Window = { minutes: number; limit: number };

/** The number of dead deliveries by client, highest first. */
export async function countDeadByClient(tx: Tx, { minutes, limit }: Window) {
  const rows = await tx.execute<{ id: string; name: string; n: number; last: string }>(sql`
    select c.id, c.name, dead.n, dead.last from clients c cross join lateral (
      select count(*)::int as n, max(finished_at) as last from (
        select d.finished_at from deliveries d where d.client_id = c.id and ${isDead} and d.finished_at >= ${ago(minutes)}
        order by d.finished_at desc limit ${countLimit}) every
    ) dead
    where dead.n > 0 order by dead.n desc, c.id limit ${limit}::int`);
  return rows.map(({ id, name, n, last }) => {
    return { clientId: id, name, dead: Math.min(n, maxCount), capped: n > maxCount, last: new Date(last) };
  });
}

/** The dead deliveries of one client, latest first. */
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
