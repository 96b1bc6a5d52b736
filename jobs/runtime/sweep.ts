import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type ClientJobName, enqueueEach, type JobPayload } from "../../db/queue.ts";
import { eachOrApart, faultOf, type SystemWork } from "./set-apart.ts";

type Found<N extends ClientJobName> = { clientId: string; payload: JobPayload<N>; key: string };

/**
 * Takes what is due, over all clients, and queues a job for each, in one commit. If one of them cannot be queued, they are
 * taken first and then queued in halves: that one is set apart, and the others have their jobs.
 */
export async function sweepInto<N extends ClientJobName>(
  ctx: SystemWork,
  loop: string,
  job: N,
  take: (tx: Tx) => Promise<readonly Found<N>[]>,
): Promise<number> {
  const queue = (tx: Tx, found: readonly Found<N>[]) => enqueueEach(tx, job, found);
  try {
    return await ctx.asSystem(async (tx) => {
      const found = await take(tx);
      await queue(tx, found);
      return found.length;
    });
  } catch (error) {
    if (faultOf(error) === "ours") throw error;
    const rows = await ctx.asSystem(take);
    const subjectOf = ({ clientId, key }: Found<N>) => ({ id: key, clientId });
    const work = (some: readonly Found<N>[]) => ctx.asSystem((tx) => queue(tx, some));
    await eachOrApart(ctx, { loop, rows, subjectOf, work });
    return rows.length;
  }
}

/** No more rows that are due are looked at than this. */
const mostLookedAt = 100_000;

/**
 * The first of each client before the second of any: so one client's thousand rows hold up nobody else's one. `due` selects
 * `client_id`, `id` and `due_at`; the result is a subquery of the first two.
 */
export const roundRobin = (due: SQL, limit: number) => sql`
  (select client_id, id from (
    select client_id, id, due_at, row_number() over (partition by client_id order by due_at) as turn
    from (${due} limit ${sql.raw(String(mostLookedAt))}) looked
  ) ranked order by turn, due_at limit ${sql.raw(String(limit))})`;
