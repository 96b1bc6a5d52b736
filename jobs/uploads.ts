import { sql } from "drizzle-orm";
import type { Tx } from "../db/client.ts";
import { isSetApart } from "../routers/set-apart/service.ts";
import { eachOrApart } from "./runtime/set-apart.ts";
import { roundRobin } from "./runtime/sweep.ts";
import type { JobContext, Task } from "./runtime/task.ts";

const loop = "uploads.clean";

const budgetMs = 50_000;
const batchSize = 100;
/** Longer than any transaction that may still use an upload, and than any link that was signed in its last minute. */
const grace = sql`interval '1 hour'`;

type Stale = { clientId: string; id: string; key: string };

/**
 * The stale upload cleaner. The object is removed first: a crash in between leaves the row, and the next run removes the
 * missing object again without error. An object that storage refuses to remove is set apart, and the others are removed.
 */
export const clean: Task<"uploads.clean"> = {
  async run(_, ctx) {
    const until = performance.now() + budgetMs;
    while (performance.now() < until && !ctx.signal.aborted) {
      const rows = await ctx.asSystem(listStale, { mode: "read" });
      await eachOrApart(ctx, {
        loop,
        rows,
        subjectOf: ({ id, clientId }) => ({ id, clientId }),
        work: (some) => removeStale(ctx, some),
      });
      if (rows.length < batchSize) return;
    }
  },
};

const listStale = (tx: Tx) =>
  tx.execute<Stale>(sql`
    select u.client_id as "clientId", u.id, u.object_key as key from ${roundRobin(
      sql`select client_id, id, expires_at as due_at from uploads
        where status in ('pending', 'verified') and expires_at < now() - ${grace} and not ${isSetApart(loop, sql`uploads.id`)}
        order by expires_at`,
      batchSize,
    )} first join uploads u on u.client_id = first.client_id and u.id = first.id`);

async function removeStale(ctx: JobContext, some: readonly Stale[]) {
  ctx.fence.check();
  const keys = some.map(({ key }) => key);
  await ctx.providers.files.remove(keys, deadline(ctx.signal));
  const ids = JSON.stringify(some.map(({ clientId, id }) => ({ clientId, id })));
  await ctx.asSystem((tx) =>
    tx.execute(sql`
      update uploads u set status = 'gone' from json_to_recordset(${ids}::text::json) as s("clientId" text, id text)
      where u.client_id = s."clientId" and u.id = s.id and u.status in ('pending', 'verified')`),
  );
}

/** Removes deleted files from storage. A key of another client is a bug, and removes nothing. */
export const remove: Task<"files.remove"> = {
  async run({ keys }, ctx) {
    const foreign = keys.find((key) => !key.startsWith(`${ctx.clientId}/`));
    if (foreign) throw new Error(`The file ${foreign} does not belong to ${ctx.clientId}.`);
    ctx.fence.check();
    await ctx.providers.files.remove(keys, deadline(ctx.signal));
  },
};

const deadline = (signal: AbortSignal) => ({ signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]) });
