import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type ClientJobName, enqueueEach, type JobPayload } from "../../db/queue.ts";
import { causeKindOf, eachOrApart, type SystemWork } from "./set-apart.ts";

type Found<N extends ClientJobName> = { clientId: string; payload: JobPayload<N>; key: string };

/**
 * Takes what is due, over all clients, and queues a job for each, in one commit. If one of them cannot be queued, they are
 * taken first and then queued in halves: that one is set apart, and the others get their jobs.
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
    if (causeKindOf(error) === "ours") throw error;
    const rows = await ctx.asSystem(take);
    const subjectOf = ({ clientId, key }: Found<N>) => ({ id: key, clientId });
    const work = (some: readonly Found<N>[]) => ctx.asSystem((tx) => queue(tx, some));
    await eachOrApart(ctx, { loop, rows, subjectOf, work });
    return rows.length;
  }
}

/** At most so many due rows are read. */
const maxRowsRead = 100_000;

/**
 * The first row of each client before the second of any, so that a client with a thousand rows does not delay the others.
 * `due` selects `client_id`, `id` and `due_at`; the result is a subquery of the first two.
 */
export const roundRobin = (due: SQL, limit: number) => sql`
  (select client_id, id from (
    select client_id, id, due_at, row_number() over (partition by client_id order by due_at) as turn
    from (${due} limit ${sql.raw(String(maxRowsRead))}) looked
  ) ranked order by turn, due_at limit ${sql.raw(String(limit))})`;
