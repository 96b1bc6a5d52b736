import { sql } from "drizzle-orm";
import type { Task } from "./runtime/task.ts";

const runForMs = 50_000;
const atOnce = 100;
/** Longer than any transaction that may still be using one, and than any link that was signed in its last minute. */
const grace = sql`interval '1 hour'`;

/**
 * The stale upload cleaner. The object goes first: whoever dies in between leaves a row that says so, and the next run
 * removes what is gone already, which is no harm.
 */
export const clean: Task<"uploads.clean"> = {
  async run(_, ctx) {
    const until = performance.now() + runForMs;
    while (performance.now() < until && !ctx.signal.aborted) {
      const stale = await ctx.asSystem(
        (tx) =>
          tx.execute<{ clientId: string; id: string; key: string }>(sql`
            select client_id as "clientId", id, object_key as key from uploads
            where status in ('pending', 'verified') and expires_at < now() - ${grace} order by expires_at limit ${atOnce}`),
        { mode: "read" },
      );
      if (stale.length === 0) return;
      ctx.fence.check();
      await ctx.providers.files.remove(
        stale.map(({ key }) => key),
        deadline(ctx.signal),
      );
      const ids = JSON.stringify(stale.map(({ clientId, id }) => ({ clientId, id })));
      await ctx.asSystem((tx) =>
        tx.execute(sql`
          update uploads u set status = 'gone' from json_to_recordset(${ids}::text::json) as s("clientId" text, id text)
          where u.client_id = s."clientId" and u.id = s.id and u.status in ('pending', 'verified')`),
      );
    }
  },
};

/** Removes from storage what is deleted here already. A key that is not the client's own is a bug, and removes nothing. */
export const remove: Task<"files.remove"> = {
  async run({ keys }, ctx) {
    const foreign = keys.find((key) => !key.startsWith(`${ctx.clientId}/`));
    if (foreign) throw new Error(`${foreign} is not a file of ${ctx.clientId}.`);
    ctx.fence.check();
    await ctx.providers.files.remove(keys, deadline(ctx.signal));
  },
};

const deadline = (signal: AbortSignal) => ({ signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]) });
